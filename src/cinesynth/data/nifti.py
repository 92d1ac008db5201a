"""Reading NIfTI files of any origin: whatever is wrong with a file becomes a `DataError` that names it."""

from __future__ import annotations

import io
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
from nibabel.imageglobals import logger
from nibabel.openers import ImageOpener
from nibabel.orientations import apply_orientation, inv_ornt_aff
from numpy.typing import NDArray

from cinesynth.data.file_faults import (
    damage_hint,
    labels_hint,
    shape_hint,
    spacing_hint,
    values_fault,
    with_either_ending,
)
from cinesynth.data.other_formats import is_other_format, load_other
from cinesynth.data.space import check_slice_axis, credible_place, edges_of, fit, has_one_place, in_mm, permuted
from cinesynth.errors import DataError
from cinesynth.physiology import FRAME_TIME_RANGE_MS
from cinesynth.types import SAME_ORIENTATION, Affine, Label, LabelArray

PLANE_STEP_MM, SLICE_STEP_MM = (0.3, 5.0), (1.0, 30.0)
"""Plausible voxel edges of a short-axis cine, in the plane and through it."""
MAX_GZIP_RATIO = 1100
"""Deflate compresses by a factor of 1032 at most: a file that declares more content is damaged or malicious."""
KINDS: tuple[Any, ...] = (nib.Nifti1Image, nib.Nifti2Image)
HEADER_BYTES, MORE_BYTES = 540, 16 << 20
"""Size of a NIfTI-2 header, and the most that header extensions and trailing bytes may take."""

Numbers = Mapping[int, Label]
"""The meaning of each number in a label file; 0 is always background."""
OUR_NUMBERS: Numbers = {int(label): label for label in Label}
NAMES = {Label.BACKGROUND: "background", Label.RV: "RV cavity", Label.MYO: "LV myocardium", Label.LV: "LV cavity"}
MNMS_NUMBERS: Numbers = {1: Label.LV, 2: Label.MYO, 3: Label.RV}
"""Labels of both M&Ms challenges, the reverse of ACDC's."""

Spacing = tuple[float | None, float | None, float | None]
NO_SPACING: Spacing = (None, None, None)


class Volume(NamedTuple):
    """One file in its own voxel order: ``X Y Z`` or ``X Y Z T``."""

    path: Path
    data: NDArray[Any]
    spacing_mm: tuple[float, ...]
    affine: Affine
    frame_time_ms: float | None
    known_mm: Spacing
    place: Affine | None
    """The header's own affine, where it says where the voxels lie."""
    notes: list[str]
    """What was done to this file, and to others to bring them to its voxel order."""

    @property
    def frames(self) -> NDArray[Any]:
        """The data as ``T X Y Z``; a file without a time axis is one frame."""
        return np.ascontiguousarray(np.moveaxis(self.data, -1, 0)) if self.data.ndim == 4 else self.data[None]

    def onto(self, like: Volume, what: str) -> Volume:
        """This file (``what`` it holds) in the voxel order of ``like``, whose notes tell what was done.

        `DataError` if both headers say where their voxels lie, and these are different places. Sizes and spacing are
        not compared otherwise.
        """
        if self.place is None or like.place is None or np.allclose(self.place, like.place, atol=1e-3):
            return self
        size, edges = self.data.shape[:3], self.spacing_mm
        found = fit(size, self.place, like.data.shape[:3], like.place)
        if not found.fits:
            if permuted(size, found.transform) != like.data.shape[:3]:
                return self  # of another size: the caller names it
            raise DataError(
                f"{self.path} lies up to {found.apart_mm:.3g} mm away from {like.path.name} according to their headers",
                hint=f"take both from the same copy of the dataset; if the voxels fit, save the {what} again with the "
                "header of the image",
            )
        if found.transform == SAME_ORIENTATION:
            return self
        order = np.array(found.transform)
        like.notes.append(f"{what}: {found.axes}, as the headers say")
        return self._replace(
            data=apply_orientation(self.data, order),  # type: ignore[no-untyped-call]
            spacing_mm=permuted(edges, found.transform),
            affine=self.affine @ inv_ornt_aff(order, size),  # type: ignore[no-untyped-call]
            place=self.place @ inv_ornt_aff(order, size),  # type: ignore[no-untyped-call]
        )


def read_volume(path: Path, dimensions: int, known_mm: Spacing = NO_SPACING) -> Volume:
    """A NIfTI file of 3 or 4 dimensions with finite values; `DataError` if it is anything else.

    The spacing is taken from ``pixdim``, because some headers have an identity affine, and the directions from the
    affine. ``known_mm`` replaces the spacing along each axis where it is not None. A file named ``.nii`` is found as
    ``.nii.gz``, and the reverse; MetaImage and NRRD files are read if SimpleITK is installed.
    """
    path = with_either_ending(path)
    if not path.is_file():
        raise DataError(
            f"{path} does not exist or is not a file", hint="copy the dataset again, with all files of each subject"
        )
    return _checked(path, (dimensions,), known_mm)


