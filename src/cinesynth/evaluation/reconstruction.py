"""What encoding and decoding alone keeps of held-out subjects: of frames, and of whole cycles in their code."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor

from cinesynth.data.geometry import slice_mask
from cinesynth.data.normalisation import from_uint8
from cinesynth.data.packed import PackedDataset
from cinesynth.evaluation.agreement import overlap
from cinesynth.io.tasks import ProgressCallback, no_progress, ordered_map
from cinesynth.models.codec import Codec
from cinesynth.models.residual_motion import HarmonicCode, ResidualMotion
from cinesynth.models.texture import Texture
from cinesynth.training.frames import FrameSampler
from cinesynth.training.latents import LatentSequence
from cinesynth.training.losses import sharpness_db
from cinesynth.training.stages.diffusion import residuals_of
from cinesynth.types import STRUCTURES, UNCONDITIONAL, BoolArray, FloatArray, Label, LabelArray, covered_label

_FROM_LV = tuple(reversed(tuple(enumerate(STRUCTURES))))
QUANTITIES: tuple[tuple[str, str, str, int | None], ...] = (
    ("PSNR", "dB", "psnr_db", None),
    ("SSIM", "", "ssim", None),
    *((f"Dice {s.name}", "", "dice", i) for i, s in _FROM_LV),
    *((f"HD95 {s.name}", "mm", "hd95_mm", i) for i, s in _FROM_LV),
    ("LV volume |error|", "%", "lv_error_percent", None),
    ("sharpness", "dB", "sharpness_db", None),
    ("PSNR with texture", "dB", "textured_psnr_db", None),
    ("SSIM with texture", "", "textured_ssim", None),
)
"""Name, unit, field of `FrameScore`, and position in `STRUCTURES`."""


# --- Frames ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FrameScore:
    """One reconstructed frame: PSNR (dB) and SSIM, Dice and HD95 (mm) of each annotated structure, LV volumes (mL).

    Sharpness is power above half of Nyquist, relative to the real frame's (dB), with texture where the weights add it;
    so are the last two, which are NaN where they do not.
    """

    subject: str
    phase: str
    psnr_db: float
    ssim: float
    dice: dict[str, float]
    hd95_mm: dict[str, float]
    lv_ml: float
    lv_reconstructed_ml: float
    sharpness_db: float
    textured_psnr_db: float
    textured_ssim: float
    dataset: str = ""
    vendor: str = ""

    @property
    def lv_error_percent(self) -> float:
        """Relative error of the LV volume."""
        return 100.0 * (self.lv_reconstructed_ml / self.lv_ml - 1.0)


def score_codec(
    codec: Codec,
    data: PackedDataset,
    progress: ProgressCallback = no_progress,
    workers: int | None = None,
    texture: Texture | None = None,
) -> list[FrameScore]:
    """Encode and decode the labelled ED and ES frames of every subject of ``data``."""
    frames = [
        (i, t, phase)
        for i, record in enumerate(data.records)
        for phase, t in (("ED", record.ed), ("ES", record.es))
        if record.labelled[t]
    ]
    scores = []
    with closing(ordered_map(partial(_score_listed, codec, data, texture), frames, workers)) as scored:
        for done, score in enumerate(scored, start=1):
            scores.append(score)
            progress("codec", done, len(frames), {})
    return scores


def _score_listed(
    codec: Codec, data: PackedDataset, texture: Texture | None, frame: tuple[int, int, str]
) -> FrameScore:
    return score_frame(codec, data, *frame, texture)


def score_frame(
    codec: Codec, data: PackedDataset, subject: int, frame: int, phase: str, texture: Texture | None = None
) -> FrameScore:
    """Scores of one frame in its acquired slices."""
    record = data.records[subject]
    acquired = slice_mask(record.slices, data.grid.size[2])
    image, truth = from_uint8(data.image(subject, frame)), data.label(subject, frame)[..., acquired]
    coverage = record.coverage[frame, acquired]
    about = {"subject": record.subject, "phase": phase, "dataset": record.dataset, "vendor": record.vendor}
    if codec.config.norm == "layer":  # the slices that were not acquired change no other
        image, acquired = image[..., acquired], acquired[acquired]
    return score_image(codec, image, acquired, truth, coverage, data.grid.spacing_mm, texture, **about)


@torch.inference_mode()
def score_image(
    codec: Codec,
    image: FloatArray,
    acquired: BoolArray,
    truth: LabelArray,
    coverage: BoolArray,
    spacing_mm: tuple[float, float, float],
    texture: Texture | None = None,
    **about: str,
) -> FrameScore:
    """Scores of an image ``X Y Z`` in [-1, 1]; ``truth`` (``X Y Z``) and ``coverage`` are of its acquired slices."""
    mask = torch.from_numpy(acquired)[None]
    decoded = codec.decode(codec.encode(torch.from_numpy(np.ascontiguousarray(image))[None, None], mask), mask)
    label = covered_label(codec.labels(decoded.logits, mask)[0][..., acquired][None], coverage[None])
    real, made = image[..., acquired], decoded.image[0, 0].clamp(-1, 1).float().numpy()[..., acquired]
    shown = made if texture is None else _textured(texture, made, about.get("vendor"))
    agreement = overlap(label, truth[None], coverage[None], spacing_mm)
    dice, hd95_mm = (
        {
            s.name: float(value)
            for s, value in zip(STRUCTURES, values[0].astype(np.float32), strict=True)
            if np.isfinite(value)
        }
        for values in (agreement.dice, agreement.hd95_mm)
    )
    voxel_ml = float(np.prod(spacing_mm)) / 1000.0
    return FrameScore(
        psnr_db=_psnr(real, made),
        ssim=mean_ssim(real, made),
        dice=dice,
        hd95_mm=hd95_mm,
        lv_ml=float((truth == Label.LV).sum() * voxel_ml),
        lv_reconstructed_ml=float((label == Label.LV).sum() * voxel_ml),
        sharpness_db=sharpness_db(*(torch.from_numpy(np.moveaxis(x, 2, 0)[:, None].copy()) for x in (shown, real))),
        textured_psnr_db=math.nan if texture is None else _psnr(real, shown),
        textured_ssim=math.nan if texture is None else mean_ssim(real, shown),
        **about,
    )


def _textured(texture: Texture, image: FloatArray, vendor: str | None) -> FloatArray:
    """``X Y Z`` in [-1, 1] with the texture of a vendor, if it is known, always from the same noise."""
    batch = torch.from_numpy(np.ascontiguousarray(image))[None, None]
    grain = texture.noise_of(0, [0], image.shape)
    textured: FloatArray = texture(batch, grain, texture.detail_of(vendor))[0, 0].numpy()
    return textured


def _psnr(real: FloatArray, made: FloatArray) -> float:
    return float(peak_signal_noise_ratio(real, made, data_range=2.0))


def mean_ssim(a: FloatArray, b: FloatArray) -> float:
    """SSIM of ``X Y Z`` images in [-1, 1], slice by slice (Wang et al., 2004)."""
    return float(np.mean([structural_similarity(a[..., z], b[..., z], data_range=2.0) for z in range(a.shape[2])]))


def codec_scores(frames: Sequence[FrameScore]) -> dict[str, Any]:
    """Figures of all frames, and of the frames of each dataset and each vendor."""

    def grouped(key: str) -> dict[str, Any]:
        groups: dict[str, list[FrameScore]] = {}
        for frame in frames:
            groups.setdefault(getattr(frame, key) or "unknown", []).append(frame)
        return {name: _figures(groups[name]) for name in sorted(groups)}

    return {"all": _figures(frames), "datasets": grouped("dataset"), "vendors": grouped("vendor")}


def _figures(frames: Sequence[FrameScore]) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    for name, unit, key, place in QUANTITIES:
        if key == "lv_error_percent":
            found = [abs(f.lv_error_percent) for f in frames if f.lv_ml > 0]
        elif place is None:
            found = [value for f in frames if math.isfinite(value := getattr(f, key))]
        else:
            structure = STRUCTURES[place].name
            found = [values[structure] for f in frames if structure in (values := getattr(f, key))]
        statistics: dict[str, Callable[..., Any]] = {"mean": np.mean, "median": np.median, "sd": np.std}
        known = {k: float(statistic(np.array(found))) if found else None for k, statistic in statistics.items()}
        figures[name] = {"name": name, "unit": unit, "count": len(found), **known}
    subjects = len({(f.dataset, f.subject) for f in frames})
    return {"subjects": subjects, "frames": len(frames), "figures": figures}


# --- Whole cycles ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CycleScore:
    """One subject: PSNR (dB) of its frames except ED, which is exact by construction, and RMSE of its LV curve against
    the codec's own curve (% of its EDV)."""

    subject: str
    dataset: str
    frames: int
    psnr_codec: float
    psnr_code: float
    psnr_ends: float
    """From ED and ES alone."""
    rmse_code: float | None
    rmse_ends: float | None
    """Both None where the decoded mask has no LV at ED."""


