"""Frames for training: which subject and frame each case of a step sees, and their tensors."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from cinesynth.config import Config
from cinesynth.data.dataset_table import GENERATED
from cinesynth.data.geometry import slice_mask
from cinesynth.data.normalisation import from_uint8
from cinesynth.data.packed import PackedDataset, Record
from cinesynth.data.phantom import PHANTOM
from cinesynth.data.subject_prior import Volumes, vendor_of_record
from cinesynth.errors import DataError
from cinesynth.io.reproducibility import stream, uniform
from cinesynth.models.codec import Codec
from cinesynth.models.threads import background_thread
from cinesynth.training.augment import augment
from cinesynth.types import Label

Batch = dict[str, Tensor]
"""Tensors of the cases of a step, by name."""


class FrameSampler:
    """Samples the frames of one split: patients and phantoms in a fixed ratio, all subjects of a group equally often.

    A sample depends on the seed and its (purpose, step, case) only, so a resumed run draws the same ones. Generated
    hearts count as patients; with ``generated_share`` they are a group of their own with that share.
    """

    def __init__(
        self, data: PackedDataset, seed: int, phantom_share: float, generated_share: float | None = None
    ) -> None:
        self.data, self.seed = data, seed
        own_group = set() if generated_share is None else {GENERATED}
        self.phantoms = [i for i, r in enumerate(data.records) if r.dataset == PHANTOM]
        self.generated = [i for i, r in enumerate(data.records) if r.dataset in own_group]
        self.patients = [i for i, r in enumerate(data.records) if r.dataset not in {PHANTOM} | own_group]
        if not data.records:
            raise DataError("a split has no subjects", hint="`cinesynth doctor` says which, and what to do")
        self.phantom_share = 1.0 if not self.patients else 0.0 if not self.phantoms else phantom_share
        others = bool(self.phantoms or self.patients)
        self.generated_share = 0.0 if not self.generated else (generated_share or 0.0) if others else 1.0
        self.volumes = lru_cache(maxsize=4096)(self._load)

    def draw(self, purpose: str, step: int, case: int) -> tuple[int, torch.Generator]:
        """A subject for one case of one step, and the generator that belongs to it."""
        generator = stream(self.seed, purpose, step, case)
        chance = uniform(generator)
        phantoms = self.generated_share + (1.0 - self.generated_share) * self.phantom_share
        others = self.phantoms if chance < phantoms else self.patients
        group = self.generated if chance < self.generated_share else others
        return group[int(uniform(generator, 0, len(group)))], generator

    def record(self, subject: int) -> Record:
        """What the dataset records of a subject."""
        return self.data.records[subject]

    def mask(self, subject: int) -> Tensor:
        """Acquired slices of a subject, ``Z`` booleans."""
        return torch.from_numpy(slice_mask(self.record(subject).slices, self.data.grid.size[2]))

    def _load(self, subject: int, frame: int) -> tuple[Tensor, Tensor]:
        image = torch.from_numpy(self.data.image(subject, frame).copy())
        return image, torch.from_numpy(self.data.label(subject, frame).copy())

    def item(self, subject: int, frame: int, window: slice = slice(None)) -> dict[str, Tensor]:
        """One frame as it is: image ``1 X Y Z`` in [-1, 1], label ``1 X Y Z``, coverage ``Z S``, slice mask ``Z``.

        ``window`` selects slices.
        """
        image, label = self.volumes(subject, frame)
        return {
            "image": torch.from_numpy(from_uint8(image[..., window].numpy()))[None],
            "label": label[None, ..., window],
            "coverage": torch.from_numpy(self.record(subject).coverage[frame, window]),
            "slice_mask": self.mask(subject)[window],
        }

    def augmented(
        self, step: int, case: int, crop: tuple[int, int, int] | None, strength: float, annotated: bool = False
    ) -> dict[str, Tensor]:
        """A random frame (if ``annotated``, an annotated one) in a random view, cropped to ``crop`` voxels."""
        subject, generator = self.draw("frames", step, case)
        record = self.record(subject)
        choices = np.flatnonzero(record.labelled) if annotated else np.arange(len(record.phases))
        frame = int(choices[int(uniform(generator, 0, len(choices)))])
        x, y, z = crop or self.data.grid.size
        width, height, depth = self.data.grid.size
        window = _window(self.mask(subject), min(z, depth), generator)
        item = self.item(subject, frame, window)
        return augment(item, (min(x, width), min(y, height)), self.data.grid.spacing_mm, generator, strength)


def _window(mask: Tensor, depth: int, generator: torch.Generator) -> slice:
    """A random run of ``depth`` slices with as many acquired ones as possible; ``mask`` is ``Z``."""
    acquired = mask.nonzero()[:, 0]
    first, count = int(acquired[0]), len(acquired)
    # Either the window lies inside the acquired slices or they lie inside the window.
    low, high = sorted((first, first + count - depth))
    low, high = max(0, low), min(len(mask) - depth, high)
    start = int(uniform(generator, low, high + 1))
    return slice(start, start + depth)


def collate(items: Sequence[dict[str, Tensor]], device: torch.device | str = "cpu") -> dict[str, Tensor]:
    """Stack items into a batch on ``device``."""
    return {key: torch.stack([item[key] for item in items]).to(device) for key in items[0]}


class Prefetch:
    """Batches of ``steps`` steps, the next one being made in a thread while the current one is used.

    ``make(step, cases)`` must depend on its arguments alone, with random numbers drawn by address (seed, step,
    case): then batches are the same as without a thread, also after a restart at any step.
    """

    def __init__(self, make: Callable[[int, range], Batch], steps: int) -> None:
        self.make, self.steps = make, steps
        self.thread = background_thread("batches")
        self.ahead: dict[tuple[int, range], Future[Batch]] = {}

    def __call__(self, step: int, cases: range) -> Batch:
        """The batch of these cases of a step; what making it raises is raised here."""
        batch = self.ahead.pop((step, cases), None) or self.thread.submit(self.make, step, cases)
        self.ahead = {}
        if step + 1 < self.steps:  # after the last step the thread is idle
            self.ahead[step + 1, cases] = self.thread.submit(self.make, step + 1, cases)
        return batch.result()


# --- Conditions of a heart, measured on its masks --------------------------------------------------------------------


def decoded_volumes(codec: Codec, latent: Tensor) -> Volumes:
    """Volumes of the decoded masks of one latent ``C x y Z`` whose slices are all acquired."""
    ones = torch.ones(1, latent.shape[-1], dtype=torch.bool, device=latent.device)
    label = codec.labels(codec.decode(latent[None], ones).logits, ones)
    voxel_ml = math.prod(codec.grid.spacing_mm) / 1000.0
    rv, myo, lv = (float((label == structure).sum()) * voxel_ml for structure in (Label.RV, Label.MYO, Label.LV))
    return Volumes(rv, myo, lv)


def with_vendors(config: Config, records: list[Record]) -> Config:
    """``config`` with the vendors of these training subjects, if vendor is a condition and no vendors are listed.

    Phantom scanners count only without patients, as not every stage sees phantoms.
    """
    if "vendor" not in config.conditions or config.vendors:
        return config
    patients = [r for r in records if r.dataset != PHANTOM] or records
    spellings = {name.casefold(): name for r in patients if (name := vendor_of_record(r)) is not None}
    return config.model_copy(update={"vendors": tuple(sorted(spellings.values()))})
