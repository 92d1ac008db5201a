"""What makes cines of different scanners comparable: the place of the heart, phase in the cycle, intensity."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import scipy
from numpy.typing import NDArray

from cinesynth.errors import DataError, InputError
from cinesynth.physiology import USUAL_SYSTOLE_FRACTION
from cinesynth.types import FloatArray, Study

# --- Where the heart is in the image plane ---------------------------------------------------------------------------


def heart_centre(study: Study) -> tuple[float, float]:
    """In-plane centre of the heart in voxels: of the labels (ED first), else of motion, else of the image."""
    for find in (_labels, _motion):
        if (weight := find(study)).any():
            x, y = scipy.ndimage.center_of_mass(weight)
            return float(x), float(y)
    _, width, height, _ = study.image.shape
    return (width - 1) / 2, (height - 1) / 2


def label_bounds(study: Study) -> tuple[tuple[int, int], tuple[int, int]]:
    """First and last labelled voxel along x and along y, over all frames; the study must have labels."""
    touched = study.label.max(axis=(0, 3)) > 0  # X Y
    x, y = np.flatnonzero(touched.max(axis=1)), np.flatnonzero(touched.max(axis=0))
    return (int(x[0]), int(x[-1])), (int(y[0]), int(y[-1]))


def _labels(study: Study) -> NDArray[np.float64]:
    """Labelled voxels through the plane, ``X Y``, at ED, or in the first annotated frame if ED was not annotated."""
    frames = (*np.flatnonzero(study.frame_index == study.ed_index), *range(len(study.image)))
    frame = next((frame for frame in frames if study.labelled[frame]), 0)
    return np.asarray((study.label[frame] > 0).sum(axis=-1), dtype=np.float64)


def _motion(study: Study, blur_mm: float = 8.0, threshold: float = 0.6) -> NDArray[np.float64]:
    """Change over time, ``X Y``, where it is at least ``threshold`` of the strongest; 0 for a single frame.

    The blur joins the moving walls of the heart into one spot, which outweighs vessels and coils.
    """
    change = study.image.astype(np.float64).std(axis=0).mean(axis=-1)  # X Y
    blur = [blur_mm / s for s in study.spacing_mm[:2]]
    motion = np.asarray(scipy.ndimage.gaussian_filter(change, blur, mode="constant"), dtype=np.float64)
    return np.asarray(motion * (motion >= threshold * motion.max()), dtype=np.float64)


# --- Phase in the cardiac cycle: 0 at ED, 1 at ES in a cine of any length, 2 at the next ED; linear between them -----


def systole_frames(ed_index: int, es_index: int, frames: int) -> int:
    """Frames from ED to ES in a cycle of ``frames``; `InputError` if an index lies outside the cycle or both agree."""
    for name, index in (("ED", ed_index), ("ES", es_index)):
        if not 0 <= index < frames:
            raise InputError(
                f"{name} frame {index} is outside a cycle of {frames} frames", hint="frames are counted from 0"
            )
    if ed_index == es_index:
        raise InputError(f"ED and ES are both frame {ed_index}", hint="give two different frames")
    return (es_index - ed_index) % frames


def phase_of_frames(
    frame_index: NDArray[np.integer[Any]], ed_index: int, es_index: int, frames: int
) -> NDArray[np.float64]:
    """Phase in [0, 2) of each ``frame_index`` (zero-based, modulo the cycle), same shape."""
    systole = systole_frames(ed_index, es_index, frames)
    since_ed = (np.asarray(frame_index, dtype=np.float64) - ed_index) % frames
    diastole = 1.0 + (since_ed - systole) / (frames - systole)
    return np.where(since_ed <= systole, since_ed / systole, diastole)


def frame_phases(frames: int, es_index: int) -> NDArray[np.float64]:
    """Phase of every frame of a cycle that starts at ED, shape ``T``."""
    return phase_of_frames(np.arange(frames), 0, es_index, frames)


def default_es_index(frames: int, systolic_fraction: float = USUAL_SYSTOLE_FRACTION) -> int:
    """ES frame of a cycle that starts at ED, where nothing better is known; `InputError` below 2 frames."""
    if frames < 2:
        raise InputError(f"a cycle of {frames} frames has no ED and ES", hint="use 2 frames or more")
    return min(max(round(systolic_fraction * frames), 1), frames - 1)


# --- Intensities: one scale for a whole cine, so that its brightness does not flicker over time ----------------------


class IntensityScale(NamedTuple):
    """The scanner's intensities that are mapped to -1 and 1."""

    low: float
    high: float

    @classmethod
    def of(cls, sequence: NDArray[Any]) -> IntensityScale:
        """The scale of ``T X Y Z``: 0.5th and 99.5th percentile over all stored frames. `DataError` if they agree."""
        low, high = (float(v) for v in np.percentile(sequence, (0.5, 99.5)))
        if not high > low:  # also true of NaN
            raise DataError(
                f"the image has the value {low:g} nearly everywhere, so it has no intensity scale",
                hint="leave this study out: its frames are empty or damaged",
            )
        return cls(low, high)

    def apply(self, volumes: NDArray[Any]) -> FloatArray:
        """``volumes`` mapped to [-1, 1] and clipped, same shape."""
        unit = (volumes.astype(np.float32) - np.float32(self.low)) / np.float32(self.high - self.low)
        return np.asarray(np.clip(2.0 * unit - 1.0, -1.0, 1.0))

    def invert(self, values: FloatArray) -> FloatArray:
        """``values`` in [-1, 1] as the scanner's intensities, same shape; inverts `apply` except for clipping."""
        half = np.float32(self.high - self.low) / np.float32(2.0)
        return np.asarray((values + np.float32(1.0)) * half + np.float32(self.low))


def to_uint8(values: NDArray[Any]) -> NDArray[np.uint8]:
    """``values`` in [-1, 1] as bytes 0-255, rounded and clipped."""
    scaled = (values + 1.0) * 127.5
    return np.clip(np.rint(scaled, out=scaled), 0, 255, out=scaled).astype(np.uint8)


def from_uint8(values: NDArray[np.uint8]) -> FloatArray:
    """Bytes 0-255 as [-1, 1]; `to_uint8` gives exactly the same bytes back."""
    return values.astype(np.float32) / np.float32(127.5) - np.float32(1.0)
