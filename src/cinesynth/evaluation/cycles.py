"""What the code of a cycle keeps of real whole cycles, and what it makes of ED and ES alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cinesynth.data.packed import PackedDataset
from cinesynth.io.tasks import ProgressCallback, no_progress
from cinesynth.models.codec import Codec
from cinesynth.models.residual_motion import HarmonicCode, ResidualMotion
from cinesynth.training.frames import FrameSampler
from cinesynth.training.latents import LatentSequence as Latents
from cinesynth.training.stages.diffusion import residuals_of
from cinesynth.types import UNCONDITIONAL, FloatArray, Label


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


def score_cycles(
    codec: Codec, motion: ResidualMotion, held: PackedDataset, progress: ProgressCallback = no_progress
) -> list[CycleScore]:
    """Every subject of ``held`` that is stored as a whole cycle; none if the code is of single frames (the paper's)."""
    if not isinstance(motion.code, HarmonicCode):
        return []
    frames = FrameSampler(held, 0, 1.0)
    whole = [i for i, r in enumerate(held.records) if len(r.phases) == r.frames_in_cycle > motion.code.basis.size]
    scores = []
    for done, subject in enumerate(whole, start=1):
        scores.append(_score(codec, motion, motion.code, frames, subject))
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
    residuals = residuals_of(motion, Latents(subject, latents, order, phases, ones[0], UNCONDITIONAL))
    ends = [0, order.index(record.es)]
    courses = {
        "codec": latents - latents[:1],
        "code": _through(code, residuals, phases, phases),
        "ends": _through(code, residuals[ends], phases[ends], phases),
    }
    decoded = {name: _decoded(codec, latents[:1] + course, images, ones) for name, course in courses.items()}
    psnr = [decibels for decibels, _ in decoded.values()]
    rmse = [_rmse_percent(decoded[name][1], decoded["codec"][1]) for name in ("code", "ends")]
    return CycleScore(record.subject, record.dataset, len(order), *psnr, *rmse)


def _through(code: HarmonicCode, residuals: Tensor, known_at: Tensor, phases: Tensor) -> Tensor:
    """Residuals at ``phases`` from those at ``known_at``, through the code of the cycle."""
    return code.decode(code.encode(residuals, known_at)[None], phases)[0]


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


def _rmse_percent(curve: FloatArray, reference: FloatArray) -> float | None:
    edv = float(reference[0])
    return 100.0 * float(np.sqrt(np.mean((curve - reference) ** 2))) / edv if edv > 0 else None


def summary(scores: Sequence[CycleScore]) -> dict[str, float | int | None]:
    """Means over subjects."""
    names = ("psnr_codec", "psnr_code", "psnr_ends", "rmse_code", "rmse_ends")
    values = {name: [v for s in scores if (v := getattr(s, name)) is not None] for name in names}
    return {"subjects": len(scores), **{k: float(np.mean(v)) if v else None for k, v in values.items()}}
