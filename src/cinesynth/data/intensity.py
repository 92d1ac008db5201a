"""Intensities: one scale for a whole sequence, so that brightness never flickers with time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cinesynth.errors import DataError
from cinesynth.types import FloatArray

PERCENTILES = (0.5, 99.5)


@dataclass(frozen=True)
class IntensityScale:
    """The scanner's numbers that become -1 and 1."""

    low: float
    high: float

    @classmethod
    def of(cls, sequence: NDArray[Any]) -> IntensityScale:
        """The scale of ``T X Y Z``: percentiles over all stored frames together. `DataError` if nothing varies."""
        low, high = (float(v) for v in np.percentile(sequence, PERCENTILES))
        if not high > low:  # also true of NaN
            raise DataError(
                f"the image has one value ({low:g}) nearly everywhere, nothing to scale",
                hint="leave this study out: its frames are empty or damaged",
            )
        return cls(low, high)

    def apply(self, volumes: NDArray[Any]) -> FloatArray:
        """``volumes`` in [-1, 1], clipped, same shape."""
        unit = (volumes.astype(np.float32) - np.float32(self.low)) / np.float32(self.high - self.low)
        return np.asarray(np.clip(2.0 * unit - 1.0, -1.0, 1.0))

    def invert(self, values: FloatArray) -> FloatArray:
        """[-1, 1] as the scanner's numbers, same shape: the inverse of `apply` on what it did not clip."""
        half = np.float32(self.high - self.low) / np.float32(2.0)
        return np.asarray((values + np.float32(1.0)) * half + np.float32(self.low))


def to_uint8(values: NDArray[Any]) -> NDArray[np.uint8]:
    """[-1, 1] as bytes 0..255, rounded and clipped."""
    return np.clip(np.rint((values + 1.0) * 127.5), 0, 255).astype(np.uint8)


def from_uint8(values: NDArray[np.uint8]) -> FloatArray:
    """Bytes 0..255 as [-1, 1]; the exact inverse of `to_uint8` on bytes."""
    return values.astype(np.float32) / np.float32(127.5) - np.float32(1.0)
