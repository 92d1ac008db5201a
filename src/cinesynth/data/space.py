"""What NIfTI headers say of size and place, and whether two files show the same place, in millimetres.

Tools that save a label or a frame may mirror or exchange its axes, and say so in the header alone. Where both headers
are credible, the second file is brought to the voxel order of the first, or found to lie elsewhere. A header without a
place is no evidence: no code, edges of 1 mm beside others in ``pixdim``, axes of the scanner with the origin at 0, as
in ACDC, or two places, because sform and qform differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from nibabel.orientations import inv_ornt_aff, io_orientation

from cinesynth.data.file_faults import slice_axis_hint
from cinesynth.errors import DataError
from cinesynth.types import SAME_ORIENTATION, Affine, Orientation

SAME_VOXEL = 0.6
"""Distance in voxels up to which two voxels count as one: some tools mean a voxel's centre and others its corner."""


class Fit(NamedTuple):
    """How a file lies on the grid of another."""

    transform: Orientation
    """What brings its axes to those of the other."""
    apart_mm: float
    """Largest distance between the corners of the two grids after that."""
    fits: bool
    """Whether each voxel then lies on its counterpart."""

    @property
    def axes(self) -> str:
        """What the transform does to the axes, in words."""
        moved = [axis for axis, (becomes, _) in enumerate(self.transform) if becomes != axis]
        flipped = ["xyz"[becomes] for becomes, sign in self.transform if sign < 0]
        done = [f"axes {' and '.join('xyz'[axis] for axis in moved)} exchanged"] if moved else []
        done += [f"{' and '.join(sorted(flipped))} reversed"] if flipped else []
        return ", ".join(done)


def credible_place(affine: Affine, edges_mm: tuple[float, ...], has_code: bool) -> Affine | None:
    """``affine`` where it says where the voxels lie; None where it is a placeholder."""
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    if not has_code or not np.isfinite(affine).all() or not 1e-3 < lengths.min() <= lengths.max() < 1e3:
        return None
    along_scanner = (np.abs(affine[:3, :3] / lengths).max(axis=0) > 0.999).all()
    unscaled = is_ones(lengths) and not is_ones(edges_mm)
    return None if unscaled or (along_scanner and np.abs(affine[:3, 3]).max() < 1e-3) else affine


def has_one_place(image: Any) -> bool:
    """Whether the header of a NIfTI ``image`` has a place, and not two: sform and qform can contradict each other.

    Programs differ in which of the two they read and keep: what they saved then has the place of either.
    """
    header, size = image.header, tuple(int(n) for n in image.shape[:3])
    if header["sform_code"] <= 0 or header["qform_code"] <= 0:
        return bool(header["sform_code"] > 0 or header["qform_code"] > 0)
    try:
        sform, qform = (np.asarray(form, dtype=np.float64) for form in (image.get_sform(), image.get_qform()))
    except ValueError:  # no quaternion of a rotation: the sform alone counts
        return True
    one, other = (np.linalg.norm(form[:3, :3], axis=0) for form in (sform, qform))
    degenerate = any(not np.isfinite(form).all() or abs(np.linalg.det(form)) < 1e-9 for form in (sform, qform))
    if len(size) < 3 or degenerate or not np.allclose(one, other, rtol=0.01):
        return True  # two voxel sizes are told by `edges_of`
    found = fit(size, sform, size, qform)
    return found.fits and found.transform == SAME_ORIENTATION


def is_ones(edges_mm: Any) -> bool:
    """Whether voxel edges are 1 x 1 x 1, which headers have that know none."""
    return bool(np.allclose(edges_mm, 1.0, rtol=0.0, atol=1e-3))


def fit(size: tuple[int, ...], place: Affine, like_size: tuple[int, ...], like: Affine) -> Fit:
    """How a grid of ``size`` (``X Y Z``) voxels at ``place`` lies on another; both affines are voxel to millimetre."""
    order = io_orientation(np.linalg.solve(like, place))  # type: ignore[no-untyped-call]
    if np.isnan(order).any():
        order = np.array(SAME_ORIENTATION)
    transform: Orientation = tuple((int(becomes), int(sign)) for becomes, sign in order)
    moved = place @ inv_ornt_aff(order, size)  # type: ignore[no-untyped-call]
    turned = permuted(size, transform)
    corners = np.array([(*corner, 1.0) for corner in product(*((0.0, n - 1.0) for n in like_size))]).T
    apart_mm = float(np.linalg.norm((moved @ corners - like @ corners)[:3], axis=0).max())
    voxels_apart = float(np.abs(np.linalg.solve(like, moved) @ corners - corners).max())
    return Fit(transform, apart_mm, turned == tuple(like_size) and voxels_apart <= SAME_VOXEL)


def permuted(values: Any, transform: Orientation) -> tuple[Any, ...]:
    """One value an axis (sizes, edges) in the order that ``transform`` brings the axes to."""
    result = list(values)
    for value, (becomes, _) in zip(values, transform, strict=True):
        result[becomes] = value
    return tuple(result)


# --- The size of a voxel ---------------------------------------------------------------------------------------------


def check_slice_axis(path: Path, size: tuple[int, ...]) -> None:
    """`DataError` if another axis than the third must be that of the slices: it has less than half as many voxels."""
    axis = int(np.argmin(size[:3]))
    if 2 * size[axis] < size[2]:
        raise DataError(
            f"{path} has {' x '.join(map(str, size))} voxels: the slices seem to lie along axis {axis + 1}, expected "
            "them along axis 3",
            hint=slice_axis_hint(axis),
        )


def edges_of(
    path: Path, pixdim: tuple[float, ...], affine: Affine, known_mm: tuple[float | None, ...]
) -> tuple[tuple[float, ...], list[str]]:
    """Voxel edges of a header, and notes on them; `DataError` if it has none, or two different ones.

    Edges of 1 x 1 x 1 mm stand in headers that know none. What ``known_mm`` states is not asked.
    """
    lengths = tuple(float(n) for n in np.linalg.norm(affine[:3, :3], axis=0))
    unknown = [axis for axis in range(3) if known_mm[axis] is None]
    hint = "correct the header, or state the true edges in a layout: spacing_mm: [x, y, z]"
    if is_ones(pixdim) and is_ones(lengths) and len(unknown) == 3:
        raise DataError(f"{path} states no voxel size: pixdim and affine have edges of 1 x 1 x 1 mm", hint=hint)
    if is_ones(lengths) or not np.isfinite(lengths).all() or min(lengths) <= 0:
        return pixdim, []
    if is_ones(pixdim):
        return lengths, ["voxel edges are those of the sform: pixdim has none"]
    if any(abs(lengths[axis] - pixdim[axis]) > 0.01 * pixdim[axis] for axis in unknown) and min(pixdim) > 0:
        raise DataError(f"{path} states two voxel sizes: pixdim {in_mm(pixdim)}, sform {in_mm(lengths)}", hint=hint)
    return pixdim, []


def in_mm(edges: Sequence[float]) -> str:
    """Voxel edges as text."""
    return f"{' x '.join(f'{edge:.4g}' for edge in edges)} mm"
