"""What a file of voxels holds instead of what is expected, and what its owner can do about it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cinesynth.physiology import SLICE_RANGE

DAMAGED = "the file is damaged: copy it again"
PACKED, PLAIN = ".nii.gz", ".nii"
READABLE = (PACKED, PLAIN, ".hdr", ".img", ".hdr.gz", ".img.gz")
GZIP = b"\x1f\x8b"
MIN_FRAMES = 6
"""Of a cycle; fewer slices could be alike."""
COARSE = 4
"""Every fourth row and column show as well whether two images are alike."""
ALIKE = 0.88
"""Correlation above which two images are frames of one slice."""


def other_ending(name: str) -> str:
    """``name`` with ``.nii`` in place of ``.nii.gz``, or the reverse; empty if it ends in neither."""
    if name.endswith(PACKED):
        return name.removesuffix(PACKED) + PLAIN
    return name.removesuffix(PLAIN) + PACKED if name.endswith(PLAIN) else ""


def with_either_ending(path: Path) -> Path:
    """``path``, or the file that differs from it only in being compressed or not, if only that one is there."""
    if path.is_file() or not (other := other_ending(path.name)):
        return path
    twin = path.with_name(other)
    return twin if twin.is_file() else path


def damage_hint(path: Path) -> str:
    """What to do about a file that cannot be read: its name may hide that it is compressed, or of another format."""
    if not path.name.endswith(READABLE):
        return "save it as NIfTI (.nii.gz); MetaImage (.mha) and NRRD (.nrrd) are read, too"
    try:
        with path.open("rb") as file:
            start = file.read(4)
    except OSError:
        return DAMAGED
    if path.name.endswith(".gz") and start in (b"\x5c\x01\0\0", b"\0\0\x01\x5c", b"\x1c\x02\0\0", b"\0\0\x02\x1c"):
        return f"it is not compressed: rename it to {other_ending(path.name) or path.stem}"
    if path.name.endswith(PLAIN) and start[:2] == GZIP:
        return f"it is compressed: rename it to {path.name}.gz"
    return DAMAGED


def shape_hint(data: NDArray[Any]) -> str:
    """What to do about a file whose voxels ``data`` have other axes than are expected."""
    shape = data.shape
    if len(shape) > 4:
        if set(shape[3:-1]) == {1}:
            return (
                "its last axis holds the frames, as TorchIO and ITK write them: save "
                "nib.Nifti1Image(numpy.asanyarray(image.dataobj)"
                f"[:, :, :, {', '.join('0' for _ in shape[3:-1])}], image.affine)"
            )
        return "it holds several channels: save one of them, with the axes x y z time"
    if len(shape) < 3:
        return "it is a single slice: use the short-axis stack; {slice} in a layout makes a stack of such files"
    if len(shape) == 3:
        hint = (
            "it holds one frame: use the file of the whole cycle; a layout also takes files of single frames "
            "(ed and es under image or label, or {frame} in the names)"
        )
        if shape[2] > SLICE_RANGE[1] or is_slice_over_time(data):
            return f"its third axis is time? save it as x y 1 time, and use {{slice}} in a layout; otherwise {hint}"
        return hint
    if np.allclose(data.sum(axis=3), 1.0, atol=0.01):
        return (
            "it holds a channel for each label (one-hot, or probabilities): save the number of the largest, "
            "numpy.argmax(image.dataobj, axis=3).astype('uint8')"
        )
    return "it holds a whole cycle: save the frame, image.slicer[..., 0]; a layout takes whole cycles, too"


def labels_hint(found: NDArray[Any], allowed: str) -> str:
    """What to do about a label file that holds the numbers ``found``, where ``allowed`` lists others."""
    if np.abs(found - np.rint(found)).max() > 1e-3:
        return (
            "numbers between labels are probabilities, or come from resampling with interpolation: save the most "
            f"probable label, or resample with nearest neighbours; allowed are {allowed}"
        )
    return f"allowed are {allowed}; the key labels of a layout states other numbers"


def values_fault(data: NDArray[Any]) -> tuple[str, str] | None:
    """What is wrong with the values of a file, and what to do; None if they are finite real numbers."""
    if np.issubdtype(data.dtype, np.integer):
        return None
    if not np.issubdtype(data.dtype, np.number):
        return "colours, not numbers", "save one grey value a voxel"
    if np.iscomplexobj(data):
        return "complex numbers", "save their magnitude, numpy.abs(image.dataobj)"
    finite = np.isfinite(data)
    if finite.all():
        return None
    share = 100.0 * (1.0 - float(finite.mean()))
    return (
        f"values that are not finite numbers (NaN or infinite in {share:.2g} % of the voxels)",
        "if these are padding, save numpy.nan_to_num(image.dataobj, posinf=0, neginf=0); "
        "otherwise the file is damaged: copy it again",
    )


def spacing_hint(spacing_mm: Sequence[float], plane_mm: tuple[float, float], slice_mm: tuple[float, float]) -> str:
    """What to do about voxel edges ``X Y Z`` that no short-axis stack has: slices along another axis, or a header."""
    expected = (
        f"expected {plane_mm[0]:g}-{plane_mm[1]:g} mm in the plane and slices of {slice_mm[0]:g}-{slice_mm[1]:g} mm: "
    )
    for axis in (0, 1):
        order = [each for each in range(3) if each != axis]
        x, y, z = (spacing_mm[each] for each in (*order, axis))
        if all(plane_mm[0] <= edge <= plane_mm[1] for edge in (x, y)) and slice_mm[0] <= z <= slice_mm[1]:
            return expected + slice_axis_hint(axis)
    for unit, factor in (("metres", 1e3), ("micrometres", 1e-3)):
        x, y, z = (factor * edge for edge in spacing_mm)
        if all(plane_mm[0] <= edge <= plane_mm[1] for edge in (x, y)) and slice_mm[0] <= z <= slice_mm[1]:
            return expected + f"these seem to be {unit}: save pixdim and affine in millimetres"
    return expected + "correct pixdim in the header"


def slice_axis_hint(axis: int) -> str:
    """What to do about a stack whose slices lie along another axis (zero-based) than the third."""
    order = (*(each for each in range(3) if each != axis), axis)
    becomes = [[order.index(each), 1] for each in range(3)]
    return f"the slices lie along axis {axis + 1}: save image.as_reoriented({becomes})"


def is_slice_over_time(data: NDArray[Any]) -> bool:
    """Whether ``X Y N`` holds the frames of one slice, not the slices of a stack.

    Neighbouring frames are alike, and the last is again like the first. In 160 single slices of real cines these
    correlations are at least .91; in 474 real stacks that of the first and last slice is .71 at most.
    """
    if data.ndim != 3 or data.shape[2] < MIN_FRAMES:
        return False
    frames = data[::COARSE, ::COARSE].reshape(-1, data.shape[2]).astype(np.float32)  # X Y, N
    if not (frames.std(axis=0) > 0).all():
        return False
    alike = np.atleast_2d(np.corrcoef(frames, rowvar=False))  # N N
    return bool(np.diagonal(alike, 1).min() > ALIKE and alike[0, -1] > ALIKE)
