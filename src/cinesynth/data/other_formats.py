"""Volumes that are not NIfTI: MetaImage, NRRD and the sequences of 3D Slicer, read by SimpleITK (an optional extra)."""

from __future__ import annotations

import math
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cinesynth.errors import DataError, InputError
from cinesynth.physiology import FRAME_TIME_RANGE_MS
from cinesynth.types import Affine

ENDINGS = (".mha", ".nrrd")
"""Not .mhd and .nhdr, whose voxels are in another file."""
MAX_VOXELS = 1 << 30
LIST_KIND = "NRRD_kinds[pixel]"
"""SimpleITK's name for what a NRRD file says of an axis that is not one of space."""
SAVE_AGAIN = "the file is damaged: copy it again; if another program opens it, save it there as .nii.gz"
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""SimpleITK counts millimetres to the left and back, NIfTI to the right and front."""
Loaded = tuple[NDArray[Any], tuple[float, ...], Affine, bool, float | None]
"""Voxels ``X Y Z`` or ``X Y Z T``, edges in mm, affine (RAS+), that it has a code, and the frame time in ms."""


def is_other_format(path: Path | str) -> bool:
    """Whether a file of this name is read by SimpleITK."""
    return str(path).endswith(ENDINGS)


def require_reader(pattern: str) -> None:
    """`InputError` if files that fit ``pattern`` need SimpleITK, and it is not installed."""
    if is_other_format(pattern) and find_spec("SimpleITK") is None:
        raise InputError(
            f"{pattern} is read by SimpleITK, which is not installed", hint='pip install "cinesynth[formats]"'
        )


def load_other(path: Path) -> Loaded:
    """The content of a MetaImage or NRRD file; `DataError` if it cannot be read."""
    require_reader(str(path))
    try:
        image = _read(path)
    except (RuntimeError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {_reason(error)}", hint=SAVE_AGAIN) from None
    voxels, count = _voxels(path, image), image.GetDimension()
    axes = min(count, 3)
    affine = np.eye(4)
    affine[:axes, :axes] = np.reshape(image.GetDirection(), (count, count))[:axes, :axes] * image.GetSpacing()[:axes]
    affine[:axes, 3] = image.GetOrigin()[:axes]
    edges_mm = (*map(float, image.GetSpacing()), 1.0)[:3]
    return voxels, edges_mm, LPS_TO_RAS @ affine, True, _frame_time_ms(image)


def _voxels(path: Path, image: Any) -> NDArray[Any]:
    """``X Y Z`` or ``X Y Z T``; `DataError` if a voxel has several values that are not those of the frames."""
    import SimpleITK

    data = np.asarray(SimpleITK.GetArrayFromImage(image))  # T Z Y X, or Z Y X and the list axis of a sequence
    values = int(image.GetNumberOfComponentsPerPixel())
    if values == 1:
        return np.transpose(data)
    kind = image.GetMetaData(LIST_KIND) if image.HasMetaDataKey(LIST_KIND) else "unknown"
    if kind != "list" or data.ndim != 4:
        hint = "save one value a voxel, or the frames as a sequence of volumes (.seq.nrrd)"
        raise DataError(f"{path} has {values} values a voxel (kind {kind})", hint=hint)
    return np.transpose(data, (2, 1, 0, 3))


def _read(path: Path) -> Any:
    """The image; ``ValueError`` if its header promises more than the file can hold."""
    import SimpleITK

    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)
    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    promised = math.prod(reader.GetSize()) * max(reader.GetNumberOfComponents(), 1)
    if promised > MAX_VOXELS:
        raise ValueError(f"its header declares {promised / 1e6:.0f} million voxels")
    return reader.Execute()


def _reason(error: Exception) -> str:
    """The line of a long message of ITK that says what is wrong."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if not line.startswith(("Reason:", "Exception thrown", "/", "File:"))]
    return (telling or lines or [type(error).__name__])[-1]


def _frame_time_ms(image: Any) -> float | None:
    """Milliseconds between frames: from the index values of a sequence of Slicer, or the spacing of the fourth axis."""
    low, high = FRAME_TIME_RANGE_MS
    steps: list[float] = [image.GetSpacing()[3]] if image.GetDimension() == 4 else []
    for key in image.GetMetaDataKeys():
        if key.startswith("axis ") and key.endswith(" index values"):
            try:
                times = np.array(image.GetMetaData(key).split(), dtype=np.float64)
            except ValueError:  # text, not numbers
                continue
            steps += [float(np.median(np.diff(times)))] if len(times) > 1 else []
    plausible = [step * scale for step in steps for scale in (1000.0, 1.0) if low <= step * scale <= high]
    return plausible[0] if plausible else None
