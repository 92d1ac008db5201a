"""Drawn contours to voxels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cinesynth.types import BoolArray


def fill(points: NDArray[np.float64], shape: tuple[int, int]) -> BoolArray:
    """Voxels ``X Y`` whose centre lies in the closed polygon ``N 2`` or on its outline; even-odd where it crosses.

    Whole coordinates are voxel centres. Contours that were traced along voxels run through many centres: counting
    those belongs to the polygon, and nothing is lost to rounding, as only products of differences are compared.
    """
    mask = np.zeros(shape, dtype=np.bool_)
    low = np.clip(np.floor(points.min(axis=0)), 0, shape).astype(int)
    high = np.clip(np.ceil(points.max(axis=0)) + 1, 0, shape).astype(int)
    x = np.arange(low[0], high[0], dtype=np.float64)[:, None]
    y = np.arange(low[1], high[1], dtype=np.float64)[None, :]
    inside, on = np.zeros((2, len(x), y.shape[1]), dtype=np.bool_)
    for (ax, ay), (bx, by) in zip(points, np.roll(points, -1, axis=0), strict=True):
        side = (bx - ax) * (y - ay) - (by - ay) * (x - ax)
        inside ^= ((ay > y) != (by > y)) & ((side > 0) == (by > ay))
        on |= (side == 0) & (min(ax, bx) <= x) & (x <= max(ax, bx)) & (min(ay, by) <= y) & (y <= max(ay, by))
    mask[low[0] : high[0], low[1] : high[1]] = inside | on
    return mask
