"""Short-axis slices as pictures, and a cardiac cycle as an animation.

Pictures follow ACDC's orientation: the first array axis runs to the right, the second downwards, in true proportions.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import scipy
from numpy.typing import NDArray
from PIL import Image

from cinesynth.types import FloatArray, Label, LabelArray

RGB = NDArray[np.uint8]
Spacing = tuple[float, float, float]

COLOURS = MappingProxyType({Label.RV: (86, 180, 233), Label.MYO: (240, 190, 40), Label.LV: (230, 70, 80)})
"""Colour of each structure in every picture, 0-255; readable on grey and for colour-blind readers."""
WINDOW_PERCENTILES = (0.5, 99.5)
"""Percentiles of the intensities that are shown black and white."""
GREYS = 96
"""Grey levels of a GIF: fewer compress better, and 96 show no steps. Three more palette entries are the contours'."""


@dataclass(frozen=True)
class PlaneView:
    """A square of ``field_mm`` around ``centre`` (voxels), drawn on ``pixels`` x ``pixels``."""

    centre: tuple[float, float]
    spacing_mm: Spacing
    field_mm: float = 160.0
    pixels: int = 128

    @classmethod
    def of(
        cls, label: LabelArray | None, size: tuple[int, ...], spacing_mm: Spacing, field_mm: float, pixels: int
    ) -> PlaneView:
        """The view centred on the labels of a ``T X Y Z`` cine of ``size``, or on its middle if there are none."""
        centre = ((size[1] - 1) / 2, (size[2] - 1) / 2)
        if label is not None and label.any():
            shadow = np.count_nonzero(label, axis=(0, 3))  # X Y
            x, y = (np.average(np.arange(shadow.shape[axis]), weights=shadow.sum(axis=1 - axis)) for axis in (0, 1))
            centre = (float(x), float(y))
        return cls(centre, spacing_mm, field_mm, pixels)

    def draw(self, plane: NDArray[np.generic], order: Literal[1, 3], outside: float) -> FloatArray:
        """An ``X Y`` plane as rows and columns of pixels, interpolated with splines of ``order``."""
        step = self.field_mm / self.pixels
        weights = []
        for centre, size, spacing_mm in zip(self.centre, plane.shape, self.spacing_mm, strict=False):
            scale = step / spacing_mm
            first = centre - scale * (self.pixels - 1) / 2
            weights.append(_interpolation(size, scale, first, self.pixels, order))
        along_x, along_y = weights
        pixels: FloatArray = along_y @ plane.T.astype(np.float32) @ along_x.T  # rows run along Y
        pixels[np.isnan(pixels)] = outside
        return pixels


@functools.lru_cache(maxsize=32)
def _interpolation(size: int, step: float, first: float, pixels: int, order: Literal[1, 3]) -> FloatArray:
    """The weights of ``size`` voxels in each of ``pixels`` points, ``step`` voxels apart; NaN where a point is outside.

    Splines on a grid are products of those along its axes, and linear in the values, so that two matrices draw a plane.
    """
    points = functools.partial(
        scipy.ndimage.affine_transform, matrix=[step], offset=first, output_shape=(pixels,), order=order, cval=np.nan
    )
    weights: FloatArray = np.stack([points(voxel) for voxel in np.eye(size, dtype=np.float32)], axis=1)
    weights[np.abs(weights) < 1e-8] = 0.0  # splines decay without end, and subnormal numbers multiply slowly
    return weights


