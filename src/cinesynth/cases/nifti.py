"""Writing NIfTI files: arrays with everything that a reader needs to place them in space and time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

import cinesynth
from cinesynth.types import Affine, Study

SYNTHETIC = f"synthetic, cinesynth {cinesynth.__version__}, research use only"
"""Description in the header of generated images."""
SAVED_AS = {"float16": "f4", "int64": "f8", "uint64": "f8", "bool": "u1"}
"""Stored type of the types that NIfTI, or most of its readers, lack."""


def write_nifti(
    path: Path,
    volumes: NDArray[Any],
    affine: Affine,
    *,
    frame_time_ms: float | None = None,
    scanner: bool = False,
    description: str = "",
) -> None:
    """Write ``X Y Z``, or ``T X Y Z`` as ``X Y Z T`` with the frame time in ``pixdim[4]``; units are mm and ms.

    ``scanner`` marks the affine as one to scanner coordinates; otherwise only the files of this package share it.
    """
    image: Any = nib.Nifti1Image(_stored(volumes), affine)  # type: ignore[no-untyped-call]
    if volumes.ndim == 4:
        image.header.set_zooms((*image.header.get_zooms()[:3], frame_time_ms or 1.0))  # without a unit, 1 means unknown
    image.header.set_xyzt_units("mm", "msec" if frame_time_ms else "unknown")
    code = 1 if scanner else 2  # NIFTI_XFORM_SCANNER_ANAT, NIFTI_XFORM_ALIGNED_ANAT
    image.set_sform(affine, code=code)
    image.set_qform(affine, code=code)
    image.header["descrip"] = _description(description)
    nib.save(image, path)


def write_like(
    path: Path, volumes: NDArray[Any], like: Path, *, frame_time_ms: float | None = None, description: str = ""
) -> None:
    """Write ``X Y Z``, or ``T X Y Z`` as ``X Y Z T``, on the voxel grid of the NIfTI file ``like``.

    Affines with their codes, voxel sizes and units are copied; free-text fields are not, because they may name a
    person. The frame time is copied unless ``frame_time_ms`` is given.
    """
    source: Any = nib.load(like)
    header: Any = source.header.copy()
    header.extensions.clear()
    for remark in ("descrip", "aux_file", "intent_name", "db_name"):
        if remark in header:
            header[remark] = b""
    header["descrip"] = _description(description)
    header["cal_min"] = header["cal_max"] = 0.0
    header.set_slope_inter(1.0, 0.0)
    data = _stored(volumes)
    header.set_data_dtype(data.dtype)
    image: Any = type(source)(data, source.affine, header)
    if volumes.ndim == 4 and (frame_time_ms or source.ndim == 3):
        image.header.set_zooms((*image.header.get_zooms()[:3], frame_time_ms or 1.0))
        image.header.set_xyzt_units(source.header.get_xyzt_units()[0], "msec" if frame_time_ms else "unknown")
    nib.save(image, path)


def _stored(volumes: NDArray[Any]) -> NDArray[Any]:
    """``X Y Z`` or ``X Y Z T`` in a type that NIfTI has."""
    data = np.moveaxis(volumes, 0, -1) if volumes.ndim == 4 else volumes
    return data.astype(SAVED_AS.get(data.dtype.name, data.dtype.str))


def _description(text: str) -> bytes:
    return text.encode("ascii", "replace")[:79]  # the field has 80 bytes and ends with a zero


def describe_origin(study: Study, synthetic: bool) -> str:
    """The origin of an image, short enough for a NIfTI header."""
    if synthetic:
        return SYNTHETIC
    return f"{study.dataset}, written by cinesynth {cinesynth.__version__}"
