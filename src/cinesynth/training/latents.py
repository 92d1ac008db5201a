"""Cached latents: frames encoded once with the frozen codec, with the volumes of their decoded masks."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from cinesynth.data.subject_prior import Volumes, measured_prior, plausible_volumes
from cinesynth.io.reproducibility import stream
from cinesynth.io.tasks import ProgressCallback, no_progress
from cinesynth.models.codec import Codec
from cinesynth.physiology import MYO_G_PER_ML
from cinesynth.training.augment import View, draw_copy, look
from cinesynth.training.frames import FrameSampler, decoded_volumes
from cinesynth.training.stages import Deadline, TimeLimitReached
from cinesynth.types import UNCONDITIONAL, ClinicalPrior, Phases, Trajectory
from cinesynth.weights.folder import read_tensors, write_tensors

MAX_FRAMES = 12
"""Frames kept of a whole cycle: enough for six harmonics, twice what the presets use."""
AMPLITUDES = (0.3, 1.2)
"""Range of the motion of amplitude copies, relative to the heart's own. Latents on the straight line from ED to ES
decode to whole hearts, not to cross-fades (docs/decisions/0010-the-same-heart-another-ef.md)."""


@dataclass(frozen=True)
class LatentSequence:
    """The latents of one subject, or of an affine copy: ED first."""

    subject: int
    latents: Trajectory  # unit scale
    frames: list[int]  # T, positions among the subject's stored frames
    phases: Phases  # 0 first
    slice_mask: Tensor  # Z
    prior: ClinicalPrior  # volumes as the mask decoder measures them


def kept_frames(frames: FrameSampler, subject: int) -> list[int]:
    """Positions of the frames of a subject that are encoded: ED first, ES, and others evenly spread over the cycle."""
    record = frames.record(subject)
    others = [i for i in range(len(record.phases)) if i not in (record.ed, record.es)]
    room = MAX_FRAMES - 2
    if len(others) > room:
        others = [others[int(i * len(others) / room)] for i in range(room)]
    return [record.ed, *sorted([record.es, *others], key=lambda i: float(record.phases[i]))]


@dataclass(frozen=True)
class CacheSpec:
    """Which sequences to encode: the ED frame alone or all kept frames, and how many copies of each."""

    whole_cycle: bool
    affine_copies: int = 0
    amplitude_copies: int = 0  # of the subject and of each of its affine copies

    def __str__(self) -> str:
        return f"{'cycle' if self.whole_cycle else 'ed'}-{self.affine_copies}-{self.amplitude_copies}"


@torch.no_grad()
def encode_sequence(
    codec: Codec,
    frames: FrameSampler,
    subject: int,
    view: View | None,
    chosen: list[int],
    own: ClinicalPrior = UNCONDITIONAL,
) -> LatentSequence:
    """Encode the ``chosen`` frames of a subject, ED first, optionally through a view.

    If ES is not among them, the ESV is computed from the measured EDV and an EF: the annotated EF for the LV, and for
    the RV the EF in ``own``, the prior measured on the subject's unchanged images.
    """
    record, mask, device = frames.record(subject), frames.mask(subject), codec.latent_mean.device
    images = torch.cat([frames.item(subject, frame)["image"] for frame in chosen])  # T X Y Z
    if view is not None:
        images = torch.where(mask, look(images, view), -1.0)
    acquired = images[..., mask].to(device)[:, None]  # T 1 X Y Z, acquired slices alone
    ones = torch.ones(1, acquired.shape[-1], dtype=torch.bool, device=device)
    codes = torch.cat([codec.encode(image[None], ones) for image in acquired])  # T C x y Z
    phases = torch.tensor([float(record.phases[frame]) for frame in chosen], dtype=torch.float64)
    ed = decoded_volumes(codec, codes[0])
    if record.es in chosen:
        es = decoded_volumes(codec, codes[chosen.index(record.es)])
    else:
        lv_ml = _scaled_esv(record.lv_edv_ml, record.lv_esv_ml, ed.lv)
        es = Volumes(_scaled_esv(own.rv_edv_ml, own.rv_esv_ml, ed.rv), None, lv_ml)
    full = torch.zeros(*codes.shape[:-1], len(mask))
    full[..., mask] = codes.cpu()
    return LatentSequence(subject, full, chosen, phases, mask, measured_prior(record, ed, es))


def amplified(sequence: LatentSequence, amplitude: float, es: Volumes) -> LatentSequence:
    """The same heart with ``amplitude`` times its motion, and the volumes ``es`` that it then has at ES."""
    ed, prior = sequence.latents[:1], sequence.prior
    _, lv_esv_ml = plausible_volumes(prior.lv_edv_ml, es.lv)
    _, rv_esv_ml = plausible_volumes(prior.rv_edv_ml, es.rv)
    moved = ed + amplitude * (sequence.latents - ed)
    return replace(sequence, latents=moved, prior=replace(prior, lv_esv_ml=lv_esv_ml, rv_esv_ml=rv_esv_ml))


def _scaled_esv(edv_ml: float | None, esv_ml: float | None, copy_edv_ml: float | None) -> float | None:
    """The ESV of a copy with the EF of the original."""
    if edv_ml is None or esv_ml is None or copy_edv_ml is None or edv_ml <= 0:
        return None
    return copy_edv_ml * esv_ml / edv_ml


def cached_sequences(
    folder: Path,
    codec: Codec,
    frames: FrameSampler,
    subjects: list[int],
    spec: CacheSpec,
    progress: ProgressCallback = no_progress,
    clock: Deadline | None = None,
) -> list[LatentSequence]:
    """The sequences that ``spec`` asks for; ``folder`` is completed. `TimeLimitReached` if ``clock`` is over first."""

    @functools.cache
    def own(subject: int) -> ClinicalPrior:
        # The prior of a subject at ED and ES is only needed for sequences that do not hold ES themselves.
        record = frames.record(subject)
        chosen = [record.ed, record.es]
        return UNCONDITIONAL if spec.whole_cycle else encode_sequence(codec, frames, subject, None, chosen).prior

    plan, begun, clock = list(_plan(frames, subjects, spec)), time.monotonic(), clock or Deadline()
    files = [folder / f"{index:05d}.safetensors" for index in range(len(plan))]
    missing = [(path, item) for path, item in zip(files, plan, strict=True) if not path.is_file()]
    there = len(plan) - len(missing)
    for count, (path, item) in enumerate(missing):
        if count and clock.over:  # each call encodes at least one, so that any time limit comes to an end
            raise TimeLimitReached("latents", there + count, len(plan), (time.monotonic() - begun) / count)
        write_tensors(path, _encoded(codec, frames, item, own(item.subject)))
        progress("latents", there + count + 1, len(plan), {})
    return [s for path, item in zip(files, plan, strict=True) for s in _unpack(read_tensors(path), frames, item)]


@dataclass(frozen=True)
class _Item:
    """One encoding: a subject through a view, and the amplitudes of its copies."""

    subject: int
    view: View | None
    chosen: list[int]
    amplitudes: list[float]


def _plan(frames: FrameSampler, subjects: list[int], spec: CacheSpec) -> Iterator[_Item]:
    (low, high), size, spacing_mm = AMPLITUDES, frames.data.grid.size[:2], frames.data.grid.spacing_mm[:2]
    for subject in subjects:
        chosen = kept_frames(frames, subject) if spec.whole_cycle else [frames.record(subject).ed]
        name = frames.record(subject).subject
        for copy in range(spec.affine_copies + 1):
            # Copy 0 is the heart itself.
            view = draw_copy(stream(frames.seed, "copy", name, copy), size, spacing_mm) if copy else None
            generator, count = stream(frames.seed, "amplitude", name, copy), spec.amplitude_copies
            uniforms = torch.rand(count, generator=generator, dtype=torch.float64).tolist()
            # Stratified: one amplitude in each equal part of the range.
            amplitudes = [low + (high - low) * (index + u) / count for index, u in enumerate(uniforms)]
            yield _Item(subject, view, chosen, amplitudes)


@torch.no_grad()
def _encoded(codec: Codec, frames: FrameSampler, item: _Item, own: ClinicalPrior) -> dict[str, Tensor]:
    """Tensors of one encoding: ``latents``, ``volumes_ml`` of the LV and ``further_ml`` of the RV, then of MYO at ED.

    Both lists hold EDV, ESV and the ESV of each amplitude copy; NaN means unknown.
    """
    sequence = encode_sequence(codec, frames, item.subject, item.view, item.chosen, own)
    prior, amplified_es = sequence.prior, []
    for amplitude in item.amplitudes:
        es = amplified(sequence, amplitude, Volumes()).latents[item.chosen.index(frames.record(item.subject).es)]
        amplified_es.append(decoded_volumes(codec, es[..., sequence.slice_mask].to(codec.latent_mean.device)))
    myo_ml = None if prior.myo_mass_g is None else prior.myo_mass_g / MYO_G_PER_ML
    return {
        "latents": sequence.latents,
        "volumes_ml": _numbers(prior.lv_edv_ml, prior.lv_esv_ml, *(es.lv for es in amplified_es)),
        "further_ml": _numbers(prior.rv_edv_ml, prior.rv_esv_ml, *(es.rv for es in amplified_es), myo_ml),
    }


def _numbers(*values: float | None) -> Tensor:
    return torch.tensor([float("nan") if v is None else v for v in values])


def _unpack(tensors: dict[str, Tensor], frames: FrameSampler, item: _Item) -> Iterator[LatentSequence]:
    record = frames.record(item.subject)
    # NaN alone differs from itself.
    lv = [None if v != v else v for v in tensors["volumes_ml"].tolist()]
    *rv, myo_ml = [None if v != v else v for v in tensors["further_ml"].tolist()]
    phases = torch.tensor([float(record.phases[frame]) for frame in item.chosen], dtype=torch.float64)
    mask = frames.mask(item.subject)
    prior = measured_prior(record, Volumes(rv[0], myo_ml, lv[0]), Volumes(rv[1], None, lv[1]))
    sequence = LatentSequence(item.subject, tensors["latents"], item.chosen, phases, mask, prior)
    yield sequence
    for amplitude, lv_esv_ml, rv_esv_ml in zip(item.amplitudes, lv[2:], rv[2:], strict=True):
        yield amplified(sequence, amplitude, Volumes(rv_esv_ml, None, lv_esv_ml))
