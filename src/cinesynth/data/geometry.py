"""The voxel grid of a model, and resampling from a scanner's grid to it and back."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cinesynth.config import load_config, presets
from cinesynth.config.schema import GridConfig
from cinesynth.data.normalisation import heart_centre, label_bounds
from cinesynth.data.resample import Axes, Axis, at_nearest, held_labels, owed_labels, resample_image, resample_scores
from cinesynth.errors import DataError, InputError
from cinesynth.types import STRUCTURES, Affine, BoolArray, FloatArray, LabelArray, Study


@dataclass(frozen=True)
class Grid:
    """A voxel grid of ``X Y Z`` voxels, through-plane last."""

    size: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]

    @classmethod
    def from_config(cls, config: GridConfig) -> Grid:
        """The grid of a preset."""
        return cls(config.size, config.spacing_mm)

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel in millilitres."""
        return float(np.prod(self.spacing_mm)) / 1000.0


def slice_mask(slices: int, depth: int) -> BoolArray:
    """The acquired slices of a grid, shape ``Z = depth``: ``slices`` of them, contiguous and centred.

    `InputError` unless ``1 <= slices <= depth``.
    """
    if not 1 <= slices <= depth:
        raise InputError(f"{slices} slices do not fit a grid of {depth}", hint=f"use 1 to {depth} slices")
    start = (depth - slices) // 2
    mask = np.zeros(depth, dtype=np.bool_)
    mask[start : start + slices] = True
    return mask


def crop_pad(
    volume: NDArray[Any], offset: tuple[int, int, int], size: tuple[int, int, int], fill: float = 0
) -> NDArray[Any]:
    """The window of ``size`` voxels at ``offset`` (may be negative) of ``... X Y Z``, with ``fill`` outside.

    ``crop_pad(window, -offset, original_size)`` is its inverse inside the window.
    """
    result = np.full(volume.shape[:-3] + size, fill, dtype=volume.dtype)
    source: list[slice] = []
    target: list[slice] = []
    for start, wanted, present in zip(offset, size, volume.shape[-3:], strict=True):
        low, high = max(start, 0), min(start + wanted, present)
        source.append(slice(low, max(high, low)))
        target.append(slice(low - start, max(high, low) - start))
    (x, y, z), (a, b, c) = target, source
    result[..., x, y, z] = volume[..., a, b, c]
    return result


