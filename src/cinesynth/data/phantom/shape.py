"""Wall radii of a `Heart` on short-axis planes, and its labels on any grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cinesynth.data.phantom.anatomy import (
    ANGLES,
    CREST_INTEGRAL,
    PHI,
    RV_EDGE,
    Array,
    Heart,
    infarct_along,
    profile,
    roundness,
    rv_profile,
)
from cinesynth.types import FloatArray, Label, LabelArray


@dataclass(frozen=True)
class Sections:
    """Radii in mm around the LV axis, each ``F S A`` (frames, planes, angles `PHI`); 0 where there is none."""

    endo: FloatArray
    epi: FloatArray
    rv: FloatArray


def sections(heart: Heart, frames: NDArray[np.int64], s: Array) -> Sections:
    """Cut the heart at positions ``s`` (S,) mm along its axis at the given ``frames`` (F,)."""
    length = heart.length[frames, None]
    xi = (s[None] - heart.base[frames, None]) / length
    round_ = roundness(PHI, heart.septum, heart.ellipticity, heart.patient.group.septal_flattening, heart.septal)
    scar = heart.akinesia * infarct_along(xi, heart.infarct_center, heart.infarct_width)
    active = 1.0 - scar[..., None] * heart.infarct(PHI)
    endo2 = profile(xi)[..., None] * round_ * (heart.radius2 - heart.contraction[frames, None, None] * active)
    epi2 = endo2 + _wall(heart, xi) * (heart.length[0] / length)[..., None]
    rv2 = np.where(epi2 > 0.0, epi2 + _crescent(heart, frames, s), 0.0)
    return Sections(_root(endo2), _root(epi2), _root(rv2))


def _root(squared: Array) -> FloatArray:
    return np.sqrt(np.maximum(squared, 0.0)).astype(np.float32)


def _wall(heart: Heart, xi: Array) -> Array:
    """Squared-radius thickness of the wall at ED, ``F S A``."""
    mean = heart.epi2 * profile(xi, 1.0 + heart.cap) - heart.radius2 * profile(xi)
    hypertrophy = heart.patient.group.septal_hypertrophy * (heart.septal(PHI) - heart.septal.mean)
    along = infarct_along(xi, heart.infarct_center, heart.infarct_width)[..., None]
    thin = heart.thinning * along * (heart.infarct(PHI) - heart.infarct.mean)
    return np.asarray(mean[..., None] * (1.0 + hypertrophy - thin))


def _crescent(heart: Heart, frames: NDArray[np.int64], s: Array) -> Array:
    """Squared-radius width of the RV, ``F S A``: area rv_area rv_profile(eta), narrowing toward the apex."""
    base = heart.rv_base[frames, None]
    eta = (s[None] - base) / (heart.rv_apex - base)
    area = heart.rv_area[frames, None] * rv_profile(eta)
    eta = np.clip(eta, 0.0, 1.0)
    half = heart.rv_half_angle * (1.0 - 0.35 * eta**2)
    turn = np.mod(PHI - heart.septum + np.pi, 2.0 * np.pi) - np.pi
    x = np.clip(turn / half[..., None], -1.0, 1.0)
    crest = (1.0 - x * x) ** RV_EDGE * (1.0 + heart.rv_skew * x)
    return np.asarray((2.0 * area / (half * CREST_INTEGRAL))[..., None] * crest)


def angle_index(x: FloatArray, y: FloatArray) -> NDArray[np.int32]:
    """Index into `PHI` of the direction of each point."""
    turn = np.arctan2(y, x) * np.float32(ANGLES / (2.0 * np.pi))
    return np.asarray(np.clip((turn + np.float32(ANGLES / 2)).astype(np.int32), 0, ANGLES - 1))


def label_plane(endo: FloatArray, epi: FloatArray, rv: FloatArray, radius: FloatArray) -> LabelArray:
    """Labels of points at ``radius``, given the wall radii in each point's direction (same shapes)."""
    label = np.where(radius < rv, np.uint8(Label.RV), np.uint8(Label.BACKGROUND))
    label[radius < epi] = Label.MYO
    label[radius < endo] = Label.LV
    return label


def rasterize_labels(heart: Heart, frame: int, spacing_mm: tuple[float, float, float]) -> LabelArray:
    """Labels ``X Y Z`` of one frame, sampled at voxel centers on a box that holds the whole heart.

    The long axis lies in the middle of the box, without tilt; the oracle of the volume tests.
    """
    dx, dy, dz = spacing_mm
    s = np.arange(0.5 * dz, heart.apex, dz)
    cut = sections(heart, np.array([frame]), s)
    reach = float(cut.rv.max()) + max(dx, dy)
    nx, ny = int(np.ceil(reach / dx)), int(np.ceil(reach / dy))
    columns, rows = np.arange(-nx, nx + 1) * dx, np.arange(-ny, ny + 1) * dy
    x, y = np.meshgrid(columns.astype(np.float32), rows.astype(np.float32), indexing="ij")
    index, radius = angle_index(x, y), np.hypot(x, y)
    planes = [
        label_plane(endo[index], epi[index], rv[index], radius)
        for endo, epi, rv in zip(cut.endo[0], cut.epi[0], cut.rv[0], strict=True)
    ]
    return np.stack(planes, axis=-1)
