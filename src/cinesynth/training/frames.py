"""Batches of frames: which subject and frame a case of a step is, and its tensors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from cinesynth.cases.schema import GENERATED
from cinesynth.data.geometry import slice_mask
from cinesynth.data.intensity import from_uint8
from cinesynth.data.packed import PackedDataset, Record
from cinesynth.data.phantom import PHANTOM
from cinesynth.data.vocabulary import UNKNOWN_VENDOR
from cinesynth.errors import DataError
from cinesynth.io.seeds import stream, uniform
from cinesynth.models.codec import Codec
from cinesynth.physiology import EDV_RANGE_ML, ESV_SHARE_RANGE, MYO_G_PER_ML, MYO_MASS_RANGE_G
from cinesynth.training.augment import augment
from cinesynth.types import ClinicalPrior, Label


class Frames:
    """The frames of one split, drawn by address: patients and phantoms in a fixed ratio, subjects evenly.

    Generated hearts are drawn like patients, or, where ``generated_share`` says how often, apart from both.
    """

    def __init__(
        self, data: PackedDataset, seed: int, phantom_share: float, generated_share: float | None = None
    ) -> None:
        self.data, self.seed = data, seed
        apart = set() if generated_share is None else {GENERATED}
        self.phantoms = [i for i, r in enumerate(data.records) if r.dataset == PHANTOM]
        self.generated = [i for i, r in enumerate(data.records) if r.dataset in apart]
        self.patients = [i for i, r in enumerate(data.records) if r.dataset not in {PHANTOM} | apart]
        if not data.records:
            raise DataError("the split holds no subject", hint="ingest more subjects, or other split fractions")
        self.phantom_share = 1.0 if not self.patients else 0.0 if not self.phantoms else phantom_share
        people = bool(self.phantoms or self.patients)
        self.generated_share = 0.0 if not self.generated else (generated_share or 0.0) if people else 1.0
        self.volumes = lru_cache(maxsize=4096)(self._load)

    def draw(self, purpose: str, step: int, case: int) -> tuple[int, torch.Generator]:
        """A subject for one case of one step, and the generator that belongs to it."""
        generator = stream(self.seed, purpose, step, case)
        group = self._group(uniform(generator))
        return group[int(uniform(generator, 0, len(group)))], generator

    def _group(self, chance: float) -> list[int]:
        """Whom a number in [0, 1) stands for."""
        if chance < self.generated_share:
            return self.generated
        phantoms = (1.0 - self.generated_share) * self.phantom_share
        return self.phantoms if chance < self.generated_share + phantoms else self.patients

    def record(self, subject: int) -> Record:
        """What is known of a subject."""
        return self.data.records[subject]

    def mask(self, subject: int) -> Tensor:
        """Acquired slices of a subject, ``Z`` booleans."""
        return torch.from_numpy(slice_mask(self.record(subject).slices, self.data.grid.size[2]))

    def _load(self, subject: int, frame: int) -> tuple[Tensor, Tensor]:
        image = torch.from_numpy(self.data.image(subject, frame).copy())
        return image, torch.from_numpy(self.data.label(subject, frame).copy())

    def item(self, subject: int, frame: int, window: slice = slice(None)) -> dict[str, Tensor]:
        """One frame as it is: image ``1 X Y Z`` in [-1, 1], label ``1 X Y Z``, coverage ``Z S``, slice mask ``Z``.

        ``window`` is of the slices.
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
        """One random frame (one of the annotated, if so wished) through a random view, cropped to ``crop`` voxels."""
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
    """A random run of ``depth`` slices that holds as many acquired ones as it can."""
    acquired = mask.nonzero()[:, 0]
    first, count = int(acquired[0]), len(acquired)
    low, high = sorted((first, first + count - depth))
    low, high = max(0, low), min(len(mask) - depth, high)
    start = int(uniform(generator, low, high + 1))
    return slice(start, start + depth)


def collate(items: Sequence[dict[str, Tensor]], device: torch.device | str = "cpu") -> dict[str, Tensor]:
    """Stack items into a batch on ``device``."""
    return {key: torch.stack([item[key] for item in items]).to(device) for key in items[0]}


# --- What a heart has, as masks show it ------------------------------------------------------------------------------


class Volumes(NamedTuple):
    """Volumes of one frame, millilitres; None where nothing tells them."""

    rv: float | None = None
    myo: float | None = None
    lv: float | None = None


def decoded_volumes(codec: Codec, latent: Tensor, ones: Tensor) -> Volumes:
    """Volumes of the masks of one latent ``C x y z``, whose slices are all acquired (``ones``, ``1 z``)."""
    label = codec.labels(codec.decode(latent[None], ones).logits, ones)
    voxel_ml = math.prod(codec.grid.spacing_mm) / 1000.0
    rv, myo, lv = (float((label == structure).sum()) * voxel_ml for structure in (Label.RV, Label.MYO, Label.LV))
    return Volumes(rv, myo, lv)


def measured_prior(record: Record, ed: Volumes, es: Volumes) -> ClinicalPrior:
    """The prior of a heart of these volumes at ED and ES: what no heart has is unknown, not a number."""
    return ClinicalPrior(
        record.diagnosis,
        *plausible_volumes(ed.lv, es.lv),
        record.slices,
        *plausible_volumes(ed.rv, es.rv),
        possible_mass(ed.myo),
        vendor_of_record(record),
    )


def plausible_volumes(edv_ml: float | None, esv_ml: float | None) -> tuple[float | None, float | None]:
    """EDV and ESV of a ventricle, each None where no heart has it."""
    if edv_ml is None or not EDV_RANGE_ML[0] <= edv_ml <= EDV_RANGE_ML[1]:
        return None, None
    least, most = ESV_SHARE_RANGE
    fits = esv_ml is not None and least * edv_ml <= esv_ml <= most * edv_ml
    return edv_ml, esv_ml if fits else None


def possible_mass(myo_ml: float | None) -> float | None:
    """Mass in grams of so much myocardium, None where no heart has it."""
    if myo_ml is None or not MYO_MASS_RANGE_G[0] <= MYO_G_PER_ML * myo_ml <= MYO_MASS_RANGE_G[1]:
        return None
    return MYO_G_PER_ML * myo_ml


def vendor_of_record(record: Record) -> str | None:
    """The vendor of a subject's scanner, None where its source does not tell."""
    vendor = record.vendor.strip()
    return None if vendor.casefold() in ("", UNKNOWN_VENDOR) else vendor
