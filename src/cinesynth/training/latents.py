"""Cached latents: every frame of every subject seen once through the frozen codec, with measured volumes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from cinesynth.models.codec import Codec
from cinesynth.models.weights import read_tensors, write_tensors
from cinesynth.training.augment import View, draw_copy, look
from cinesynth.training.frames import Frames
from cinesynth.training.pieces import Clock, OutOfTime
from cinesynth.training.streams import stream
from cinesynth.types import ClinicalPrior, Diagnosis, Label

MAX_FRAMES = 12
"""Frames kept of a whole cycle: six harmonics are drawn by twelve."""
AMPLITUDES = (0.3, 1.2)
"""How far the copies of a moving heart move, of its own motion. On the straight line from ED to ES latents decode to
whole hearts in between, not to cross-fades (docs/decisions/0010-the-same-heart-another-ef.md)."""


@dataclass(frozen=True)
class Sequence:
    """The latents of one subject, or of an affine copy: ED first."""

    subject: int
    latents: Tensor  # T C x y z, unit scale
    frames: list[int]  # T, positions among the subject's stored frames
    phases: Tensor  # T, phase 0 first
    slice_mask: Tensor  # Z
    prior: ClinicalPrior  # volumes as the mask decoder measures them


def kept_frames(frames: Frames, subject: int) -> list[int]:
    """ED, ES and evenly spread others, ED first."""
    record = frames.record(subject)
    others = [i for i in range(len(record.phases)) if i not in (record.ed, record.es)]
    room = MAX_FRAMES - 2
    if len(others) > room:
        others = [others[int(i * len(others) / room)] for i in range(room)]
    return [record.ed, *sorted([record.es, *others], key=lambda i: float(record.phases[i]))]


@dataclass(frozen=True)
class Wanted:
    """Which sequences: the ED frame alone or all kept frames, and what copies of each."""

    whole_cycle: bool
    affine_copies: int = 0
    amplitude_copies: int = 0  # of the subject and of each of its affine copies

    def __str__(self) -> str:
        return f"{'cycle' if self.whole_cycle else 'ed'}-{self.affine_copies}-{self.amplitude_copies}"


@torch.no_grad()
def encode_sequence(codec: Codec, frames: Frames, subject: int, view: View | None, chosen: list[int]) -> Sequence:
    """Encode the chosen frames of a subject (ED first, ES among them or not), through a view if there is one."""
    record = frames.record(subject)
    device = codec.latent_mean.device
    mask = frames.mask(subject)
    images = torch.cat([frames.item(subject, frame)["image"] for frame in chosen])  # T X Y Z
    if view is not None:
        images = torch.where(mask, look(images, view), -1.0)
    acquired = images[..., mask].to(device)[:, None]
    ones = torch.ones(1, acquired.shape[-1], dtype=torch.bool, device=device)
    codes = torch.cat([codec.encode(image[None], ones) for image in acquired])
    phases = torch.tensor([float(record.phases[frame]) for frame in chosen], dtype=torch.float64)
    es = chosen.index(record.es) if record.es in chosen else None
    edv, esv = (_volume_ml(codec, codes[i], ones) if i is not None else None for i in (0, es))
    if es is None:
        esv = _scaled_esv(record.lv_edv_ml, record.lv_esv_ml, edv)
    full = torch.zeros(*codes.shape[:-1], len(mask))
    full[..., mask] = codes.cpu()
    return Sequence(subject, full, chosen, phases, mask, _prior(record.diagnosis, edv, esv, record.slices))


def amplified(sequence: Sequence, amplitude: float, esv_ml: float | None) -> Sequence:
    """The same heart moving ``amplitude`` times as far, with the ESV that it then has."""
    ed = sequence.latents[:1]
    prior = _prior(sequence.prior.diagnosis, sequence.prior.lv_edv_ml, esv_ml, int(sequence.slice_mask.sum()))
    return replace(sequence, latents=ed + amplitude * (sequence.latents - ed), prior=prior)


def draw_amplitudes(seed: int, subject: str, copy: int, count: int) -> list[float]:
    """``count`` amplitudes, one in each equal part of their range."""
    low, high = AMPLITUDES
    uniforms = torch.rand(count, generator=stream(seed, "amplitude", subject, copy), dtype=torch.float64).tolist()
    return [low + (high - low) * (index + u) / count for index, u in enumerate(uniforms)]


def _scaled_esv(edv_ml: float | None, esv_ml: float | None, copy_edv_ml: float | None) -> float | None:
    """The ESV of a copy that keeps its EF."""
    if edv_ml is None or esv_ml is None or copy_edv_ml is None or edv_ml <= 0:
        return None
    return copy_edv_ml * esv_ml / edv_ml


def _volume_ml(codec: Codec, latent: Tensor, ones: Tensor) -> float:
    """LV volume of the hard masks of one latent ``C x y z``."""
    label = codec.decode(latent[None], ones).logits.argmax(dim=1)
    voxel_ml = float(torch.tensor(codec.grid.spacing_mm, dtype=torch.float64).prod()) / 1000.0
    return float((label == Label.LV).sum()) * voxel_ml


def _prior(diagnosis: Diagnosis, edv_ml: float | None, esv_ml: float | None, slices: int) -> ClinicalPrior:
    """A prior from measurements: one that no heart has is unknown, not a number."""
    if edv_ml is not None and not 20.0 <= edv_ml <= 600.0:
        edv_ml = None
    if edv_ml is None or esv_ml is None or not 0.05 * edv_ml <= esv_ml <= 0.97 * edv_ml:
        esv_ml = None
    return ClinicalPrior(diagnosis, edv_ml, esv_ml, slices)


Progress = Callable[[int, int], None]


def cached_sequences(
    folder: Path,
    codec: Codec,
    frames: Frames,
    subjects: list[int],
    wanted: Wanted,
    progress: Progress | None = None,
    clock: Clock | None = None,
) -> list[Sequence]:
    """The wanted sequences of ``subjects``: one file an encoding in ``folder``, those that are there are kept.

    `OutOfTime` where ``clock`` is over before all are there.
    """
    plan, begun, clock = list(_plan(frames, subjects, wanted)), time.monotonic(), clock or Clock()
    missing = [index for index in range(len(plan)) if not _file(folder, index).is_file()]
    for count, index in enumerate(missing):
        if count and clock.over:  # each call makes one at least
            each = (time.monotonic() - begun) / count
            raise OutOfTime("latents", len(plan) - len(missing) + count, len(plan), each)
        write_tensors(_file(folder, index), _encoded(codec, frames, plan[index]))
        if progress is not None:
            progress(len(plan) - len(missing) + count + 1, len(plan))
    return [s for index, item in enumerate(plan) for s in _unpack(read_tensors(_file(folder, index)), frames, item)]


def _file(folder: Path, index: int) -> Path:
    return folder / f"{index:05d}.safetensors"


def _encoded(codec: Codec, frames: Frames, item: _Item) -> dict[str, Tensor]:
    """Latents ``T C x y z`` and volumes in mL (EDV, ESV, ESV of each amplitude; NaN: unknown) of one encoding."""
    sequence = encode_sequence(codec, frames, item.subject, item.view, item.chosen)
    volumes = [sequence.prior.lv_edv_ml, sequence.prior.lv_esv_ml]
    volumes += [_amplified_esv_ml(codec, frames, sequence, amplitude) for amplitude in item.amplitudes]
    known = torch.tensor([float("nan") if v is None else v for v in volumes])
    return {"latents": sequence.latents, "volumes_ml": known}


@dataclass(frozen=True)
class _Item:
    """One encoding: a subject seen through a view, and the amplitudes that are made of it."""

    subject: int
    view: View | None
    chosen: list[int]
    amplitudes: list[float]


def _plan(frames: Frames, subjects: list[int], wanted: Wanted) -> Iterator[_Item]:
    size, spacing_mm = frames.data.grid.size[:2], frames.data.grid.spacing_mm[:2]
    for subject in subjects:
        chosen = kept_frames(frames, subject) if wanted.whole_cycle else [frames.record(subject).ed]
        name = frames.record(subject).subject
        for copy in range(wanted.affine_copies + 1):
            view = draw_copy(stream(frames.seed, "copy", name, copy), size, spacing_mm) if copy else None
            yield _Item(subject, view, chosen, draw_amplitudes(frames.seed, name, copy, wanted.amplitude_copies))


@torch.no_grad()
def _amplified_esv_ml(codec: Codec, frames: Frames, sequence: Sequence, amplitude: float) -> float:
    es = amplified(sequence, amplitude, None).latents[sequence.frames.index(frames.record(sequence.subject).es)]
    acquired = es[..., sequence.slice_mask].to(codec.latent_mean.device)
    ones = torch.ones(1, acquired.shape[-1], dtype=torch.bool, device=acquired.device)
    return _volume_ml(codec, acquired, ones)


def _unpack(tensors: dict[str, Tensor], frames: Frames, item: _Item) -> Iterator[Sequence]:
    record = frames.record(item.subject)
    edv, esv, *others = (None if v != v else v for v in tensors["volumes_ml"].tolist())
    phases = torch.tensor([float(record.phases[frame]) for frame in item.chosen], dtype=torch.float64)
    prior = _prior(record.diagnosis, edv, esv, record.slices)
    mask = frames.mask(item.subject)
    sequence = Sequence(item.subject, tensors["latents"], item.chosen, phases, mask, prior)
    yield sequence
    for amplitude, esv_ml in zip(item.amplitudes, others, strict=True):
        yield amplified(sequence, amplitude, esv_ml)
