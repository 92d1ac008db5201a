"""`vae-latent`: a heart in the latent space of the autoencoder (codec) of a weights folder."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from cinesynth.config import parse_config
from cinesynth.data.geometry import Grid, crop_pad, slice_mask
from cinesynth.evaluation.cases import Case
from cinesynth.evaluation.features.randconv import mean_and_sd, one_thread
from cinesynth.evaluation.measure import Measurer
from cinesynth.memorisation.thumbnails import centre_of, slices_at
from cinesynth.models.build import build_codec
from cinesynth.models.codec import Codec
from cinesynth.weights.folder import load_stage, stage_info

HEIGHTS = (0.1, 0.3, 0.5, 0.7, 0.9)
"""Heights of the left ventricle whose ED latents are kept as they are."""


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
        info = stage_info(Path(folder), "vae")
        config = parse_config(info["config"])
        return cls(Path(folder), info["sha256"], Grid.from_config(config.grid), config.vae.latent_channels)

    def misfit(self, grid: Grid) -> str:
        """Why hearts on ``grid`` cannot be encoded, empty if they can. Their number of slices may differ."""
        if grid.size[:2] == self.grid.size[:2] and np.allclose(grid.spacing_mm, self.grid.spacing_mm):
            return ""
        return f"the hearts lie on {_words(grid)}, the codec of {self.folder} works on {_words(self.grid)}"

    def measurer(self) -> Measurer:
        """``frames``: ``2 2C``, mean and SD of each channel over acquired slices at ED and ES; ``places``: the ED
        latent of the heart, centred in the field of view, ``5 C x y``. NaN where the codec cannot encode the heart."""
        return Measurer("vae-latent", f"1 {self.identity}", self._measure)

    def _measure(self, case: Case) -> dict[str, NDArray[np.float32]]:
        with one_thread():
            codec = _codec(self.folder)
            x, y, depth = codec.latent_size
            shape = Grid((*case.image.shape[1:3], depth), case.spacing_mm)
            if self.misfit(shape) or case.image.shape[3] > depth:
                empty = np.full((len(HEIGHTS), self.channels, x, y), np.nan, dtype=np.float32)
                return {"frames": np.full((2, 2 * self.channels), np.nan, dtype=np.float32), "places": empty}
            frames = [mean_and_sd(_encode(codec, case.intensity[t])) for t in (case.ed, case.es)]
            return {"frames": np.stack(frames), "places": _places(codec, case)}


def _places(codec: Codec, case: Case) -> NDArray[np.float32]:
    label = case.label[case.ed]
    image, size = case.intensity[case.ed], label.shape[:2]
    x, y = (round(c - (n - 1) / 2) for c, n in zip(centre_of(label), size, strict=True))
    latent = _encode(codec, crop_pad(image, (x, y, 0), (*size, image.shape[2]), fill=-1.0))
    return np.moveaxis(latent.numpy()[..., slices_at(label, HEIGHTS)], -1, 0)


def _encode(codec: Codec, volume: NDArray[np.float32]) -> torch.Tensor:
    """Latent ``C x y Z`` of the acquired slices ``X Y Z``."""
    mask = slice_mask(volume.shape[2], codec.grid.size[2])
    whole = np.full((*volume.shape[:2], len(mask)), -1.0, dtype=np.float32)
    whole[..., mask] = volume
    latent = codec.encode(torch.from_numpy(whole)[None, None], torch.from_numpy(mask)[None])
    return latent[0][..., torch.from_numpy(mask)]


@lru_cache(maxsize=1)
def _codec(folder: Path) -> Codec:
    """Loaded once in each process that uses it."""
    codec = build_codec(parse_config(stage_info(folder, "vae")["config"]))
    load_stage(folder, "vae", codec)
    return codec.eval().requires_grad_(False)


def _words(grid: Grid) -> str:
    (x, y, _), (a, b, c) = grid.size, grid.spacing_mm
    return f"{x} x {y} voxels of {a:g} x {b:g} x {c:g} mm"
