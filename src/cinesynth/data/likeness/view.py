"""A heart seen the same way whatever its grid: centred on its ventricle, at fixed heights, in millimetres."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cinesynth.types import Label, LabelArray

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
