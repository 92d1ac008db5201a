"""The autoencoder (codec) of a weights folder on real hearts: section "Reconstruction", and the features `vae-latent`.

No generated heart can be better than what the codec makes of a real one.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from cinesynth.config import parse_config
from cinesynth.data.geometry import Grid, crop_pad, slice_mask
from cinesynth.data.normalisation import from_uint8
from cinesynth.errors import InputError
from cinesynth.evaluation.cases import Case, grid_in_words
from cinesynth.evaluation.comparison import mean_of_frames
from cinesynth.evaluation.measure import Measured, Measurer
from cinesynth.evaluation.networks import mean_and_sd
from cinesynth.evaluation.reconstruction import QUANTITIES, score_image
from cinesynth.evaluation.section import Measurements, Section, SectionSpec, Table
from cinesynth.evaluation.statistics import known
from cinesynth.memorisation.thumbnails import HEIGHTS, centre_of, slices_at
from cinesynth.models.build import build_codec
from cinesynth.models.codec import Codec
from cinesynth.models.texture import Texture
from cinesynth.models.threads import one_thread
from cinesynth.types import STRUCTURES, FloatArray
from cinesynth.weights.folder import TEXTURE, has_texture, load_stage, load_texture, stage_info
from cinesynth.weights.registry import find_bundle

TITLE = "Reconstruction"
NAME = "codec"
STAGE = "vae"
IMAGES = ("psnr_db", "ssim", "sharpness_db", "textured_psnr_db", "textured_ssim")
"""Fields of `FrameScore` that the image alone decides."""


@lru_cache(maxsize=2)
def _codec(folder: Path, sha256: str) -> Codec:
    codec = build_codec(parse_config(stage_info(folder, STAGE)["config"]))
    load_stage(folder, STAGE, codec)
    return codec.eval().requires_grad_(False)


@lru_cache(maxsize=2)
def _texture(folder: Path, _sha256: str) -> Texture | None:
    return load_texture(folder) if has_texture(folder) else None


# --- The section of the report ---------------------------------------------------------------------------------------


def section_spec(weights: Path | None) -> SectionSpec:
    """The autoencoder of a weights folder (or of shipped weights by name) on real hearts. `WeightsError` if there is
    none."""
    folder = find_bundle(weights)
    sha256 = str(stage_info(folder, STAGE)["sha256"])
    identity = f"3 {sha256}" + (f" {stage_info(folder, TEXTURE)['sha256']}" if has_texture(folder) else "")
    measurer = Measurer(NAME, identity, partial(measure_codec, folder, sha256))
    return SectionSpec(TITLE, (measurer,), partial(_evaluate, sha256))


def measure_codec(folder: Path, sha256: str, case: Case) -> dict[str, NDArray[np.float32]]:
    """At ED and ES: PSNR, SSIM, LV volume error (``2``), Dice and HD95 (``2 S``); NaN for generated hearts, which are
    already decoded. `InputError` if the heart is not on the codec's grid."""
    values = {key: np.full(2, np.nan, np.float32) for key in (*IMAGES, "lv_error_percent")}
    values |= {key: np.full((2, len(STRUCTURES)), np.nan, np.float32) for key in ("dice", "hd95_mm")}
    if case.requested is not None:
        return values
    codec, texture = _codec(folder, sha256), _texture(folder, sha256)
    if not np.allclose(codec.grid.spacing_mm, case.spacing_mm):
        raise InputError(
            f"the codec of {folder} works at {codec.grid.spacing_mm} mm, the hearts are at {case.spacing_mm} mm",
            hint="pass the weights that generated the cohort",
        )
    everywhere = np.ones(case.image.shape[-1], dtype=np.bool_)
    for p, t in enumerate((case.ed, case.es)):
        about = {"subject": case.name, "phase": ""}
        image, label, coverage = from_uint8(case.image[t]), case.label[t], case.coverage[t]
        score = score_image(codec, image, everywhere, label, coverage, case.spacing_mm, texture, **about)
        for key in IMAGES:
            values[key][p] = getattr(score, key)
        if score.lv_ml > 0:
            values["lv_error_percent"][p] = score.lv_error_percent
        for key, found in (("dice", score.dice), ("hd95_mm", score.hd95_mm)):
            values[key][p] = [found.get(structure.name, np.nan) for structure in STRUCTURES]
    return values


