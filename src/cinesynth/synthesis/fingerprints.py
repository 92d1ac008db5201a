"""The screen that weights bring along: anatomies that are near-copies of a training subject are not kept."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from cinesynth.data.geometry import Grid, slice_mask
from cinesynth.data.intensity import to_uint8
from cinesynth.data.likeness.fingerprints import Fingerprints
from cinesynth.data.likeness.thumbnails import image_thumbnail
from cinesynth.data.packed import PackedDataset
from cinesynth.data.phantom import PHANTOM
from cinesynth.models.weights import Bundle
from cinesynth.synthesis.tries import Screen
from cinesynth.types import FloatArray, LabelArray


def fingerprint_screen(bundle: Bundle) -> Screen | None:
    """The fingerprints of a bundle as a screen; None where it has none."""
    if bundle.fingerprints is None:
        return None
    numbers, limit = bundle.fingerprints["numbers"].numpy(), float(bundle.fingerprints["limit"])
    known, spacing_mm = Fingerprints(numbers, limit), Grid.from_config(bundle.config.grid).spacing_mm

    def refuses(image: FloatArray, label: LabelArray) -> str:
        near = known.copies(image_thumbnail(to_uint8(image), label, spacing_mm))
        return "a near-copy of a training subject, by its fingerprint" if near else ""

    return Screen(f"fingerprints of {len(numbers)} training subjects", refuses)


def fingerprints_of(train: PackedDataset) -> dict[str, Tensor] | None:
    """What a bundle keeps of the people (phantoms are nobody) of a training split; None where they are too few."""
    people = [i for i, record in enumerate(train.records) if record.dataset != PHANTOM]
    if not people:
        return None
    found = Fingerprints.of(np.stack([_thumbnail(train, i) for i in people]))
    return None if found is None else {"numbers": torch.from_numpy(found.numbers), "limit": torch.tensor(found.limit)}


def _thumbnail(train: PackedDataset, i: int) -> FloatArray:
    record = train.records[i]
    acquired = slice_mask(record.slices, train.grid.size[2])
    image, label = train.image(i, record.ed)[..., acquired], train.labels(i)[record.ed][..., acquired]
    return image_thumbnail(image, label, train.grid.spacing_mm)