def read_stack(path: Path) -> Volume:
    """The short-axis stack of one subject, with or without a time axis; otherwise as `read_volume`."""
    if not path.name.endswith((".nii", ".nii.gz")):
        raise DataError(
            f"the name of {path} does not end in .nii or .nii.gz",
            hint="use a NIfTI file: 3D Slicer saves .nrrd and .mha as .nii.gz, and `cinesynth ingest dicom` and "
            "`export --to nifti` convert DICOM",
        )
    if not path.is_file():
        raise DataError(f"{path} does not exist or is not a file", hint="use the .nii or .nii.gz of a short-axis stack")
    return _checked(path, (3, 4), NO_SPACING)


def _checked(path: Path, dimensions: tuple[int, ...], known_mm: Spacing) -> Volume:
    """The volume in a file; `DataError` unless it has so many dimensions and plausible content."""
    data, pixdim, affine, has_code, frame_time_ms = _load(path)
    if dimensions == (3,) and data.ndim == 4 and data.shape[3] == 1:
        data = data[..., 0]
    if data.ndim not in dimensions or min(data.shape) < 1:
        expected = " or ".join(f"{n} ({'x y z' if n == 3 else 'x y z time'})" for n in dimensions)
        raise DataError(
            f"{path} has {data.ndim} dimensions {data.shape}, expected {expected}",
            hint=shape_hint(data),
        )
    if fault := values_fault(data):
        raise DataError(f"{path} holds {fault[0]}", hint=fault[1])
    check_slice_axis(path, data.shape)
    header_mm, notes = edges_of(path, pixdim, affine, known_mm)
    spacing_mm = tuple(step if known is None else known for known, step in zip(known_mm, header_mm, strict=True))
    if not is_plausible_spacing(spacing_mm):
        raise DataError(
            f"{path} has voxels of {in_mm(spacing_mm)}", hint=spacing_hint(spacing_mm, PLANE_STEP_MM, SLICE_STEP_MM)
        )
    # directions from the header, scaled to the spacing
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    if not np.isfinite(affine).all() or lengths.min() <= 0 or abs(np.linalg.det(affine[:3, :3] / lengths)) < 0.5:
        raise DataError(f"{path} has a degenerate affine", hint="correct the sform or qform of the header")
    place = credible_place(affine.copy(), pixdim, has_code)
    affine[:3, :3] *= np.array(spacing_mm) / lengths
    return Volume(path, data, spacing_mm, affine, frame_time_ms, known_mm, place, notes)


def is_plausible_spacing(spacing_mm: Sequence[float]) -> bool:
    """Whether a short-axis cine can have voxels with these edges, ``X Y Z``."""
    ranges = (PLANE_STEP_MM, PLANE_STEP_MM, SLICE_STEP_MM)
    return all(low <= step <= high for step, (low, high) in zip(spacing_mm, ranges, strict=True))


def _load(path: Path) -> tuple[NDArray[Any], tuple[float, ...], Affine, bool, float | None]:
    """Voxels, ``pixdim``, affine, whether that has a code, and frame time; not checked yet."""
    if is_other_format(path):
        return load_other(path)
    try:
        with _silence():
            image: Any = _whole_file(path) or nib.load(path)
        _promised_bytes(path, image.header)
        place = image.file_map.get("header", image.file_map["image"])
        with place.get_prepare_fileobj("rb") as file:  # nibabel has replaced voxel edges of 0 by 1
            written = type(image.header).from_fileobj(file, check=False)
        edges_mm = tuple(abs(float(edge)) for edge in written["pixdim"][1:4])
        affine = np.array(image.affine, dtype=np.float64)
        has_code = has_one_place(image)
        return np.asanyarray(image.dataobj), edges_mm, affine, has_code, _frame_time_ms(image.header)
    except MemoryError:  # reported by the caller, who knows how many files are read at once
        raise
    except Exception as error:  # a damaged header can make the parser raise anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{path} cannot be read: {reason}", hint=damage_hint(path)) from error