def window_of(image: NDArray[np.generic]) -> tuple[float, float]:
    """The intensities that are shown black and white, the same for all frames."""
    every = max(1, image.shape[1] // 48)  # rows and columns of a cine ``T X Y Z``; 48 of each tell as much as all
    low, high = np.percentile(image[:, ::every, ::every].astype(np.float32), WINDOW_PERCENTILES)
    return float(low), float(max(high, low + 1e-6))


def heart_window(image: NDArray[Any], label: LabelArray) -> tuple[float, float]:
    """As `window_of`, but white is set by the labelled heart: fat near a coil is brighter and would darken it."""
    low, high = np.percentile(image, WINDOW_PERCENTILES)
    if label.any():
        high = np.percentile(image[label > 0], WINDOW_PERCENTILES[1])
    return float(low), float(max(high, low + 1e-6))


def grey(plane: NDArray[np.generic], view: PlaneView, window: tuple[float, float]) -> FloatArray:
    """An image plane ``X Y`` as grey values in [0, 1], rows and columns of ``view``."""
    low, high = window
    shades: FloatArray = np.clip((view.draw(plane, 3, low) - low) / (high - low), 0.0, 1.0)
    return shades


def contours(plane: LabelArray, view: PlaneView) -> NDArray[np.uint8]:
    """Outlines of the structures of a label plane ``X Y``: the structure's number on its outline, 0 elsewhere."""
    lines = np.zeros((view.pixels, view.pixels), dtype=np.uint8)
    for structure in COLOURS:
        inside = view.draw(plane == structure, 1, 0.0) >= 0.5
        if structure is Label.LV:  # where the LV touches myocardium, draw one line instead of two
            lines[scipy.ndimage.binary_dilation(inside, iterations=2)] = 0
        lines[inside & ~scipy.ndimage.binary_erosion(inside)] = structure
    return lines


def tile(image: NDArray[np.generic], label: LabelArray | None, view: PlaneView, window: tuple[float, float]) -> RGB:
    """An image plane ``X Y`` with the outlines of its label, ``rows columns 3``."""
    shades = np.rint(255.0 * grey(image, view, window)).astype(np.uint8)
    picture = np.repeat(shades[..., None], 3, axis=-1)
    if label is not None:
        lines = contours(label, view)
        for structure, colour in COLOURS.items():
            picture[lines == structure] = colour
    return picture


def slices_of_heart(label: LabelArray, shares: Sequence[float]) -> list[int]:
    """The slices at these shares of the way from the first to the last labelled slice of ``T X Y Z``.

    Shares refer to the whole stack if nothing is labelled.
    """
    labelled = np.flatnonzero((label > 0).any(axis=(0, 1, 2)))
    first, last = (labelled[0], labelled[-1]) if len(labelled) else (0, label.shape[3] - 1)
    return [round(float(first + share * (last - first))) for share in shares]


def render_gif(
    image: FloatArray, label: LabelArray, spacing_mm: Spacing, frame_time_ms: float, path: Path, *, pixels: int = 176
) -> None:
    """Write three slices (basal, middle, apical) over the cycle as a GIF, plain above and with contours below."""
    view = PlaneView.of(label, label.shape, spacing_mm, 160.0, pixels)
    window = window_of(image)
    slices = slices_of_heart(label[:1], (0.25, 0.5, 0.75))
    frames = [_gif_frame(image[t], label[t], slices, view, window) for t in range(len(image))]
    # GIF counts hundredths of a second, and viewers slow down frames shorter than 20 ms.
    duration = max(20, round(frame_time_ms / 10) * 10)
    frames[0].save(
        path, format="GIF", save_all=True, append_images=frames[1:], duration=duration, loop=0, optimize=False
    )


def _gif_frame(
    image: FloatArray, label: LabelArray, slices: list[int], view: PlaneView, window: tuple[float, float]
) -> Image.Image:
    """One frame on a fixed palette of greys and contour colours, shared by all frames."""
    shades = [np.rint((GREYS - 1) * grey(image[..., z], view, window)).astype(np.uint8) for z in slices]
    lines = [contours(label[..., z], view) for z in slices]
    above, below = np.hstack(shades), np.hstack(shades)
    outlined = np.hstack(lines)
    below[outlined > 0] = outlined[outlined > 0] + (GREYS - 1)
    picture = Image.fromarray(np.vstack([above, below]), mode="P")
    ramp = np.repeat(np.rint(np.linspace(0, 255, GREYS)).astype(np.uint8), 3).tolist()
    picture.putpalette(ramp + [channel for colour in COLOURS.values() for channel in colour])
    return picture


def for_plots(structure: Label) -> tuple[float, float, float]:
    """The colour of ``structure`` as matplotlib takes it, in [0, 1]."""
    red, green, blue = COLOURS[structure]
    return red / 255, green / 255, blue / 255