def _evaluate(sha256: str, measurements: Measurements) -> Section:
    metrics, rows = [], []
    for name, unit, key, place in QUANTITIES:
        sets = [_values(measured, key, place) for measured in (measurements.held_out, measurements.train)]
        missing, detail = "not annotated in any held-out subject", "frames at ED and ES"
        if key.startswith("textured") and not any(len(known(values)) for values in sets):
            continue  # these weights add none
        metrics.append(mean_of_frames(name, sets[0], missing, unit=unit, detail=detail))
        rows.append((name, unit, *map(_summary, sets)))
    question = "How good can a generated heart be at best: what is lost when real hearts are only encoded and decoded?"
    tables = [Table("Mean / median / SD (frames)", ("", "unit", "held out", "train"), rows)]
    note = f"Weights of the codec: {sha256[:12]}. ED and ES of each subject, acquired slices. Not judged: it is the "
    note += "upper bound for the models behind the codec."
    return Section(TITLE, question, metrics, tables, notes=(note,))


def _values(measured: Measured, key: str, structure: int | None) -> NDArray[np.float64]:
    """A quantity of each heart at ED and ES, ``N 2``; errors without their sign."""
    array = measured[f"{NAME}.{key}"]
    chosen = array if structure is None else array[..., structure]
    return np.abs(chosen) if key == "lv_error_percent" else chosen.astype(np.float64)


def _summary(values: NDArray[np.float64]) -> str:
    v = known(values)
    return f"{v.mean():.3g} / {np.median(v):.3g} / {v.std():.2g} ({len(v)})" if len(v) else "-"


# --- Features in the latent space ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LatentExtractor:
    """The codec of ``folder`` as a measurer; ``identity`` is the hash of its weights."""

    folder: Path
    identity: str
    grid: Grid
    channels: int

    @classmethod
    def of(cls, folder: Path) -> LatentExtractor:
        """The codec of a weights folder; `WeightsError` where there is none. Nothing is loaded yet."""
        info = stage_info(Path(folder), STAGE)
        config = parse_config(info["config"])
        return cls(Path(folder), info["sha256"], Grid.from_config(config.grid), config.vae.latent_channels)

    def misfit(self, grid: Grid) -> str:
        """Why hearts on ``grid`` cannot be encoded, empty if they can. Their number of slices may differ."""
        if grid.size[:2] == self.grid.size[:2] and np.allclose(grid.spacing_mm, self.grid.spacing_mm):
            return ""
        own = grid_in_words(self.grid)
        return f"the hearts lie on {grid_in_words(grid)}, the codec of {self.folder} works on {own}"

    def measurer(self) -> Measurer:
        """``frames``: ``2 2C``, mean and SD of each channel over acquired slices at ED and ES; ``places``: the ED
        latent of the heart, centred in the field of view, ``5 C x y``. NaN where the codec cannot encode the heart."""
        return Measurer("vae-latent", f"1 {self.identity}", self._measure)

    def _measure(self, case: Case) -> dict[str, NDArray[np.float32]]:
        with one_thread(), torch.inference_mode():
            codec = _codec(self.folder, self.identity)
            x, y, depth = codec.latent_size
            shape = Grid((*case.image.shape[1:3], depth), case.spacing_mm)
            if self.misfit(shape) or case.image.shape[3] > depth:
                empty = np.full((len(HEIGHTS), self.channels, x, y), np.nan, dtype=np.float32)
                return {"frames": np.full((2, 2 * self.channels), np.nan, dtype=np.float32), "places": empty}
            frames = [mean_and_sd(_encode(codec, from_uint8(case.image[t]))) for t in (case.ed, case.es)]
            image, label = from_uint8(case.image[case.ed]), case.label[case.ed]
            x, y = (round(c - (n - 1) / 2) for c, n in zip(centre_of(label), label.shape[:2], strict=True))
            centred = _encode(codec, crop_pad(image, (x, y, 0), image.shape, fill=-1.0)).numpy()
            return {"frames": np.stack(frames), "places": np.moveaxis(centred[..., slices_at(label, HEIGHTS)], -1, 0)}


def _encode(codec: Codec, volume: FloatArray) -> torch.Tensor:
    """Latent ``C x y Z`` of the acquired slices ``X Y Z``."""
    mask = slice_mask(volume.shape[2], codec.grid.size[2])
    whole = np.full((*volume.shape[:2], len(mask)), -1.0, dtype=np.float32)
    whole[..., mask] = volume
    latent = codec.encode(torch.from_numpy(whole)[None, None], torch.from_numpy(mask)[None])
    return latent[0][..., torch.from_numpy(mask)]
