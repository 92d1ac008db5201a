"""Files as datasets publish them, written from the analytic heart."""

import gzip
from functools import lru_cache
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from cinesynth.data.phantom import phantom_study
from cinesynth.types import Study

TO_MNMS = np.array([0, 3, 2, 1], dtype=np.uint8)
"""Our labels as both M&Ms challenges number them."""
SCANNER = np.array([[-0.71, -0.70, -0.03], [0.31, -0.27, -0.91], [-0.63, 0.66, -0.41]])
"""RAS+ directions of columns, rows and slices (base to apex) of a real short-axis stack, rounded."""


@lru_cache
def phantom(seed: int = 0, frames: int = 6) -> Study:
    """Labelled in every frame, base first, ED in frame 0; read only."""
    return phantom_study(seed, frames=frames, spacing_mm=3.0, field_mm=240.0).study


def save(path: Path, data: np.ndarray, affine: np.ndarray, frame_time: float = 1.0, units: str = "sec") -> Path:
    """A NIfTI of ``X Y Z`` or, given ``T X Y Z``, of ``X Y Z T``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(np.moveaxis(data, 0, -1) if data.ndim == 4 else data, affine)
    image.header.set_xyzt_units("mm", units)
    if data.ndim == 4:
        image.header["pixdim"][4] = frame_time
    nib.save(image, path)
    return path


def only_frames(label: np.ndarray, *frames: int) -> np.ndarray:
    """``label`` with zeros in all other frames."""
    result = np.zeros_like(label)
    result[list(frames)] = label[list(frames)]
    return result


def scanner_affine(spacing_mm: tuple[float, ...], directions: np.ndarray = SCANNER) -> np.ndarray:
    """RAS+ affine of a stack with these directions of its axes, one a row."""
    affine = np.eye(4)
    affine[:3, :3] = (directions / np.linalg.norm(directions, axis=1, keepdims=True)).T * spacing_mm
    affine[:3, 3] = 12.0, -80.0, 31.0
    return affine


def change_header(path: Path, **fields: Any) -> None:
    """Overwrite fields of a header in place, whatever that does to the file."""
    raw = gzip.decompress(path.read_bytes())
    header = nib.Nifti1Header(raw[:348], check=False)
    for name, value in fields.items():
        header[name] = value
    path.write_bytes(gzip.compress(header.binaryblock + raw[348:]))
