"""Fingerprints of training subjects: few numbers each that recognise a generated heart as a near-duplicate.

They are stored with weights, so that near-duplicates are rejected where the training data are not available. A
fingerprint is a random projection of a subject's `image_thumbnail`. Correlations survive it within about 1/16 (Johnson
and Lindenstrauss, 1984). It is not anonymous: docs/decisions/0015 says what it reveals of the image.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cinesynth.data.packed import PackedDataset
from cinesynth.data.phantom import PHANTOM
from cinesynth.memorisation.nearest import REACH_PX, Stack, copy_limit, image_distance, nearest, nearest_other, unit
from cinesynth.memorisation.thumbnails import HEIGHTS, PIXELS, subject_thumbnails

NUMBERS = 256
"""Numbers per subject, one byte each."""
MIN_SUBJECTS = 20
"""Fewer subjects do not tell how close real people usually are."""
SIDE_PX = PIXELS - 2 * REACH_PX
"""Side of the part of a thumbnail that is compared at every shift."""


@dataclass(frozen=True)
class Fingerprints:
    """Fingerprints ``N 256`` of training subjects, and the closeness (`Nearest`) below which a heart is a copy."""

    numbers: NDArray[np.int8]
    limit: float

    @classmethod
    def of(cls, images: Stack, margin: float = 1.3) -> Fingerprints | None:
        """The fingerprints of image thumbnails ``N 5 P P``; None if there are fewer than `MIN_SUBJECTS`.

        ``margin`` raises the limit of whole thumbnails: closeness by fingerprints is off by an eighth (SD).
        """
        if len(images) < MIN_SUBJECTS:
            return None
        real = nearest_other(image_distance(images, images)).known
        projected = _projected(_inner(images, REACH_PX, REACH_PX))
        scaled = projected / np.abs(projected).max(axis=1, keepdims=True)
        return cls(np.rint(127 * scaled).astype(np.int8), margin * copy_limit(real))

    def closeness(self, image: NDArray[np.float32]) -> float:
        """The closeness of a thumbnail ``5 P P`` to the nearest subject; NaN if it cannot be determined."""
        known = self.numbers / np.linalg.norm(self.numbers.astype(np.float64), axis=1, keepdims=True)
        shifted = _projected(np.stack(list(_shifts(image))))
        return float(nearest(1.0 - (shifted @ known.T).max(axis=0, keepdims=True)).closeness[0])

    def is_near_duplicate(self, image: NDArray[np.float32]) -> bool:
        """Whether a thumbnail ``5 P P`` is a near-duplicate of one of the subjects."""
        return self.closeness(image) < self.limit


def fingerprints_of(train: PackedDataset) -> dict[str, Tensor] | None:
    """The fingerprints that a weights folder stores of the patients of a training split; None if they are too few.

    Phantoms get none, since they are nobody's data.
    """
    patients = [i for i, record in enumerate(train.records) if record.dataset != PHANTOM]
    if not patients:
        return None
    found = Fingerprints.of(np.stack([subject_thumbnails(train, i)["image"] for i in patients]))
    return None if found is None else {"numbers": torch.from_numpy(found.numbers), "limit": torch.tensor(found.limit)}


def _shifts(image: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
    steps = range(2 * REACH_PX + 1)
    return (_inner(image, x, y) for x in steps for y in steps)


def _inner(images: Stack, x: int, y: int) -> Stack:
    return images[..., x : x + SIDE_PX, y : y + SIDE_PX]


def _projected(stacks: Stack) -> NDArray[np.float64]:
    """Projections ``N 256`` of length 1."""
    found = unit(stacks) @ _signs()
    return np.asarray(found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-9))


@cache
def _signs() -> NDArray[np.float64]:
    """The projection, pixels by `NUMBERS`, of 1 and -1: bits of PCG64, whose stream NumPy never changes (NEP 19)."""
    pixels = len(HEIGHTS) * SIDE_PX * SIDE_PX
    words = np.random.PCG64(0).random_raw(-(-pixels * NUMBERS // 64))
    bits = np.unpackbits(words.astype("<u8").view(np.uint8))[: pixels * NUMBERS]
    return np.asarray(bits.reshape(pixels, NUMBERS) * 2.0 - 1.0, dtype=np.float64)
