"""The codec's figures over frames: of everybody, and of each dataset's and each vendor's people by themselves."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cinesynth.data.packed import PackedDataset
from cinesynth.evaluation.codec import QUANTITIES, FrameScore
from cinesynth.models.codec import Codec
from cinesynth.models.residual_motion import HarmonicCode, ResidualMotion
from cinesynth.training.frames import FrameSampler
from cinesynth.training.latents import LatentSequence as Latents
from cinesynth.training.stages.diffusion import residuals_of
from cinesynth.types import STRUCTURES, UNCONDITIONAL, FloatArray, Label

UNKNOWN = "unknown"
"""The vendor of people of whom no vendor is known."""


@dataclass(frozen=True)
class Figure:
    """One quantity over ``count`` frames; None where nobody has it."""

    name: str
    unit: str
    count: int
    mean: float | None = None
    median: float | None = None
    sd: float | None = None


@dataclass(frozen=True)
class Group:
    """Some people at ED and ES."""

    people: int
    frames: int
    figures: tuple[Figure, ...]

    def to_json(self) -> dict[str, Any]:
        """Figures by their name."""
        figures = {figure.name: asdict(figure) for figure in self.figures}
        return {"people": self.people, "frames": self.frames, "figures": figures}


@dataclass(frozen=True)
class CodecScores:
    """Everybody, and each group; the frames of the datasets add up to all, and so do those of the vendors."""

    all: Group
    datasets: dict[str, Group]
    vendors: dict[str, Group]

    @classmethod
    def of(cls, frames: Sequence[FrameScore]) -> CodecScores:
        """Figures of these frames."""
        return cls(
            group(frames), _by(frames, lambda f: f.dataset or UNKNOWN), _by(frames, lambda f: f.vendor or UNKNOWN)
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        groups = {name: {key: g.to_json() for key, g in vars(self)[name].items()} for name in ("datasets", "vendors")}
        return {"all": self.all.to_json(), **groups}


def group(frames: Sequence[FrameScore]) -> Group:
    """The figures of some frames."""
    figures = tuple(_figure(name, unit, _values(frames, key, place)) for name, unit, key, place in QUANTITIES)
    return Group(len({(f.dataset, f.subject) for f in frames}), len(frames), figures)


def _by(frames: Sequence[FrameScore], key: Callable[[FrameScore], str]) -> dict[str, Group]:
    names = sorted({key(f) for f in frames})
    return {name: group([f for f in frames if key(f) == name]) for name in names}


def _values(frames: Sequence[FrameScore], key: str, structure: int | None) -> list[float]:
    """A quantity of the frames that have it; errors without their sign."""
    if key == "lv_error_percent":
        return [abs(f.lv_error_percent) for f in frames if f.lv_ml > 0]
    if structure is None:
        return [getattr(f, key) for f in frames]
    name = STRUCTURES[structure].name
    return [found[name] for f in frames if name in (found := getattr(f, key))]


def _figure(name: str, unit: str, values: list[float]) -> Figure:
    if not values:
        return Figure(name, unit, 0)
    array = np.array(values)
    return Figure(name, unit, len(array), float(array.mean()), float(np.median(array)), float(array.std()))


# --- What the code of a cycle keeps of real whole cycles, and what it makes of ED and ES alone -----------------------


RANGE_DB = 10.0 * math.log10(4.0)
"""Of intensities in [-1, 1]."""


@dataclass(frozen=True)
class CycleScore:
    """One subject: PSNR of its frames (dB; ED, which is exact by construction, left out), and RMSE of its LV curve
    beside the codec's own curve (% of its EDV)."""

    subject: str
    dataset: str
    frames: int
    psnr_codec: float
    psnr_code: float
    psnr_ends: float
    """From ED and ES alone."""
    rmse_code: float | None
    rmse_ends: float | None
    """None where the mask decoder finds no LV at ED."""


def score_cycles(
    codec: Codec, motion: ResidualMotion, held: PackedDataset, progress: Callable[[int, int], None] | None = None
) -> list[CycleScore]:
    """Every subject of ``held`` that is stored as a whole cycle; none for codes of single frames (the paper's)."""
    if not isinstance(motion.code, HarmonicCode):
        return []
    frames = FrameSampler(held, 0, 1.0)
    whole = [i for i, r in enumerate(held.records) if len(r.phases) == r.frames_in_cycle > motion.code.basis.size]
    scores = []
    for done, subject in enumerate(whole, start=1):
        scores.append(_score(codec, motion, motion.code, frames, subject))
        if progress is not None:
            progress(done, len(whole))
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
    found = {name: _seen(codec, latents[:1] + course, images, ones) for name, course in courses.items()}
    psnr = [decibels for decibels, _ in found.values()]
    rmse = [_rmse_percent(found[name][1], found["codec"][1]) for name in ("code", "ends")]
    return CycleScore(record.subject, record.dataset, len(order), *psnr, *rmse)


def _through(code: HarmonicCode, residuals: Tensor, seen_at: Tensor, phases: Tensor) -> Tensor:
    """Residuals at ``phases`` from those at ``seen_at``, by the code of the cycle."""
    return code.decode(code.encode(residuals, seen_at)[None], phases)[0]


def _seen(codec: Codec, latents: Tensor, images: Tensor, ones: Tensor) -> tuple[float, FloatArray]:
    """PSNR of all frames but ED, and the LV volume (mL) of each, of ``T C x y z`` latents of ``T 1 X Y Z`` images."""
    voxel_ml = float(np.prod(codec.grid.spacing_mm)) / 1000.0
    errors, volumes = [], []
    for latent, image in zip(latents, images, strict=True):
        decoded = codec.decode(latent[None], ones)
        errors.append(float((decoded.image[0].clamp(-1, 1) - image).square().mean()))
        volumes.append(int((codec.labels(decoded.logits, ones) == Label.LV).sum()) * voxel_ml)
    mse = sum(errors[1:]) / (len(errors) - 1)
    return RANGE_DB - 10.0 * math.log10(max(mse, 1e-12)), np.array(volumes, dtype=np.float32)


def _rmse_percent(curve: FloatArray, reference: FloatArray) -> float | None:
    edv = float(reference[0])
    return 100.0 * float(np.sqrt(np.mean((curve - reference) ** 2))) / edv if edv > 0 else None


def summary(scores: Sequence[CycleScore]) -> dict[str, float | int | None]:
    """Means over subjects."""
    names = ("psnr_codec", "psnr_code", "psnr_ends", "rmse_code", "rmse_ends")
    found = {name: [v for s in scores if (v := getattr(s, name)) is not None] for name in names}
    return {"people": len(scores), **{k: float(np.mean(v)) if v else None for k, v in found.items()}}
