"""4D NIfTI with everything a reader needs to place it in space and time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

import cinesynth
from cinesynth.types import Affine, Cine, FloatArray

INTENSITY_SCALE = 500.0
"""Stored intensities are ``500 (x + 1)`` of x in [-1, 1]: whole numbers from 0 to 1000."""
ALIGNED = 2
"""NIfTI's code of a frame that is not a scanner's."""


def write_image(cine: Cine, path: Path) -> None:
    """Write the image as int16, 0-1000."""
    write_nifti(to_stored(cine.image), cine.affine, cine.frame_time_ms, path)


def write_label(cine: Cine, path: Path) -> None:
    """Write the label as uint8: 1 RV, 2 MYO, 3 LV."""
    write_nifti(cine.label, cine.affine, cine.frame_time_ms, path)


def to_stored(image: FloatArray) -> NDArray[np.int16]:
    """Intensities in [-1, 1] as whole numbers from 0 to 1000."""
    stored: NDArray[np.int16] = np.rint(INTENSITY_SCALE * (np.clip(image, -1.0, 1.0) + 1.0)).astype(np.int16)
    return stored


def from_stored(stored: NDArray[np.generic]) -> FloatArray:
    """The inverse of `to_stored`, exact to a thousandth of the range."""
    return np.asarray(stored.astype(np.float32) / np.float32(INTENSITY_SCALE) - np.float32(1.0))


def write_nifti(volumes: NDArray[np.generic], affine: Affine, frame_time_ms: float, path: Path) -> None:
    """Write ``T X Y Z`` volumes as ``X Y Z T``, millimetres and milliseconds."""
    image: Any = nib.Nifti1Image(np.moveaxis(volumes, 0, -1), affine)  # type: ignore[no-untyped-call]
    header = image.header
    header.set_zooms((*header.get_zooms()[:3], frame_time_ms))
    header.set_xyzt_units("mm", "msec")
    image.set_sform(affine, code=ALIGNED)
    image.set_qform(affine, code=ALIGNED)
    header["descrip"] = f"synthetic, cinesynth {cinesynth.__version__}, research use only".encode()
    nib.save(image, path)
