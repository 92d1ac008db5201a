"""A generated case as 4D NIfTI, with everything a reader needs to place it in space and time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cinesynth.data.export.nifti import SYNTHETIC, write_nifti
from cinesynth.types import Cine, FloatArray

INTENSITY_SCALE = 500.0
"""Stored intensities are ``500 (x + 1)`` of x in [-1, 1]: whole numbers from 0 to 1000."""


def write_image(cine: Cine, path: Path) -> None:
    """Write the image as int16, 0-1000."""
    _write(to_stored(cine.image), cine, path)


def write_label(cine: Cine, path: Path) -> None:
    """Write the label as uint8: 1 RV, 2 MYO, 3 LV."""
    _write(cine.label, cine, path)


def to_stored(image: FloatArray) -> NDArray[np.int16]:
    """Intensities in [-1, 1] as whole numbers from 0 to 1000."""
    stored: NDArray[np.int16] = np.rint(INTENSITY_SCALE * (np.clip(image, -1.0, 1.0) + 1.0)).astype(np.int16)
    return stored


def from_stored(stored: NDArray[np.generic]) -> FloatArray:
    """The inverse of `to_stored`, exact to a thousandth of the range."""
    return np.asarray(stored.astype(np.float32) / np.float32(INTENSITY_SCALE) - np.float32(1.0))


def _write(volumes: NDArray[np.generic], cine: Cine, path: Path) -> None:
    write_nifti(path, volumes, cine.affine, frame_time_ms=cine.frame_time_ms, description=SYNTHETIC)