def _whole_file(path: Path) -> Any:
    """The image of a file that holds header and voxels, unpacked once; None for another format.

    ``ValueError``, or an error of unpacking, if the file is not as long as its header says: it is read to its end,
    where gzip has its checksum.
    """
    content = io.BytesIO()
    with ImageOpener(str(path)) as file:
        size = content.write(start := file.read(HEADER_BYTES))
        kind = next((kind for kind in KINDS if kind.header_class.may_contain_header(start)), None)
        header = kind.header_class(start[: kind.header_class.sizeof_hdr], check=False) if kind else None
        if kind is None or header is None or not header["magic"].item().startswith(b"n+"):
            return None
        begin = int(header.get_data_offset())
        if begin > MORE_BYTES:
            raise ValueError(f"its header declares {begin / 2**20:.0f} MiB before the voxels")
        end = begin + _promised_bytes(path, header)
        while size <= end + MORE_BYTES and (block := file.read(1 << 20)):
            size += content.write(block)
    if not end <= size <= end + MORE_BYTES:
        raise ValueError(f"it holds {'more than ' if size > end else ''}{min(size, end)} bytes of {end}")
    content.seek(0)
    return kind.from_stream(content)


def _promised_bytes(path: Path, header: Any) -> int:
    """Size of the voxels according to the header; ``ValueError`` if the file cannot hold that much.

    More than 4 GiB is no cine: 50 frames of 20 slices of 512 x 512 doubles take 2 GiB.
    """
    promised = math.prod(int(n) for n in header.get_data_shape()) * int(header.get_data_dtype().itemsize)
    if promised > min(4 << 30, MAX_GZIP_RATIO * path.stat().st_size):
        raise ValueError(f"its header declares {promised / 2**20:.0f} MiB of voxels")
    return promised


@contextmanager
def _silence() -> Iterator[None]:
    """Silence nibabel's warnings about headers that it repairs; the results are checked here."""
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(level)


def read_label(path: Path, like: Volume, numbers: Numbers = OUR_NUMBERS) -> LabelArray:
    """The labels ``X Y Z`` of a file without time; otherwise as `read_labels`."""
    frame: LabelArray = read_labels(path, like, numbers, dimensions=3)[0]
    return frame


def read_labels(path: Path, like: Volume, numbers: Numbers = OUR_NUMBERS, dimensions: int = 4) -> LabelArray:
    """The labels ``T X Y Z`` of a file with one label per frame of ``like``, in its voxel order, translated by
    ``numbers``.

    `DataError` unless place, shape and spacing agree with those of ``like``, or if the file holds another number.
    """
    label, shape = read_volume(path, dimensions, like.known_mm).onto(like, "label"), like.data.shape[:dimensions]
    hint = "label and image must have the same grid: take both from the same copy of the dataset"
    if label.data.shape != shape:
        raise DataError(
            f"{label.path} has {label.data.shape} voxels, its image {like.path.name} has {shape}", hint=hint
        )
    if not np.allclose(label.spacing_mm, like.spacing_mm, rtol=0.01):
        edges = f"{label.spacing_mm} mm, its image {like.path.name} of {like.spacing_mm} mm"
        raise DataError(f"{label.path} has voxels of {edges}", hint=hint)
    found = _occurring(label.data)
    whole = np.rint(found)
    meaning = {0: Label.BACKGROUND, **numbers}
    # a scale factor in the header leaves label numbers slightly off
    if np.abs(found - whole).max() > 1e-3 or not {int(n) for n in whole} <= set(meaning):
        names = ", ".join(f"{n} {NAMES[structure]}" for n, structure in sorted(meaning.items()))
        text = f"{label.path} holds the labels {', '.join(f'{v:.3g}' for v in found[:8])}"
        raise DataError(f"{text}{', ...' * (len(found) > 8)}", hint=labels_hint(found, names))
    ours = {value: np.uint8(meaning[int(number)].value) for value, number in zip(found, whole, strict=True) if number}
    frames = label.frames
    if np.issubdtype(frames.dtype, np.integer) and all(value == number for value, number in ours.items()):
        return frames.astype(np.uint8)
    result = np.zeros(frames.shape, dtype=np.uint8)
    for translated, frame in zip(result, frames, strict=True):
        for value, number in ours.items():
            translated |= (frame == value) * number
    return result


def _occurring(data: NDArray[Any]) -> NDArray[Any]:
    """The numbers that a file holds, ascending; far faster than `np.unique` where it can hold few."""
    low, high = data.min(), data.max()
    if np.issubdtype(data.dtype, np.integer) and int(high) - int(low) < 32:
        return np.array([n for n in range(int(low), int(high) + 1) if (data == n).any()])
    return np.unique(data.ravel(order="K"))


def _frame_time_ms(header: Any) -> float | None:
    """``pixdim[4]`` in milliseconds if it is a plausible frame time; many files have a placeholder of 1."""
    zooms = tuple(float(z) for z in header.get_zooms())
    if len(zooms) < 4:
        return None
    unit = header.get_xyzt_units()[1]
    scales = {"sec": [1000.0], "msec": [1.0], "usec": [0.001]}.get(unit, [1000.0, 1.0])
    low, high = FRAME_TIME_RANGE_MS
    plausible = [zooms[3] * scale for scale in scales if low <= zooms[3] * scale <= high]
    return plausible[0] if plausible else None
