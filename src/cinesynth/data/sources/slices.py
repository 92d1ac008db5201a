"""A stack of files that hold a slice each: ``X Y 1 T``, as converters write them where each slice is a series."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cinesynth.data.nifti import Numbers, Spacing, Volume, read_labels, read_volume
from cinesynth.errors import DataError
from cinesynth.types import LabelArray

MAX_SHIFT_MM = 1.0
"""Largest distance of a slice from the line through the first slice, and of a step from the others."""


def read_slices(paths: Mapping[float, Path], known_mm: Spacing) -> list[Volume]:
    """The files of the slices (by number), in the order of the stack.

    Their order and distance come from their positions. Where all files have one position, their numbers are the order,
    and the third of ``known_mm`` (see `read_volume`) is the distance. `DataError` unless they are slices of one stack
    at equal distances.
    """
    volumes = [read_volume(path, 4, known_mm) for path in paths.values()]
    first, step_mm = volumes[0], known_mm[2]
    for other in volumes:
        if other.data.shape != first.data.shape or other.data.shape[2] != 1:
            raise DataError(
                f"{other.path} has {other.data.shape} voxels, expected one slice as {first.path.name}: "
                f"{(*first.data.shape[:2], 1, first.data.shape[3])}",
                hint="a layout with {slice} stacks files x y 1 time that have as many frames; leave others out",
            )
        if not np.allclose(other.affine[:3, :2], first.affine[:3, :2], atol=0.01):
            raise DataError(
                f"{other.path} and {first.path.name} differ in direction or voxel size, according to their headers",
                hint="leave out the files that are not of the short-axis stack: make the pattern more specific",
            )
    along = _positions_mm(volumes)
    if np.ptp(along) < MAX_SHIFT_MM and step_mm and len(volumes) > 1:
        return volumes
    order = np.argsort(along)
    steps = np.diff(along[order])
    if len(volumes) < 2 or steps.min() < MAX_SHIFT_MM or np.ptp(steps) > MAX_SHIFT_MM:
        raise DataError(
            f"{first.path} and {len(volumes) - 1} more files of slices lie {', '.join(f'{s:.1f}' for s in steps)} mm "
            "apart according to their headers, expected equal steps",
            hint="copy all slices, each once; where headers have lost the positions, give the third edge of spacing_mm "
            "in the layout, and {slice} numbers the slices in order",
        )
    return [volumes[place] for place in order]


def stacked(slices: list[Volume], step_mm: float | None) -> Volume:
    """The slices of `read_slices` as one volume ``X Y Z T``."""
    first, along = slices[0], _positions_mm(slices)
    step = step_mm or float(np.diff(along).mean())
    affine = first.affine.copy()
    affine[:3, 2] *= step / np.linalg.norm(affine[:3, 2])
    return first._replace(
        data=np.concatenate([volume.data for volume in slices], axis=2),
        spacing_mm=(*first.spacing_mm[:2], step),
        affine=affine,
        known_mm=(*first.known_mm[:2], step),
        place=None if first.place is None else affine,
    )


def read_slice_labels(
    paths: Mapping[float, Path], images: Mapping[Path, float], slices: list[Volume], numbers: Numbers
) -> LabelArray:
    """Labels ``T X Y Z`` of the ``slices``, from files with the numbers of their images; a slice without one is 0."""
    label = np.zeros((slices[0].data.shape[3], *slices[0].data.shape[:2], len(slices)), dtype=np.uint8)
    for z, volume in enumerate(slices):
        if path := paths.get(images[volume.path]):
            label[..., z] = read_labels(path, volume, numbers)[..., 0]
    return label


def _positions_mm(volumes: list[Volume]) -> NDArray[np.float64]:
    """Distance of each slice from the first one along the normal; `DataError` if it lies beside that line."""
    first = volumes[0]
    normal = np.cross(first.affine[:3, 0], first.affine[:3, 1])
    normal *= np.sign(normal @ first.affine[:3, 2]) / np.linalg.norm(normal)
    along = np.zeros(len(volumes))
    for place, volume in enumerate(volumes):
        offset = volume.affine[:3, 3] - first.affine[:3, 3]
        along[place] = offset @ normal
        if np.linalg.norm(offset - along[place] * normal) > MAX_SHIFT_MM:
            raise DataError(
                f"{volume.path} lies beside the stack of {first.path.name}, according to their headers",
                hint="leave out the files that are not of the short-axis stack: make the pattern more specific",
            )
    return along
