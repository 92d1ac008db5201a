"""Cached latents: every frame of every subject seen once through the frozen codec, with measured volumes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from cinesynth.atomic import atomic_path
from cinesynth.models.codec import Codec
from cinesynth.models.weights import read_tensors
from cinesynth.training.augment import View, draw_copy, look
from cinesynth.training.frames import Frames
from cinesynth.training.streams import stream
from cinesynth.types import ClinicalPrior, Diagnosis, Label

MAX_FRAMES = 12
"""Frames kept of a whole cycle: six harmonics are drawn by twelve."""


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
    path: Path,
    codec: Codec,
    frames: Frames,
    subjects: list[int],
    copies: int,
    whole_cycle: bool,
    progress: Progress | None = None,
) -> list[Sequence]:
    """Sequences of ``subjects`` and ``copies`` affine copies of each, from ``path`` if it was written before.

    The ED frame alone, or with ``whole_cycle`` all kept frames.
    """
    plan = list(_plan(frames, subjects, copies, whole_cycle))
    if path.is_file():
        tensors = read_tensors(path)
        return [_unpack(tensors, index, frames, item) for index, item in enumerate(plan)]
    sequences, tensors = [], {}
    for index, (subject, view, chosen) in enumerate(plan):
        sequence = encode_sequence(codec, frames, subject, view, chosen)
        unknown = float("nan")
        volumes = [unknown if v is None else v for v in (sequence.prior.lv_edv_ml, sequence.prior.lv_esv_ml)]
        tensors |= {f"{index}.latents": sequence.latents, f"{index}.volumes_ml": torch.tensor(volumes)}
        sequences.append(_unpack(tensors, index, frames, plan[index]))
        if progress is not None:
            progress(index + 1, len(plan))
    with atomic_path(path) as temporary:
        save_file(tensors, temporary)
    return sequences


Item = tuple[int, View | None, list[int]]


def _plan(frames: Frames, subjects: list[int], copies: int, whole_cycle: bool) -> Iterator[Item]:
    size = frames.data.grid.size[:2]
    for subject in subjects:
        chosen = kept_frames(frames, subject) if whole_cycle else [frames.record(subject).ed]
        name = frames.record(subject).subject
        for copy in range(copies + 1):
            view = draw_copy(stream(frames.seed, "copy", name, copy), size) if copy else None
            yield subject, view, chosen


def _unpack(tensors: dict[str, Tensor], index: int, frames: Frames, item: Item) -> Sequence:
    subject, _, chosen = item
    record = frames.record(subject)
    edv, esv = (None if torch.isnan(v) else float(v) for v in tensors[f"{index}.volumes_ml"])
    phases = torch.tensor([float(record.phases[frame]) for frame in chosen], dtype=torch.float64)
    prior = _prior(record.diagnosis, edv, esv, record.slices)
    return Sequence(subject, tensors[f"{index}.latents"], chosen, phases, frames.mask(subject), prior)