@dataclass(frozen=True, eq=False)
class Placement:
    """Where a study lies on the model grid, and the resampling to it and back.

    In the plane the native field is resampled about its centre, and then cropped or padded by the integer ``offset``.
    Through the plane the stacks are aligned at the base, so that a remainder falls on the apex, where the heart is
    thinnest. The acquired slices are those of `slice_mask`.
    """

    native_size: tuple[int, int, int]
    affine: Affine  # 4 4 of the native grid
    grid: Grid
    slices: int  # acquired slices on the grid
    offset: tuple[int, int]  # of the grid's first voxel, in voxels of the resampled field

    @property
    def slice_mask(self) -> BoolArray:
        """The acquired slices, shape ``Z`` of the grid."""
        return slice_mask(self.slices, self.grid.size[2])

    def image_to_grid(self, volumes: NDArray[Any]) -> FloatArray:
        """Native intensities ``T X Y Z`` on the grid; voxels outside the native field get the minimum."""
        return self._pad(resample_image(volumes, self._axes()), float(volumes.min()))

    def image_to_native(self, volumes: NDArray[Any]) -> FloatArray:
        """Intensities ``T X Y Z`` of the grid on the native grid; voxels outside the grid get the minimum."""
        return resample_image(volumes[..., self.slice_mask], self._inverse())

    def label_to_grid(self, labels: LabelArray) -> LabelArray:
        """Native labels ``T X Y Z`` on the grid; each structure keeps its volume in every slice.

        On a grid that is at least as fine along each axis, `label_to_native` restores every voxel inside it exactly.
        This has precedence: on a grid only a few percent finer, the volume of small structures may change slightly.
        """
        # Two native slices share a slab: a kernel wider than the distance of their outlines blends them.
        reach_mm = 6.0 if self._axes()[2].step != 1.0 else 0.0
        return self._pad(np.stack([self._label_frame(label, reach_mm) for label in labels]))

    def coverage_to_grid(self, coverage: BoolArray) -> BoolArray:
        """Native coverage ``T Z S`` on the grid: a slab is covered if all native slices that fill it are.

        Slices that were not acquired are background by convention; they count as covered for every structure that was
        annotated anywhere in the frame.
        """
        uncovered = np.einsum("gz,tzs->tgs", self._shares(), ~coverage)
        result = np.repeat(coverage.any(axis=1, keepdims=True), self.grid.size[2], axis=1)
        result[:, self.slice_mask] = uncovered <= 0.05  # of a slab
        return result

    def label_to_native(self, labels: LabelArray) -> LabelArray:
        """Labels ``T X Y Z`` of the grid on the native grid: the likeliest structure at each voxel.

        If the grid is at least as fine as the native one, the nearest label: the inverse of `label_to_grid`.
        """
        if self._is_finer:
            acquired = labels[..., self.slice_mask]
            return np.stack([at_nearest(label, self._axes(), self.native_size) for label in acquired])
        scores = (resample_scores(label, self._inverse()) for label in labels[..., self.slice_mask])
        return np.stack([score.argmax(axis=0).astype(np.uint8) for score in scores])

    def to_json(self) -> dict[str, Any]:
        """The placement as JSON, read back by `from_json`."""
        return {
            "native_size": list(self.native_size),
            "affine": self.affine.tolist(),
            "grid_size": list(self.grid.size),
            "grid_spacing_mm": list(self.grid.spacing_mm),
            "slices": self.slices,
            "offset": list(self.offset),
        }

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Placement:
        """The placement that `to_json` wrote."""
        grid = Grid(tuple(content["grid_size"]), tuple(content["grid_spacing_mm"]))
        affine = np.array(content["affine"], dtype=np.float64)
        return cls(tuple(content["native_size"]), affine, grid, content["slices"], tuple(content["offset"]))

    def _pad(self, volumes: NDArray[Any], fill: float = 0) -> NDArray[Any]:
        return crop_pad(volumes, (0, 0, -((self.grid.size[2] - self.slices) // 2)), self.grid.size, fill)

    def _label_frame(self, label: LabelArray, reach_mm: float) -> LabelArray:
        axes, spacing = self._axes(), np.linalg.norm(self.affine[:3, :3], axis=0)
        area = spacing[0] * spacing[1] / (self.grid.spacing_mm[0] * self.grid.spacing_mm[1])
        counts = np.stack([(label == structure).sum(axis=(0, 1)) for structure in STRUCTURES])  # 3 Z
        owed = area * counts @ self._shares().T  # 3 slices
        # The second, smoother score breaks ties on wide plateaus, where two slices disagree.
        scores, wide = (resample_scores(label, axes, reach / float(spacing[0])) for reach in (reach_mm, 20.0))
        held = held_labels(label, axes) if self._is_finer else None
        return owed_labels(scores + 0.02 * wide, owed, held)

    @property
    def _is_finer(self) -> bool:
        """Whether the grid is at least as fine along each axis, so that each native voxel has its own nearest voxel."""
        return all(axis.step <= 1.0 for axis in self._axes())

    def _shares(self) -> FloatArray:
        """Weights ``slices Z`` of native slices in each slab; the last slab also gets what rounding cuts off."""
        slab = self._axes()[2]
        shares = slab.overlap(self.native_size[2])
        shares[-1] += 1.0 / slab.step - shares.sum(axis=0)
        return shares

    def _axes(self) -> Axes:
        """The grid's voxels (in the acquired slices) in voxels of the native grid."""
        native_mm, axes = np.linalg.norm(self.affine[:3, :3], axis=0), []
        for i, offset in enumerate(self.offset):
            size, step = self.native_size[i], self.grid.spacing_mm[i] / float(native_mm[i])
            field = round(size / step)  # the resampled and the native field have the same centre
            axes.append(Axis(self.grid.size[i], (offset + 0.5 - field / 2) * step + size / 2 - 0.5, step))
        step = _slice_step(float(native_mm[2]), self.grid.spacing_mm[2])
        return axes[0], axes[1], Axis(self.slices, 0.5 * step - 0.5, step)

    def _inverse(self) -> Axes:
        x, y, z = (axis.inverse(size) for axis, size in zip(self._axes(), self.native_size, strict=True))
        return x, y, z


def place(study: Study, grid: Grid) -> Placement:
    """Place the heart of ``study``, as found by `heart_centre`, at the centre of ``grid``.

    `DataError` naming the subject if slices, or labels in the plane, would be cut off.
    """
    slices = slices_on_grid(study, grid.spacing_mm[2])
    if slices > grid.size[2]:
        raise _does_not_fit(study, f"{slices} slices of {grid.spacing_mm[2]:g} mm", grid)
    placement = _centred(study, grid)
    if not _labels_fit(study, placement):
        (left, right), (top, bottom) = label_bounds(study)
        width, height = (right - left) * study.spacing_mm[0], (bottom - top) * study.spacing_mm[1]
        raise _does_not_fit(study, f"labels of {width:.0f} x {height:.0f} mm", grid)
    return placement


def slices_on_grid(study: Study, slice_step_mm: float) -> int:
    """Number of slices of ``slice_step_mm`` that a stack fills, rounded, at least one."""
    step = _slice_step(study.spacing_mm[2], slice_step_mm)
    return max(1, int(study.image.shape[3] / step + 0.5 + 1e-6))


def _slice_step(native_mm: float, grid_mm: float) -> float:
    """Slice step of the grid in native slices; slices within 1 % of it are copied, not resampled."""
    return 1.0 if abs(grid_mm / native_mm - 1.0) < 0.01 else grid_mm / native_mm


def _centred(study: Study, grid: Grid) -> Placement:
    """The placement that brings the heart as close as possible to the centre of the grid."""
    _, x, y, z = study.image.shape
    corner = Placement((x, y, z), study.affine, grid, slices_on_grid(study, grid.spacing_mm[2]), (0, 0))
    rows = zip(heart_centre(study), corner._axes()[:2], strict=True)
    x, y = (round((centre - row.start) / row.step - (row.size - 1) / 2) for centre, row in rows)
    return replace(corner, offset=(x, y))


def _labels_fit(study: Study, placement: Placement) -> bool:
    if not study.label.any():
        return True
    for row, bounds in zip(placement._axes()[:2], label_bounds(study), strict=True):
        low, high = ((bound - row.start) / row.step for bound in bounds)
        if low < -0.5 or high > row.size - 0.5:
            return False
    return True


def _does_not_fit(study: Study, found: str, grid: Grid) -> DataError:
    voxels, spacing = "x".join(map(str, grid.size)), "x".join(f"{s:g}" for s in grid.spacing_mm)
    message = f"{study.subject} does not fit the grid: {found}, but the grid has {voxels} voxels of {spacing} mm"
    grids = {name: Grid.from_config(load_config(name).grid) for name in presets()}
    larger = [
        name
        for name, grid in grids.items()
        if slices_on_grid(study, grid.spacing_mm[2]) <= grid.size[2] and _labels_fit(study, _centred(study, grid))
    ]
    hint = f"use a preset with a larger grid: {', '.join(larger)}" if larger else ""
    return DataError(message, hint=hint or "increase grid.size; no preset is large enough")