CYCLE_FIGURES = ("psnr_codec", "psnr_code", "psnr_ends", "rmse_code", "rmse_ends")


def score_cycles(
    codec: Codec,
    motion: ResidualMotion,
    held: PackedDataset,
    progress: ProgressCallback = no_progress,
    workers: int | None = None,
) -> list[CycleScore]:
    """Every subject of ``held`` that is stored as a whole cycle; none if the code is of single frames (the paper's)."""
    if not isinstance(motion.code, HarmonicCode):
        return []
    frames = FrameSampler(held, 0, 1.0)
    whole = [i for i, r in enumerate(held.records) if len(r.phases) == r.frames_in_cycle > motion.code.basis.size]
    scores = []
    with closing(ordered_map(partial(_score, codec, motion, motion.code, frames), whole, workers)) as scored:
        for done, score in enumerate(scored, start=1):
            scores.append(score)
            progress("cycles", done, len(whole), {})
    return scores


@torch.inference_mode()
def _score(codec: Codec, motion: ResidualMotion, code: HarmonicCode, frames: FrameSampler, subject: int) -> CycleScore:
    record = frames.record(subject)
    order = [record.ed, *(int(i) for i in np.argsort(record.phases, kind="stable") if i != record.ed)]
    mask = frames.mask(subject)
    images = torch.cat([frames.item(subject, i)["image"] for i in order])[:, None, ..., mask]  # T 1 X Y Z
    ones = torch.ones(1, images.shape[-1], dtype=torch.bool)
    latents = torch.cat([codec.encode(image[None], ones) for image in images])
    phases = torch.tensor([float(record.phases[i]) for i in order], dtype=torch.float64)
    residuals = residuals_of(motion, LatentSequence(subject, latents, order, phases, ones[0], UNCONDITIONAL))
    ends = [0, order.index(record.es)]

    def through_code(residuals: Tensor, known_at: Tensor) -> Tensor:
        """Residuals at all phases from those at ``known_at``."""
        return code.decode(code.encode(residuals, known_at)[None], phases)[0]

    courses = latents - latents[:1], through_code(residuals, phases), through_code(residuals[ends], phases[ends])
    decoded = [_decoded(codec, latents[:1] + course, images, ones) for course in courses]
    psnr, (own, *others) = zip(*decoded, strict=True)
    errors = [float(np.sqrt(np.mean((curve - own) ** 2))) for curve in others]
    rmse_percent = [100.0 * error / float(own[0]) if own[0] > 0 else None for error in errors]
    return CycleScore(record.subject, record.dataset, len(order), *psnr, *rmse_percent)


