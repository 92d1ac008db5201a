"""Reading NIfTI files from the wild: whatever is wrong with one becomes a `DataError` that names it."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.imageglobals import logger
from nibabel.openers import ImageOpener
from numpy.typing import NDArray

from cinesynth.errors import DataError
from cinesynth.physiology import FRAME_TIME_RANGE_MS
from cinesynth.types import Affine, Label, LabelArray

PLANE_STEP_MM, SLICE_STEP_MM = (0.3, 5.0), (1.0, 30.0)
"""Voxel edges that a short-axis cine can have."""
SQUEEZE = 1100
"""No gzip file grows more than this when unpacked: a header that promises more voxels lies."""
LARGEST_BYTES = 4 << 30
"""No cine is larger: 50 frames of 20 slices of 512 x 512 doubles are half of it."""
HEADERS: tuple[Any, ...] = (nib.Nifti1Header, nib.Nifti2Header)
HEADER_BYTES, MORE_BYTES = 540, 16 << 20
"""Of the longer kind of header, and of what else a file may hold: the remarks of programs."""
ALMOST_WHOLE = 1e-3
"""Label numbers of files with a scale factor are off by rounding."""

Numbers = Mapping[int, Label]
"""What each number of a label file means; 0 is always background."""
OUR_NUMBERS: Numbers = {int(label): label for label in Label}
MNMS_NUMBERS: Numbers = {1: Label.LV, 2: Label.MYO, 3: Label.RV}
"""The order of both M&Ms challenges, the reverse of ACDC's."""

Spacing = tuple[float | None, float | None, float | None]
NO_SPACING: Spacing = (None, None, None)


@dataclass(frozen=True)
class Volume:
    """One file as it lies on disk: ``X Y Z`` or ``X Y Z T``."""

    path: Path
    data: NDArray[Any]
    spacing_mm: tuple[float, ...]
    affine: Affine
    frame_time_ms: float | None
    known_mm: Spacing = NO_SPACING

    @property
    def frames(self) -> NDArray[Any]:
        """``T X Y Z``; a file without time is one frame."""
        return np.ascontiguousarray(np.moveaxis(self.data, -1, 0)) if self.data.ndim == 4 else self.data[None]


def read_volume(path: Path, dimensions: int, known_mm: Spacing = NO_SPACING) -> Volume:
    """A NIfTI of 3 or 4 dimensions with finite values.

    ``pixdim`` is the authority on spacing: some headers carry an affine of ones. Directions come from the affine.
    ``known_mm`` overrules the header edge by edge, where the true spacing is known.
    """
    if not path.is_file():
        raise DataError(
            f"{path} is missing, or no file", hint="copy the whole dataset again, with all files of each subject"
        )
    data, header_mm, affine, frame_time_ms = _load(path)
    if dimensions == 3 and data.ndim == 4 and data.shape[3] == 1:
        data = data[..., 0]
    if data.ndim != dimensions or min(data.shape) < 1:
        expected = "x y z" if dimensions == 3 else "x y z time"
        raise DataError(
            f"{path} has {data.ndim} dimensions {data.shape}, expected {dimensions} ({expected})",
            hint="give the short-axis stack, not one slice of it",
        )
    spacing_mm = tuple(step if known is None else known for known, step in zip(known_mm, header_mm, strict=True))
    _check_values(path, data, spacing_mm)
    return Volume(path, data, spacing_mm, _affine(path, affine, spacing_mm), frame_time_ms, known_mm)


