"""Shapes of labels: how much of a structure hangs together, and what encloses it."""

from __future__ import annotations

import numpy as np
import scipy
from numpy.typing import NDArray

from cinesynth.types import BoolArray, LabelArray

_DIAGONALS_TOO = np.ones((3, 3, 3), dtype=np.bool_)


def bounding_box(label: LabelArray | BoolArray) -> tuple[slice, slice, slice]:
    """The in-plane bounding box of a label ``X Y Z`` with a margin of one voxel, and all slices."""
    shadow = np.asarray(label.any(axis=2))
    x, y = (np.flatnonzero(shadow.any(axis=axis)) for axis in (1, 0))
    if len(x) == 0:
        return (slice(0, 1), slice(0, 1), slice(None))
    return (slice(max(x[0] - 1, 0), x[-1] + 2), slice(max(y[0] - 1, 0), y[-1] + 2), slice(None))


def slices_with(mask: BoolArray) -> BoolArray:
    """Which slices of ``mask`` ``X Y Z`` hold anything, ``Z``; faster than `any` across the last axis."""
    count = mask.shape[2]
    return np.asarray(np.bincount(np.flatnonzero(mask) % count, minlength=count) > 0)


def longest_run(present: BoolArray) -> int:
    """Length of the longest run of True."""
    runs = "".join("1" if p else " " for p in present).split()
    return max(map(len, runs), default=0)


def largest_part(mask: BoolArray) -> float:
    """Fraction of the voxels of ``mask`` (``X Y Z``) in its largest 26-connected part; 0 if it is empty."""
    along_rows = np.moveaxis(mask[bounding_box(mask)], 2, 0)  # Z X Y: faster than across slices
    parts, count = scipy.ndimage.label(along_rows, structure=_DIAGONALS_TOO)
    if count == 0:
        return 0.0
    sizes: NDArray[np.int64] = np.bincount(parts.ravel())[1:]
    return float(sizes.max() / sizes.sum())


def enclosed_shares(lv: BoolArray, myo: BoolArray) -> list[float]:
    """Fraction of the LV's outline that touches myocardium, for each slice with LV, base first."""
    grown = lv.copy()
    grown[1:] |= lv[:-1]
    grown[:-1] |= lv[1:]
    grown[:, 1:] |= lv[:, :-1]
    grown[:, :-1] |= lv[:, 1:]
    around = grown & ~lv  # X Y Z, the 4-connected outline in each slice
    touching, length = (around & myo).sum(axis=(0, 1)), around.sum(axis=(0, 1))
    shares: list[float] = (touching / np.maximum(length, 1))[lv.any(axis=(0, 1))].tolist()
    return shares
