"""Generated hearts in the surroundings of people.

The field of a generator ends close to the heart, where a scanner's goes on to chest wall, liver and stomach. A
segmenter that sees generated hearts alone in black never learns from them what is not a heart.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from cinesynth.data.geometry import Grid, place, slices_on_grid
from cinesynth.data.intensity import IntensityScale
from cinesynth.study.spec import FIELD
from cinesynth.synthesis.export.nifti import from_stored, to_stored
from cinesynth.types import FloatArray, Study

RIM_MM = 12.0
"""Over so much the heart's field goes over into the person's."""
GAIN = (0.5, 2.0)
"""Least and most by which the heart's brightness follows the person's."""


def surrounded(heart: Study, person: Study) -> Study:
    """The generated ``heart`` in the middle of a field `FIELD` times as wide, where around it ``person`` is seen at ED.

    Slices of both are matched from base to apex, and the heart is made as bright as the person where they meet; the
    labels are the heart's. The person's own heart lies under the generated field, whose grid it fits.
    """
    width, height, slices = heart.image.shape[1:]
    pads = tuple(round((FIELD - 1.0) * n / 2) for n in (width, height))
    size = (width + 2 * pads[0], height + 2 * pads[1])
    around = _field(person, size, heart.spacing_mm, slices)
    spread = ((0, 0), (pads[0],) * 2, (pads[1],) * 2, (0, 0))
    inside = np.pad((from_stored(heart.image) + 1.0) / 2.0, spread, mode="edge")
    weight = _weight((width, height), pads, heart.spacing_mm)
    rim = (weight > 0.0) & (weight < 1.0)
    gain = float(np.clip(around[rim].mean() / max(float(inside[:, rim].mean()), 1e-3), *GAIN))
    image = weight[..., None] * np.clip(gain * inside, 0.0, 1.0) + (1.0 - weight[..., None]) * around
    affine = heart.affine.copy()
    affine[:3, 3] -= heart.affine[:3, 0] * pads[0] + heart.affine[:3, 1] * pads[1]
    stored = to_stored(np.asarray(2.0 * image - 1.0, dtype=np.float32))
    return replace(heart, image=stored, label=np.pad(heart.label, spread), affine=affine)


def _field(person: Study, size: tuple[int, int], spacing_mm: tuple[float, float, float], slices: int) -> FloatArray:
    """``person`` at ED about the heart, ``X Y Z`` in [0, 1], in as many ``slices`` as the heart has."""
    grid = Grid((*size, slices_on_grid(person, spacing_mm[2])), spacing_mm)
    ed = int(np.flatnonzero(person.frame_index == person.ed_index)[0])
    scale = IntensityScale.of(person.image)
    image = scale.apply(place(person, grid).image_to_grid(person.image[ed : ed + 1]))[0]
    nearest = np.rint(np.linspace(0, grid.size[2] - 1, slices)).astype(int)
    return np.asarray((image[..., nearest] + 1.0) / 2.0, dtype=np.float32)


def _weight(size: tuple[int, int], pads: tuple[int, ...], spacing_mm: tuple[float, float, float]) -> FloatArray:
    """1 inside the heart's field, 0 outside, and a smooth way down within its rim: ``X Y``."""
    x, y = (
        np.pad(np.clip((np.minimum(np.arange(n), np.arange(n)[::-1]) + 0.5) * step / RIM_MM, 0.0, 1.0), pad)
        for n, pad, step in zip(size, pads, spacing_mm, strict=False)
    )
    ramp = np.minimum(x[:, None], y[None])
    return np.asarray(0.5 - 0.5 * np.cos(np.pi * ramp), dtype=np.float32)
