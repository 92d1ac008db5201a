"""Intensities: one scale for a whole cine, so that its brightness does not flicker over time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cinesynth.errors import DataError
from cinesynth.types import FloatArray


@dataclass(frozen=True)
class IntensityScale:
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
    return np.clip(np.rint((values + 1.0) * 127.5), 0, 255).astype(np.uint8)


def from_uint8(values: NDArray[np.uint8]) -> FloatArray:
    """Bytes 0-255 as [-1, 1]; `to_uint8` gives exactly the same bytes back."""
    return values.astype(np.float32) / np.float32(127.5) - np.float32(1.0)
