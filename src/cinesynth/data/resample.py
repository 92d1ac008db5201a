"""Separable resampling between two voxel grids, with labels that keep their volume on a coarser grid.

Along each axis, both grids are rows of voxels and resampling is a matrix of weights. In the plane the kernel is a
triangle, as wide as the coarser step (linear interpolation with anti-aliasing). Through the plane a slice is a slab,
and the weight is the fraction of the target slab that the source slab fills.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cinesynth.types import STRUCTURES, FloatArray, LabelArray

FREE = 255
"""In `held_labels`: a voxel that may take any label."""


class Axis(NamedTuple):
    """A row of ``size`` voxels; the centre of voxel ``i`` is at ``start + step * i`` in voxels of the other grid."""

    size: int
    start: float
    step: float

    def inverse(self, other_size: int) -> Axis:
        """The other grid's row in voxels of this one."""
        return Axis(other_size, -self.start / self.step, 1.0 / self.step)

    def linear(self, source_size: int, reach: float = 1.0) -> FloatArray:
        """Weights ``size source_size`` of a triangle of half-width ``reach`` (at least a step); rows outside are 0."""
        width = max(1.0, self.step, reach)
        weights = np.maximum(0.0, 1.0 - np.abs(self._centres()[:, None] - np.arange(source_size)) / width)
        inside = (self._centres() > -0.5 - 1e-6) & (self._centres() < source_size - 0.5 + 1e-6)
        return _rows_to_one(weights * inside[:, None])

    def overlap(self, source_size: int) -> FloatArray:
        """Weights ``size source_size``: fraction of each slab here filled by each source slab; row sums <= 1."""
        low = self._centres()[:, None] - self.step / 2
        source = np.arange(source_size) - 0.5
        shared = np.minimum(low + self.step, source + 1.0) - np.maximum(low, source)
        return np.asarray(np.clip(shared, 0.0, None) / self.step, dtype=np.float32)

    def nearest(self, other_size: int) -> NDArray[np.int_]:
        """Index here of the voxel nearest to each of the other grid's ``other_size`` voxels; -1 outside this row."""
        index = np.rint((np.arange(other_size) - self.start) / self.step).astype(np.int_)
        return np.where((index >= 0) & (index < self.size), index, -1)

    def _centres(self) -> NDArray[np.float64]:
        return np.asarray(self.start + self.step * np.arange(self.size), dtype=np.float64)


Axes = tuple[Axis, Axis, Axis]
Weights = tuple[FloatArray, FloatArray, FloatArray]


def resample_image(volumes: NDArray[np.generic], axes: Axes) -> FloatArray:
    """``... X Y Z`` resampled to ``... x y z`` of ``axes``; voxels outside the field get the minimum."""
    weights = _weights(volumes.shape, axes)
    x, y, z = (w.sum(axis=1) > 0 for w in weights)
    result = apply(volumes.astype(np.float32), weights)
    result[..., ~(x[:, None, None] & y[:, None] & z)] = volumes.min()
    return result


def resample_scores(label: LabelArray, axes: Axes, reach: float = 1.0) -> FloatArray:
    """One-hot labels ``X Y Z`` resampled to scores ``4 x y z``; outside the field is background.

    ``reach`` is the in-plane half-width of the kernel in voxels of ``label``.
    """
    in_x, in_y, in_z = _weights(label.shape, axes, reach)
    # resampling columns and rows without labels would add zeros
    x, y = np.flatnonzero(label.any(axis=(1, 2))), np.flatnonzero(label.any(axis=(0, 2)))
    columns, rows = (slice(x[0], x[-1] + 1), slice(y[0], y[-1] + 1)) if len(x) else (slice(0), slice(0))
    weights, heart = (in_x[:, columns], in_y[:, rows], in_z), label[columns, rows]
    scores = apply(np.stack([heart == structure for structure in STRUCTURES]).astype(np.float32), weights)
    return np.concatenate([1.0 - scores.sum(axis=0, keepdims=True), scores])


