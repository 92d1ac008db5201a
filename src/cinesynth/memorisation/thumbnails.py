"""Thumbnails: a heart as a small stack of slices that survives noise, blur, brightness changes and shifts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
import scipy
from numpy.typing import NDArray

from cinesynth.data.geometry import slice_mask
from cinesynth.types import BoolArray, Label, LabelArray

if TYPE_CHECKING:
    from cinesynth.data.packed import PackedDataset

HEIGHTS = (0.1, 0.3, 0.5, 0.7, 0.9)
"""Heights of the kept slices: 0 is the base of the left ventricle, 1 its apex."""
PIXELS, PIXEL_MM = 44, 3.0
"""A window of 132 mm around the left ventricle."""
Thumbnails = dict[str, NDArray[np.float32]]
"""``image`` and ``mask`` of one heart at ED, ``5 P P`` each: grey values 0-255, and labels (NaN if unknown)."""


def image_thumbnail(image: NDArray[np.uint8], label: LabelArray, spacing_mm: Sequence[float]) -> NDArray[np.float32]:
    """An image ``X Y Z`` as ``5 P P``, whole numbers 0-255, centred on the heart of its label."""
    chosen = slices_at(label, HEIGHTS)
    # 3 mm of blur: finer detail is mostly noise and does not identify a subject
    small = window(image[..., chosen], centre_of(label), spacing_mm, pixels=PIXELS, pixel_mm=PIXEL_MM, blur_mm=3.0)
    return np.moveaxis(np.rint(small), -1, 0)


def ed_thumbnails(
    image: NDArray[np.uint8], label: LabelArray, spacing_mm: Sequence[float], *, annotated: bool = True
) -> Thumbnails:
    """The thumbnails of an ED image and label, ``X Y Z``; the mask is NaN unless ED was ``annotated`` completely."""
    chosen, centre = slices_at(label, HEIGHTS), centre_of(label)
    mask = window(label[..., chosen], centre, spacing_mm, pixels=PIXELS, pixel_mm=PIXEL_MM, order=0)
    known = mask if annotated and label.any() else np.full_like(mask, np.nan)
    return {"image": image_thumbnail(image, label, spacing_mm), "mask": np.moveaxis(known, -1, 0)}


def subject_thumbnails(data: PackedDataset, index: int) -> Thumbnails:
    """The thumbnails of a subject of a dataset, from the acquired slices of its ED frame."""
    record = data.records[index]
    acquired = slice_mask(record.slices, data.grid.size[2])
    image, label = data.image(index, record.ed)[..., acquired], data.label(index, record.ed)[..., acquired]
    annotated = bool(record.coverage[record.ed][acquired].all())
    return ed_thumbnails(image, label, data.grid.spacing_mm, annotated=annotated)


# --- Windows of a heart that do not depend on its grid ---------------------------------------------------------------


Centre = tuple[float, float]


def ventricle(label: LabelArray) -> NDArray[np.bool_]:
    """LV cavity and wall of an ``X Y Z`` label; all labels if there is neither."""
    inside = np.asarray((label == Label.LV) | (label == Label.MYO))
    return inside if inside.any() else np.asarray(label > 0)


def centre_of(label: LabelArray) -> Centre:
    """In-plane centre of the left ventricle in voxels; the middle of the field if nothing is labelled."""
    inside = ventricle(label).sum(axis=2)
    if not inside.any():
        return (label.shape[0] - 1) / 2, (label.shape[1] - 1) / 2
    x, y = scipy.ndimage.center_of_mass(inside)
    return float(x), float(y)


def heart_box(label: LabelArray, spacing_mm: Sequence[float], margin_mm: float) -> tuple[slice, slice]:
    """The part of the plane within ``margin_mm`` of the labels of ``X Y Z``, and a pixel more; all of it without any.

    What depends on the surroundings of the heart alone is computed there, in a fraction of the time.
    """
    shadow: BoolArray = np.asarray(label.any(axis=2))
    box = []
    for across, step_mm in zip((1, 0), spacing_mm, strict=False):
        held = np.flatnonzero(shadow.any(axis=across))
        margin = math.ceil(margin_mm / step_mm) + 1
        box.append(slice(max(held[0] - margin, 0), held[-1] + margin + 1) if len(held) else slice(None))
    return box[0], box[1]


def slices_at(label: LabelArray, heights: Sequence[float]) -> NDArray[np.intp]:
    """The slice at each height: 0 is the most basal slice of the left ventricle, 1 the most apical.

    Heights refer to the whole stack if nothing is labelled.
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
        source = scipy.ndimage.gaussian_filter(
            source, [blur_mm / spacing_mm[0], blur_mm / spacing_mm[1], 0], mode="nearest"
        )
    steps = (np.arange(pixels) - (pixels - 1) / 2) * pixel_mm
    axes = [c + steps / s for c, s in zip(centre, spacing_mm, strict=False)]
    places = np.stack(np.meshgrid(*axes, indexing="ij"))  # 2 pixels pixels
    planes = [
        scipy.ndimage.map_coordinates(source[..., z], places, order=order, mode="constant", cval=fill)
        for z in range(source.shape[2])
    ]
    return np.stack(planes, axis=-1).astype(np.float32)
