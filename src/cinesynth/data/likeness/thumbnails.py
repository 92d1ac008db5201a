"""A heart as a small stack of slices, to be recognised again after noise, blur, brightness and shifts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cinesynth.data.likeness.view import centre_of, slices_at, window
from cinesynth.types import LabelArray

HEIGHTS = (0.1, 0.3, 0.5, 0.7, 0.9)
"""Heights of the left ventricle at which slices are kept."""
PIXELS, PIXEL_MM = 44, 3.0
"""A window of 132 mm around the left ventricle."""
BLUR_MM = 3.0
"""Finer detail is not what makes a person, and noise is there."""


def image_thumbnail(image: NDArray[np.uint8], label: LabelArray, spacing_mm: Sequence[float]) -> NDArray[np.float32]:
    """Grey values of an image ``X Y Z`` as ``5 P P``, whole numbers 0-255; its label says where the heart is."""
    chosen = slices_at(label, HEIGHTS)
    small = window(image[..., chosen], centre_of(label), spacing_mm, pixels=PIXELS, pixel_mm=PIXEL_MM, blur_mm=BLUR_MM)
    return np.moveaxis(np.rint(small), -1, 0)


def mask_thumbnail(label: LabelArray, spacing_mm: Sequence[float]) -> NDArray[np.float32]:
    """A label ``X Y Z`` as ``5 P P``; NaN where nothing is labelled."""
    chosen = slices_at(label, HEIGHTS)
    small = window(label[..., chosen], centre_of(label), spacing_mm, pixels=PIXELS, pixel_mm=PIXEL_MM, order=0)
    return np.moveaxis(small if label.any() else np.full_like(small, np.nan), -1, 0)
