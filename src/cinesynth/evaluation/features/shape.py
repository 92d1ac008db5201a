"""The shape of one structure in one frame, from its mask alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import marching_cubes, mesh_surface_area, perimeter_crofton

from cinesynth.types import Label, LabelArray

Mask = NDArray[np.bool_]

HEIGHTS = (0.1, 0.5, 0.9)
"""Where along its own extent the area of a structure is taken: base, middle, apex."""
NAMES = ("volume_ml", "sphericity", "elongation", "flatness", "base_cm2", "middle_cm2", "apex_cm2", "roundness")
WALL_NAMES = ("wall_mean_mm", "wall_sd_mm", "wall_p10_mm", "wall_p90_mm")


def shape_of(mask: Mask, spacing_mm: Sequence[float]) -> NDArray[np.float64]:
    """`NAMES` of an ``X Y Z`` mask; all 0 where it is empty: what is missing has the shape of nothing."""
    if not mask.any():
        return np.zeros(len(NAMES))
    volume_mm3 = float(mask.sum() * np.prod(spacing_mm))
    areas = _areas_mm2(mask, spacing_mm)
    return np.array(
        [
            volume_mm3 / 1000.0,
            np.pi ** (1 / 3) * (6 * volume_mm3) ** (2 / 3) / _surface_mm2(mask, spacing_mm),
            *_axis_ratios(mask, spacing_mm),
            *areas / 100.0,
            _roundness(mask, spacing_mm),
        ]
    )


def wall_of(label: LabelArray, spacing_mm: Sequence[float]) -> NDArray[np.float64]:
    """`WALL_NAMES`: from the edge of the cavity to the outside of the wall, slice by slice in plane; 0 without one."""
    found = [_thickness_mm(label[..., z], spacing_mm) for z in range(label.shape[2])]
    thickness = np.concatenate(found) if found else np.zeros(0)
    if not len(thickness):
        return np.zeros(len(WALL_NAMES))
    return np.array([thickness.mean(), thickness.std(), *np.percentile(thickness, (10, 90))])


def _surface_mm2(mask: Mask, spacing_mm: Sequence[float]) -> float:
    boxed = np.pad(mask[ndimage.find_objects(mask.astype(np.int8))[0]], 1)
    vertices, faces, _, _ = marching_cubes(boxed.astype(np.float32), 0.5, spacing=tuple(spacing_mm))
    return float(mesh_surface_area(vertices, faces))


def _axis_ratios(mask: Mask, spacing_mm: Sequence[float]) -> tuple[float, float]:
    """Second and third principal axis over the first; a voxel has the spread of its own edges."""
    points = np.argwhere(mask) * np.asarray(spacing_mm)
    spread = np.cov(points.T, bias=True) + np.diag(np.square(spacing_mm)) / 12
    third, second, first = np.sqrt(np.linalg.eigvalsh(spread))
    return float(second / first), float(third / first)


def _areas_mm2(mask: Mask, spacing_mm: Sequence[float]) -> NDArray[np.float64]:
    held = np.flatnonzero(mask.any(axis=(0, 1)))
    slices = np.rint(held[0] + np.asarray(HEIGHTS) * (held[-1] - held[0])).astype(int)
    return np.asarray(mask[..., slices].sum(axis=(0, 1)) * spacing_mm[0] * spacing_mm[1], dtype=np.float64)


def _roundness(mask: Mask, spacing_mm: Sequence[float]) -> float:
    """4 pi area / perimeter^2 of the largest slice: 1 for a disc."""
    largest = mask[..., int(mask.sum(axis=(0, 1)).argmax())]
    edge = max(float(perimeter_crofton(largest, directions=4)), 1.0)
    return float(4 * np.pi * largest.sum() / edge**2)


def _thickness_mm(label: LabelArray, spacing_mm: Sequence[float]) -> NDArray[np.float64]:
    cavity, heart = label == Label.LV, (label == Label.LV) | (label == Label.MYO)
    if not cavity.any() or not (label == Label.MYO).any():
        return np.zeros(0)
    edge = cavity & ~ndimage.binary_erosion(cavity)
    outside = ndimage.distance_transform_edt(np.pad(heart, 1), sampling=list(spacing_mm[:2]))
    return np.asarray(outside[1:-1, 1:-1][edge] - spacing_mm[0] / 2, dtype=np.float64)