def read_stack(path: Path) -> Volume:
    """One patient's short-axis stack with or without time, as `read_volume` reads it."""
    if not path.name.endswith((".nii", ".nii.gz")):
        raise DataError(
            f"{path} is not a NIfTI file by its name",
            hint="give a .nii or .nii.gz; `cinesynth ingest dicom` and `export --to nifti` make them of DICOM",
        )
    if not path.is_file():
        raise DataError(f"{path} is missing, or no file", hint="give the .nii or .nii.gz of a short-axis stack")
    data, spacing_mm, affine, frame_time_ms = _load(path)
    if data.ndim not in (3, 4) or min(data.shape) < 1:
        raise DataError(
            f"{path} has {data.ndim} dimensions {data.shape}, expected 3 (x y z) or 4 (x y z time)",
            hint="give the short-axis stack, not one slice of it",
        )
    _check_values(path, data, spacing_mm)
    return Volume(path, data, spacing_mm, _affine(path, affine, spacing_mm), frame_time_ms)


def read_label(path: Path, like: Volume, numbers: Numbers = OUR_NUMBERS) -> LabelArray:
    """Our labels ``X Y Z`` on the grid of ``like``, whose first three dimensions and spacing must agree.

    ``numbers`` says what those of the file mean; a number that it does not name is an error.
    """
    label = read_volume(path, 3, like.known_mm)
    _check_grid(label, like, like.data.shape[:3])
    frame: LabelArray = _translate(label, numbers)[0]
    return frame


def read_labels(path: Path, like: Volume, numbers: Numbers = OUR_NUMBERS) -> LabelArray:
    """Our labels ``T X Y Z`` of a file with time, one of each frame of ``like``; else as `read_label`."""
    label = read_volume(path, 4, like.known_mm)
    _check_grid(label, like, like.data.shape)
    return _translate(label, numbers)


def _load(path: Path) -> tuple[NDArray[Any], tuple[float, ...], Affine, float | None]:
    """Voxels, voxel edges, affine and frame time, whatever they are."""
    try:
        with _silence():
            _check_content(path)
            image: Any = nib.load(path)
        _promised_bytes(path, image.header)
        affine = np.asarray(image.affine, dtype=np.float64)
        return np.asanyarray(image.dataobj), _edges_mm(image), affine, _frame_time_ms(image.header)
    except MemoryError:  # told where it is known how much is read at once
        raise
    except Exception as error:  # a damaged header fails in any way that a parser can
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{path} cannot be read: {reason}", hint="the file is damaged: copy it again") from error


def _check_content(path: Path) -> None:
    """``ValueError``, or what unpacking raises, unless a file of header and voxels is as long as its header says.

    It is read to its end without being kept: nobody else gets that far, and gzip compares its checksum only there.
    """
    with ImageOpener(str(path)) as file:
        start = file.read(HEADER_BYTES)
        kind = next((kind for kind in HEADERS if kind.may_contain_header(start)), None)
        header = kind(start[: kind.sizeof_hdr], check=False) if kind else None
        if header is None or not header["magic"].item().startswith(b"n+"):
            return  # another format, or voxels in a file of their own
        begin, size = int(header.get_data_offset()), len(start)
        if begin > MORE_BYTES:
            raise ValueError(f"its header promises {begin / 2**20:.0f} MiB before the voxels")
        end = begin + _promised_bytes(path, header)
        while size <= end + MORE_BYTES and (block := file.read(1 << 20)):
            size += len(block)
    if not end <= size <= end + MORE_BYTES:
        raise ValueError(f"it holds {'more than ' if size > end else ''}{min(size, end)} bytes of {end}")


def _promised_bytes(path: Path, header: Any) -> int:
    """Size of the voxels; ``ValueError`` if the file cannot hold them."""
    promised = math.prod(int(n) for n in header.get_data_shape()) * int(header.get_data_dtype().itemsize)
    if promised > min(LARGEST_BYTES, SQUEEZE * path.stat().st_size):
        raise ValueError(f"its header promises {promised / 2**20:.0f} MiB of voxels")
    return promised


@contextmanager
def _silence() -> Iterator[None]:
    """Without nibabel's remarks on headers that it mends: they are checked here."""
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(level)


