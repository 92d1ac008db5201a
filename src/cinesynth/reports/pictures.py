"""Short-axis slices as pictures, and a beat as an animation.

Arrays are shown as ACDC is read: the first axis to the right, the second downwards, in true proportions.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from cinesynth.types import COLOURS, FloatArray, Label, LabelArray

RGB = NDArray[np.uint8]
Spacing = tuple[float, float, float]

WINDOW_PERCENTILES = (0.5, 99.5)
GREYS = 96
"""Shades of a GIF: fewer compress better, and these show no steps. Three more entries are the contours'."""
MIN_FRAME_MS = 20
"""Viewers slow down frames that are shorter."""


@dataclass(frozen=True)
class View:
    """A square of ``field_mm`` around ``centre`` (voxels), drawn on ``pixels`` x ``pixels``."""

    centre: tuple[float, float]
    spacing_mm: Spacing
    field_mm: float = 160.0
    pixels: int = 128

    @classmethod
    def of(
        cls, label: LabelArray | None, size: tuple[int, ...], spacing_mm: Spacing, field_mm: float, pixels: int
    ) -> View:
        """Around the labels of a ``T X Y Z`` cine of ``size``, or its middle where there are none."""
        centre = ((size[1] - 1) / 2, (size[2] - 1) / 2)
        if label is not None and label.any():
            _, x, y, _ = np.nonzero(label)
            centre = (float(x.mean()), float(y.mean()))
        return cls(centre, spacing_mm, field_mm, pixels)

    def draw(self, plane: NDArray[np.generic], order: Literal[1, 3], outside: float) -> FloatArray:
        """An ``X Y`` plane as rows and columns of pixels, interpolated with splines of ``order``."""
        step = self.field_mm / self.pixels
        matrix = [step / self.spacing_mm[1], step / self.spacing_mm[0]]  # rows run along Y
        middle = (self.pixels - 1) / 2
        offset = [c - m * middle for c, m in zip(self.centre[::-1], matrix, strict=True)]
        shape = (self.pixels, self.pixels)
        values: Any = plane.T.astype(np.float32)
        pixels: FloatArray = ndimage.affine_transform(values, matrix, offset, shape, order=order, cval=outside)
        return pixels


def window_of(image: NDArray[np.generic]) -> tuple[float, float]:
    """Darkest and brightest value to show, one window for all frames."""
    low, high = np.percentile(image.astype(np.float32), WINDOW_PERCENTILES)
    return float(low), float(max(high, low + 1e-6))


def grey(plane: NDArray[np.generic], view: View, window: tuple[float, float]) -> FloatArray:
    """An image plane ``X Y`` as grey values in [0, 1]."""
    low, high = window
    shades: FloatArray = np.clip((view.draw(plane, 3, low) - low) / (high - low), 0.0, 1.0)
    return shades


def contours(plane: LabelArray, view: View) -> NDArray[np.uint8]:
    """Outlines of the structures of a label plane ``X Y``: the structure's number on its outline, 0 elsewhere."""
    lines = np.zeros((view.pixels, view.pixels), dtype=np.uint8)
    for structure in COLOURS:
        inside = view.draw(plane == structure, 1, 0.0) >= 0.5
        if structure is Label.LV:  # one line, not two, where the LV touches myocardium
            lines[ndimage.binary_dilation(inside, iterations=2)] = 0
        lines[inside & ~ndimage.binary_erosion(inside)] = structure
    return lines


def tile(image: NDArray[np.generic], label: LabelArray | None, view: View, window: tuple[float, float]) -> RGB:
    """An image plane ``X Y`` with the outlines of its label, ``rows columns 3``."""
    shades = np.rint(255.0 * grey(image, view, window)).astype(np.uint8)
    picture = np.repeat(shades[..., None], 3, axis=-1)
    if label is not None:
        lines = contours(label, view)
        for structure, colour in COLOURS.items():
            picture[lines == structure] = colour
    return picture


def render_gif(
    image: FloatArray,
    label: LabelArray,
    spacing_mm: Spacing,
    frame_time_ms: float,
    path: Path,
    *,
    field_mm: float = 160.0,
    pixels: int = 176,
) -> None:
    """Write the beat of three slices (basal, middle, apical), plain above and with contours below, as a GIF."""
    view = View.of(label, label.shape, spacing_mm, field_mm, pixels)
    window = window_of(image)
    slices = shown_slices(label)
    frames = [_beat_frame(image[t], label[t], slices, view, window) for t in range(len(image))]
    duration = max(MIN_FRAME_MS, round(frame_time_ms / 10) * 10)  # GIF counts hundredths of a second
    frames[0].save(
        path, format="GIF", save_all=True, append_images=frames[1:], duration=duration, loop=0, optimize=False
    )


def shown_slices(label: LabelArray) -> list[int]:
    """Slices a quarter, half and three quarters down the heart of a ``T X Y Z`` label."""
    with_heart = np.flatnonzero(label[0].any(axis=(0, 1)))
    first, last = (with_heart[0], with_heart[-1]) if len(with_heart) else (0, label.shape[-1] - 1)
    return [round(float(first + share * (last - first))) for share in (0.25, 0.5, 0.75)]


def _beat_frame(
    image: FloatArray, label: LabelArray, slices: list[int], view: View, window: tuple[float, float]
) -> Image.Image:
    """One frame on a palette of greys and contour colours, which no later frame changes."""
    shades = [np.rint((GREYS - 1) * grey(image[..., z], view, window)).astype(np.uint8) for z in slices]
    lines = [contours(label[..., z], view) for z in slices]
    above, below = np.hstack(shades), np.hstack(shades)
    outlined = np.hstack(lines)
    below[outlined > 0] = outlined[outlined > 0] + (GREYS - 1)
    picture = Image.fromarray(np.vstack([above, below]), mode="P")
    ramp = np.repeat(np.rint(np.linspace(0, 255, GREYS)).astype(np.uint8), 3).tolist()
    picture.putpalette(ramp + [channel for colour in COLOURS.values() for channel in colour])
    return picture
