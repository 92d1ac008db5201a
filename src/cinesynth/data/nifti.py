"""Reading NIfTI files from the wild: whatever is wrong with one becomes a `DataError` that names it."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from cinesynth.errors import DataError
from cinesynth.types import Affine, LabelArray

UNREADABLE = (OSError, EOFError, zlib.error, ImageFileError, HeaderDataError, ValueError)
PLANE_STEP_MM, SLICE_STEP_MM = (0.3, 5.0), (1.0, 30.0)
"""Voxel edges that a short-axis cine can have."""


@dataclass(frozen=True)
class Volume:
    """One file as it lies on disk: ``X Y Z`` or ``X Y Z T``."""

    path: Path
    data: NDArray[Any]
    spacing_mm: tuple[float, ...]
    affine: Affine
    frame_time_ms: float | None


def read_volume(path: Path, dimensions: int) -> Volume:
    """A NIfTI of 3 or 4 dimensions with finite values.

    ``pixdim`` is the authority on spacing: some headers carry an affine of ones. Directions come from the affine.
    """
    if not path.is_file():
        raise DataError(f"{path} is missing", hint="copy the whole dataset again, with all files of each subject")
    try:
        image: Any = nib.load(path)
        data = np.asanyarray(image.dataobj)
        zooms = tuple(float(z) for z in image.header.get_zooms())
        affine = np.asarray(image.affine, dtype=np.float64)
    except UNREADABLE as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{path} cannot be read: {reason}", hint="the file is damaged: copy it again") from error
    if data.ndim != dimensions or min(data.shape) < 1:
        expected = "x y z" if dimensions == 3 else "x y z time"
        raise DataError(
            f"{path} has {data.ndim} dimensions {data.shape}, expected {dimensions} ({expected})",
            hint="give the short-axis stack, not one slice of it",
        )
    _check_values(path, data, zooms)
    return Volume(path, data, zooms[:3], _affine(path, affine, zooms), _frame_time_ms(image.header, zooms))


def read_label(path: Path, like: Volume) -> LabelArray:
    """Labels 0-3 ``X Y Z`` on the grid of ``like``, whose first three dimensions and spacing must agree."""
    label = read_volume(path, 3)
    if label.data.shape != like.data.shape[:3]:
        raise DataError(
            f"{path} has {label.data.shape} voxels, its image {like.path.name} has {like.data.shape[:3]}",
            hint="label and image must lie on one grid: take both from the same copy of the dataset",
        )
    if not np.allclose(label.spacing_mm, like.spacing_mm, rtol=0.01):
        raise DataError(
            f"{path} has voxels of {label.spacing_mm} mm, its image {like.path.name} of {like.spacing_mm} mm",
            hint="label and image must lie on one grid: take both from the same copy of the dataset",
        )
    found = np.unique(label.data)
    if not np.isin(found, (0, 1, 2, 3)).all():
        raise DataError(
            f"{path} holds the labels {', '.join(f'{v:g}' for v in found[:8])}",
            hint="expected 0 background, 1 RV cavity, 2 LV myocardium, 3 LV cavity",
        )
    return label.data.astype(np.uint8)


def _check_values(path: Path, data: NDArray[Any], zooms: tuple[float, ...]) -> None:
    if not np.issubdtype(data.dtype, np.number) or not np.isfinite(data).all():
        raise DataError(f"{path} holds values that are not finite numbers", hint="the file is damaged: copy it again")
    ranges = (PLANE_STEP_MM, PLANE_STEP_MM, SLICE_STEP_MM)
    for step, (low, high) in zip(zooms, ranges, strict=False):
        if not low <= step <= high:
            raise DataError(
                f"{path} has voxels of {' x '.join(f'{z:g}' for z in zooms[:3])} mm",
                hint=f"a short-axis cine has {PLANE_STEP_MM[0]:g}-{PLANE_STEP_MM[1]:g} mm in the plane and slices "
                f"of {SLICE_STEP_MM[0]:g}-{SLICE_STEP_MM[1]:g} mm: correct pixdim in the header",
            )


def _affine(path: Path, affine: Affine, zooms: tuple[float, ...]) -> Affine:
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    if not np.isfinite(affine).all() or lengths.min() <= 0 or abs(np.linalg.det(affine[:3, :3] / lengths)) < 0.5:
        raise DataError(f"{path} has an affine that spans no volume", hint="correct the sform or qform of the header")
    result = affine.copy()
    result[:3, :3] *= np.array(zooms[:3]) / lengths
    return result


def _frame_time_ms(header: Any, zooms: tuple[float, ...]) -> float | None:
    """``pixdim[4]`` where it can be a frame time; many files carry a placeholder of 1."""
    if len(zooms) < 4:
        return None
    unit = header.get_xyzt_units()[1]
    scales = {"sec": [1000.0], "msec": [1.0], "usec": [0.001]}.get(unit, [1000.0, 1.0])
    plausible = [zooms[3] * scale for scale in scales if 10.0 <= zooms[3] * scale <= 150.0]
    return plausible[0] if plausible else None
