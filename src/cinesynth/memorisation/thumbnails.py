"""A heart as a small stack of slices, to be recognised again after noise, blur, brightness and shifts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cinesynth.types import Label, LabelArray

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


# --- A heart seen the same way whatever its grid ---------------------------------------------------------------------


Centre = tuple[float, float]


def ventricle(label: LabelArray) -> NDArray[np.bool_]:
    """LV cavity and wall of an ``X Y Z`` label; where there is neither, all that is labelled."""
    inside = np.asarray((label == Label.LV) | (label == Label.MYO))
    return inside if inside.any() else np.asarray(label > 0)


def centre_of(label: LabelArray) -> Centre:
    """In-plane centre of the left ventricle in voxels; the middle of the field where nothing is labelled."""
    inside = ventricle(label).sum(axis=2)
    if not inside.any():
        return (label.shape[0] - 1) / 2, (label.shape[1] - 1) / 2
    x, y = ndimage.center_of_mass(inside)
    return float(x), float(y)


def slices_at(label: LabelArray, heights: Sequence[float]) -> NDArray[np.intp]:
    """The slice at each height: 0 is the most basal slice of the left ventricle, 1 the most apical.

    Where nothing is labelled, the heights are of the whole stack.
    """
    held = np.flatnonzero(ventricle(label).any(axis=(0, 1)))
    first, last = (held[0], held[-1]) if len(held) else (0, label.shape[2] - 1)
    return np.asarray(np.rint(first + np.asarray(heights) * (last - first)), dtype=np.intp)


def window(
    volume: NDArray[np.generic],
    centre: Centre,
    spacing_mm: Sequence[float],
    *,
    pixels: int,
    pixel_mm: float,
    blur_mm: float = 0.0,
    order: Literal[0, 1] = 1,
    fill: float = 0.0,
) -> NDArray[np.float32]:
    """Slices ``X Y Z`` around ``centre`` as ``pixels pixels Z`` of ``pixel_mm``; ``fill`` outside of the field.

    ``blur_mm`` is the standard deviation of a Gaussian, applied on the heart's own grid first.
    """
    source = volume.astype(np.float32)
    if blur_mm:
        source = ndimage.gaussian_filter(source, [blur_mm / spacing_mm[0], blur_mm / spacing_mm[1], 0], mode="nearest")
    steps = (np.arange(pixels) - (pixels - 1) / 2) * pixel_mm
    axes = [c + steps / s for c, s in zip(centre, spacing_mm, strict=False)]
    places = np.stack(np.meshgrid(*axes, indexing="ij"))  # 2 pixels pixels
    planes = [
        ndimage.map_coordinates(source[..., z], places, order=order, mode="constant", cval=fill)
        for z in range(source.shape[2])
    ]
    return np.stack(planes, axis=-1).astype(np.float32)
