"""What to do about a NIfTI file that other tools wrote in a form that is not read."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

DAMAGED = "the file is damaged: copy it again"
HEADER_STARTS = tuple(struct.pack(f"{order}i", size) for order in "<>" for size in (348, 540))
"""First bytes of NIfTI-1 and NIfTI-2, in both byte orders."""


def axes_hint(shape: tuple[int, ...], dimensions: tuple[int, ...]) -> str:
    """For a file of ``shape`` where so many dimensions were expected."""
    if len(shape) == 5 and shape[3] == 1:
        moved = "nibabel.Nifti1Image(data[:, :, :, 0], affine)"
        return f"its frames are on the fifth axis, as TorchIO saves them: move them to the fourth and save {moved}"
    if len(shape) == 3 and dimensions == (4,):
        return "give a whole cine (x y z time); single frames are read by `ingest nifti` and a layout with {frame}"
    if len(shape) == 4 and dimensions == (3,):
        return "give single frames (x y z), or describe the file as a cine in a layout"
    return "use the short-axis stack, not a single slice"


def numbers_hint(data: NDArray[Any]) -> str:
    """For voxels that are not finite real numbers."""
    if np.iscomplexobj(data):
        return "save the magnitude: numpy.abs of the voxels"
    if not np.issubdtype(data.dtype, np.number):
        return "save grey values instead of colours"
    return "replace NaN and infinity by the value of the background; if the original has none, copy it again"


def unread_hint(path: Path) -> str:
    """For a file that could be opened, but not be parsed."""
    if path.name.endswith(".gz"):
        with path.open("rb") as file:
            if file.read(4) in HEADER_STARTS:
                return f"it is not compressed: rename it to {path.name.removesuffix('.gz')}, or compress it with gzip"
    return DAMAGED