def held_labels(label: LabelArray, axes: Axes) -> LabelArray:
    """The labels ``x y z`` that a finer grid must hold so that `at_nearest` gives ``label`` (``X Y Z``) back.

    Each voxel of ``label`` has its own nearest voxel in the finer grid, which takes its label. All others are `FREE`.
    """
    held = np.full(tuple(axis.size for axis in axes), FREE, dtype=np.uint8)
    index = [axis.nearest(size) for axis, size in zip(axes, label.shape, strict=True)]
    held[np.ix_(*(i[i >= 0] for i in index))] = label[np.ix_(*(i >= 0 for i in index))]
    return held


def at_nearest(label: LabelArray, axes: Axes, size: tuple[int, int, int]) -> LabelArray:
    """The label ``x y z`` on the grid of ``axes``, read at the voxel centres of a grid ``X Y Z``; 0 outside."""
    index = [axis.nearest(n) for axis, n in zip(axes, size, strict=True)]
    x, y, z = (i >= 0 for i in index)
    return np.where(x[:, None, None] & y[:, None] & z, label[np.ix_(*index)], np.uint8(0))


def owed_labels(scores: FloatArray, owed: NDArray[np.float64], held: LabelArray | None = None) -> LabelArray:
    """Labels ``x y z`` by the highest score, with ``owed`` voxels of each structure in each slice.

    ``scores`` is ``4 x y z``, ``owed`` is ``3 z`` (rounded here), and ``held`` voxels keep their label. A plain argmax
    loses volume wherever two slices of different size share a slab. Instead, each structure of a slice gets a price
    that is added to its scores, and the prices are adjusted in turn until every count is exact, as in the auction
    algorithm for assignment problems (Bertsekas, 1988).
    """
    result = np.asarray(scores.argmax(axis=0), dtype=np.uint8)
    held = np.full_like(result, FREE) if held is None else held
    kept = np.stack([(held == structure).sum(axis=(0, 1)) for structure in STRUCTURES])  # 3 z
    rest = np.maximum(np.rint(owed).astype(int) - kept, 0)
    for z in range(scores.shape[-1]):
        near = (scores[0, :, :, z] < 1.0 - 1e-6) & (held[..., z] == FREE)
        if near.any():
            result[near, z] = _settle(scores[:, near, z].astype(np.float64), rest[:, z])
    return np.where(held == FREE, result, held)


def apply(volumes: FloatArray, weights: Weights) -> FloatArray:
    """``... X Y Z`` times one matrix per axis: ``... x y z``."""
    for matrix in weights:  # ... X Y Z -> ... Y Z x -> ... Z x y -> ... x y z
        volumes = np.tensordot(volumes, matrix, axes=(-3, 1))
    return np.ascontiguousarray(volumes)


def _settle(scores: NDArray[np.float64], owed: NDArray[np.int_], max_rounds: int = 4) -> LabelArray:
    """Labels of ``N`` voxels from scores ``4 N`` and counts ``3``; two or three rounds are usually enough."""
    prices = np.zeros((len(scores), 1))
    for _ in range(max_rounds):
        settled = True
        for structure, count in zip(STRUCTURES, owed, strict=True):
            priced = scores + prices
            if int((priced.argmax(axis=0) == structure).sum()) == count:
                continue
            settled = False
            ranked = np.sort(scores[structure] - np.delete(priced, structure, axis=0).max(axis=0))[::-1]
            wanted = min(int(count), len(ranked))  # so many leads over the best rival are to be positive, ties aside
            above = ranked[wanted - 1] if wanted > 0 else ranked[0] + 1.0
            below = ranked[wanted] if wanted < len(ranked) else ranked[-1] - 1.0
            prices[structure] = -float(above + below) / 2.0
        if settled:
            break
    return np.asarray((scores + prices).argmax(axis=0), dtype=np.uint8)


def _weights(shape: tuple[int, ...], axes: Axes, reach: float = 1.0) -> Weights:
    x, y, z = axes
    slab = z.overlap(shape[-1])
    return x.linear(shape[-3], reach), y.linear(shape[-2], reach), _rows_to_one(slab.astype(np.float64))


def _rows_to_one(weights: NDArray[np.float64]) -> FloatArray:
    total = weights.sum(axis=1, keepdims=True)
    unit = np.divide(weights, total, out=np.zeros_like(weights), where=total > 1e-6)
    return np.asarray(unit, dtype=np.float32)