def _edges_mm(image: Any) -> tuple[float, ...]:
    """Voxel edges as they were written: nibabel makes ones of zeros."""
    place = image.file_map.get("header", image.file_map["image"])
    with place.get_prepare_fileobj("rb") as file:
        header = type(image.header).from_fileobj(file, check=False)
    return tuple(abs(float(edge)) for edge in header["pixdim"][1:4])


def _check_grid(label: Volume, image: Volume, shape: tuple[int, ...]) -> None:
    hint = "label and image must lie on one grid: take both from the same copy of the dataset"
    if label.data.shape != shape:
        found = f"{label.path} has {label.data.shape} voxels, its image {image.path.name} has {shape}"
        raise DataError(found, hint=hint)
    if not np.allclose(label.spacing_mm, image.spacing_mm, rtol=0.01):
        found = (
            f"{label.path} has voxels of {label.spacing_mm} mm, its image {image.path.name} of {image.spacing_mm} mm"
        )
        raise DataError(found, hint=hint)


def _translate(label: Volume, numbers: Numbers) -> LabelArray:
    """The label's numbers as ours, ``T X Y Z``."""
    found = np.unique(label.data)
    whole = np.rint(found)
    meaning = {0: Label.BACKGROUND, **numbers}
    if np.abs(found - whole).max() > ALMOST_WHOLE or not {int(n) for n in whole} <= set(meaning):
        names = ", ".join(f"{n} {_NAMES[structure]}" for n, structure in sorted(meaning.items()))
        raise DataError(
            f"{label.path} holds the labels {', '.join(f'{v:g}' for v in found[:8])}", hint=f"expected {names}"
        )
    ours = np.array([meaning[int(n)] for n in whole], dtype=np.uint8)
    frames: LabelArray = ours[np.searchsorted(whole, np.rint(label.frames))]
    return frames


_NAMES = {
    Label.BACKGROUND: "background",
    Label.RV: "RV cavity",
    Label.MYO: "LV myocardium",
    Label.LV: "LV cavity",
}


def _check_values(path: Path, data: NDArray[Any], spacing_mm: tuple[float, ...]) -> None:
    if not np.issubdtype(data.dtype, np.number) or np.iscomplexobj(data) or not np.isfinite(data).all():
        raise DataError(f"{path} holds values that are not finite numbers", hint="the file is damaged: copy it again")
    ranges = (PLANE_STEP_MM, PLANE_STEP_MM, SLICE_STEP_MM)
    for step, (low, high) in zip(spacing_mm, ranges, strict=True):
        if not low <= step <= high:
            raise DataError(
                f"{path} has voxels of {' x '.join(f'{z:g}' for z in spacing_mm)} mm",
                hint=f"a short-axis cine has {PLANE_STEP_MM[0]:g}-{PLANE_STEP_MM[1]:g} mm in the plane and slices "
                f"of {SLICE_STEP_MM[0]:g}-{SLICE_STEP_MM[1]:g} mm: correct pixdim in the header",
            )


def _affine(path: Path, affine: Affine, spacing_mm: tuple[float, ...]) -> Affine:
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    if not np.isfinite(affine).all() or lengths.min() <= 0 or abs(np.linalg.det(affine[:3, :3] / lengths)) < 0.5:
        raise DataError(f"{path} has an affine that spans no volume", hint="correct the sform or qform of the header")
    result = affine.copy()
    result[:3, :3] *= np.array(spacing_mm) / lengths
    return result


def _frame_time_ms(header: Any) -> float | None:
    """``pixdim[4]`` where it can be a frame time; many files carry a placeholder of 1."""
    zooms = tuple(float(z) for z in header.get_zooms())
    if len(zooms) < 4:
        return None
    unit = header.get_xyzt_units()[1]
    scales = {"sec": [1000.0], "msec": [1.0], "usec": [0.001]}.get(unit, [1000.0, 1.0])
    low, high = FRAME_TIME_RANGE_MS
    plausible = [zooms[3] * scale for scale in scales if low <= zooms[3] * scale <= high]
    return plausible[0] if plausible else None