def _decoded(codec: Codec, latents: Tensor, images: Tensor, ones: Tensor) -> tuple[float, FloatArray]:
    """PSNR of all frames but ED, and the LV volume (mL) of each, of ``T C x y z`` latents of ``T 1 X Y Z`` images."""
    voxel_ml = float(np.prod(codec.grid.spacing_mm)) / 1000.0
    errors, volumes = [], []
    for latent, image in zip(latents, images, strict=True):
        decoded = codec.decode(latent[None], ones)
        errors.append(float((decoded.image[0].clamp(-1, 1) - image).square().mean()))
        volumes.append(int((codec.labels(decoded.logits, ones) == Label.LV).sum()) * voxel_ml)
    mse = sum(errors[1:]) / (len(errors) - 1)
    # PSNR of intensities in [-1, 1], a range of 2
    return 10.0 * math.log10(4.0) - 10.0 * math.log10(max(mse, 1e-12)), np.array(volumes, dtype=np.float32)


def summary(scores: Sequence[CycleScore]) -> dict[str, float | int | None]:
    """Means over subjects."""
    values = {name: [v for s in scores if (v := getattr(s, name)) is not None] for name in CYCLE_FIGURES}
    return {"subjects": len(scores), **{k: float(np.mean(v)) if v else None for k, v in values.items()}}
