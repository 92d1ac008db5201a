"""Fingerprints of training subjects: few numbers each, by which a generated heart is known as a near-copy of one.

They travel with weights, so that near-copies are drawn again where the patients are not at hand. A fingerprint is a
random projection of a person's `image_thumbnail`: correlations survive it within about 1/16 (Johnson and Lindenstrauss,
1984), and no more of the image than docs/decisions/0015 tells. It is no anonymous number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cinesynth.data.geometry import slice_mask
from cinesynth.data.intensity import to_uint8
from cinesynth.data.packed import PackedDataset
from cinesynth.data.phantom import PHANTOM
from cinesynth.memorisation.nearest import REACH_PX, Stack, copy_limit, image_distance, nearest, nearest_other, unit
from cinesynth.memorisation.thumbnails import HEIGHTS, PIXELS, image_thumbnail
from cinesynth.types import FloatArray, LabelArray

NUMBERS = 256
"""Of one subject, a byte each."""
FEWEST = 20
"""Subjects below which nobody can say what a usual distance between people is."""
MARGIN = 1.3
"""Closeness of a near-copy, over that by whole thumbnails: by fingerprints it is off by an eighth (SD)."""
SEED = 0
SIDE = PIXELS - 2 * REACH_PX
"""Of the part of a thumbnail that is compared at every shift."""


@dataclass(frozen=True)
class Fingerprints:
    """Fingerprints ``N 256`` of training subjects, and the closeness (`nearest.Nearest`) of a near-copy."""

    numbers: NDArray[np.int8]
    limit: float

    @classmethod
    def of(cls, images: Stack) -> Fingerprints | None:
        """Of image thumbnails ``N 5 P P``; None of fewer than `FEWEST` subjects."""
        if len(images) < FEWEST:
            return None
        people = nearest_other(image_distance(images, images)).known
        projected = _projected(_inner(images, REACH_PX, REACH_PX))
        scaled = projected / np.abs(projected).max(axis=1, keepdims=True)
        return cls(np.rint(127 * scaled).astype(np.int8), MARGIN * copy_limit(people))

    def closeness(self, image: NDArray[np.float32]) -> float:
        """How close a thumbnail ``5 P P`` is to the nearest subject; NaN where that cannot be told."""
        known = self.numbers / np.linalg.norm(self.numbers.astype(np.float64), axis=1, keepdims=True)
        shifted = _projected(np.stack(list(_shifts(image))))
        return float(nearest(1.0 - (shifted @ known.T).max(axis=0, keepdims=True)).closeness[0])

    def copies(self, image: NDArray[np.float32]) -> bool:
        """Whether a thumbnail is a near-copy of one of the subjects."""
        return self.closeness(image) < self.limit


def _shifts(image: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
    steps = range(2 * REACH_PX + 1)
    return (_inner(image, x, y) for x in steps for y in steps)


def _inner(images: Stack, x: int, y: int) -> Stack:
    return images[..., x : x + SIDE, y : y + SIDE]


def _projected(stacks: Stack) -> NDArray[np.float64]:
    """Vectors ``N 256`` of length 1."""
    found = unit(stacks) @ _signs()
    return np.asarray(found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-9))


@cache
def _signs() -> NDArray[np.float64]:
    """The projection, pixels by `NUMBERS`, of 1 and -1: bits of PCG64, whose stream NumPy never changes (NEP 19)."""
    pixels = len(HEIGHTS) * SIDE * SIDE
    words = np.random.PCG64(SEED).random_raw(-(-pixels * NUMBERS // 64))
    bits = np.unpackbits(words.astype("<u8").view(np.uint8))[: pixels * NUMBERS]
    return np.asarray(bits.reshape(pixels, NUMBERS) * 2.0 - 1.0, dtype=np.float64)


# --- The screen that weights bring along: an anatomy that is a near-copy of a training subject is not kept --------


@dataclass(frozen=True)
class DuplicateFilter:
    """A judge from outside of whether an anatomy may be kept at all: it must not copy a training subject."""

    identity: str
    """Names everything that the judgement depends on but the heart; part of each case's provenance."""
    reject_reason: Callable[[FloatArray, LabelArray], str]
    """Of the ED image and label ``X Y Z`` on the weights' grid: why they may not be kept, empty if they may."""


def fingerprint_screen(
    stored: Mapping[str, Tensor] | None, spacing_mm: tuple[float, float, float]
) -> DuplicateFilter | None:
    """The fingerprints of a weights folder, whose grid has ``spacing_mm``, as a screen; None where it has none."""
    if stored is None:
        return None
    numbers, limit = stored["numbers"].numpy(), float(stored["limit"])
    known = Fingerprints(numbers, limit)

    def reject_reason(image: FloatArray, label: LabelArray) -> str:
        near = known.copies(image_thumbnail(to_uint8(image), label, spacing_mm))
        return "a near-copy of a training subject, by its fingerprint" if near else ""

    return DuplicateFilter(f"fingerprints of {len(numbers)} training subjects", reject_reason)


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
