"""Wall radii of a `Heart` on short-axis planes, and its labels on any grid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, gaussian_filter1d

from cinesynth.data.phantom.anatomy import (
    ANGLES,
    PHI,
    RV_SHAPE,
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
    crest = (1.0 - x * x) ** RV_SHAPE.edge * (1.0 + heart.rv_skew * x)
    return np.asarray((2.0 * area / (half * RV_SHAPE.crest_integral))[..., None] * crest)


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


# --- The painted borders of the heart --------------------------------------------------------------------------------


ABSENT = np.float32(-9.0)
"""Radius of an absent structure: no voxel, not even the central one, lies partly inside."""


@dataclass(frozen=True)
class Walls:
    """Radii of the painted borders in mm, from the outside in, each ``F S A``; `ABSENT` where there is none."""

    sac: FloatArray  # pericardial fat
    rv_wall: FloatArray
    rv_blood: FloatArray
    epi: FloatArray
    blood: FloatArray
    atrium_wall: FloatArray
    atrium: FloatArray


@dataclass(frozen=True)
class Disks:
    """Round structures ``F S K``: center x, y and radius in mm (not positive: absent)."""

    x: FloatArray
    y: FloatArray
    radius: FloatArray

    @staticmethod
    def polar(distance: Array, angle: Array, radius: Array) -> Disks:
        """Disks centered at polar positions."""
        x, y, r = np.broadcast_arrays(distance * np.cos(angle), distance * np.sin(angle), radius)
        return Disks(x.astype(np.float32), y.astype(np.float32), r.astype(np.float32))


def depth_along(heart: Heart, s: Array) -> Array:
    """Position xi along the cavity (0 base, 1 apex) of planes ``s``, ``F S``."""
    return np.asarray((s[None] - heart.base[:, None]) / heart.length[:, None])


def twist_angle(heart: Heart, xi: Array) -> Array:
    """Rotation of the wall about the long axis, ``F S``: the base turns a little one way, the apex more the other."""
    return np.asarray(heart.twist * heart.beat.ejected[:, None] * (np.clip(xi, 0.0, 1.0) - 0.25))


def outlet_disks(heart: Heart, s: Array, cut: Sections) -> Disks:
    """Above the valves: right atrium, RV outflow tract, aortic root. Basal slices see them as the base descends."""
    inner, reach = float(cut.epi.max()), float(cut.rv.max())
    middle, half = 0.5 * (inner + reach), 0.5 * (reach - inner)
    angle = heart.septum + np.array([-0.42, 0.55, 0.15])
    distance = np.array([middle + 1.0, middle - 1.0, 0.72 * inner])
    radius = np.array([half + 8.0, 0.6 * half + 8.0, 12.5])
    base = np.stack([heart.rv_base, heart.rv_base, heart.base - 5.0], axis=-1)[:, None]
    opening = np.where(s[None, :, None] < base, 1.0, 0.0)
    return Disks.polar(distance, angle, radius * opening)


def papillary_disks(heart: Heart, s: Array, cut: Sections) -> Disks:
    """The two papillary muscles, carried by twist and contraction of the wall they stand on."""
    xi = depth_along(heart, s)
    angle = heart.septum + np.pi + np.array([-0.95, 1.0]) + twist_angle(heart, xi)[..., None]
    index = np.mod(np.round((angle + np.pi) * (ANGLES / (2 * np.pi))).astype(int), ANGLES)
    wall = np.take_along_axis(cut.endo, index, axis=2)
    size = np.array([5.0, 5.8]) * (heart.patient.lv_edv_ml / 130.0) ** (1.0 / 3.0)
    span = np.sqrt(np.maximum(1.0 - ((xi[..., None] - 0.55) / 0.3) ** 2, 0.0))
    radius = np.minimum(size * span * (1.0 + 0.1 * heart.beat.ejected[:, None, None]), 0.38 * wall)
    return Disks.polar(0.97 * wall - 0.8 * radius, angle, radius)


def trabeculated(rng: np.random.Generator, heart: Heart, s: Array) -> FloatArray:
    """Depth (0-1) of trabeculae on a wall, ``F S A``: ridges along the axis that turn with the twist."""
    levels = 12  # of the pattern, along the axis
    table = gaussian_filter(rng.standard_normal((levels, ANGLES)), (0.8, 9.0), mode=("nearest", "wrap"))
    table = (np.clip(table / table.std() - 0.2, 0.0, 2.0) / 2.0).astype(np.float32)
    xi = depth_along(heart, s)
    turn = np.round(twist_angle(heart, xi) * (ANGLES / (2 * np.pi))).astype(int)
    level = np.clip(xi * levels, 0, levels - 1).astype(int)
    return np.asarray(table[level[..., None], np.mod(np.arange(ANGLES) - turn[..., None], ANGLES)], np.float32)


def build_walls(rng: np.random.Generator, heart: Heart, s: Array, cut: Sections) -> Walls:
    """The painted radii on planes ``s`` at every frame."""
    xi = np.clip(depth_along(heart, s), 0.0, 1.0)[..., None].astype(np.float32)
    blood = cut.endo * (1.0 - (0.06 + 0.26 * xi) * trabeculated(rng, heart, s))
    crescent = cut.rv - cut.epi
    rv_blood = cut.epi + crescent * (1.0 - (0.15 + 0.35 * xi) * trabeculated(rng, heart, s))
    rv_wall = np.where(crescent > 0.3, cut.rv + np.minimum(3.0, crescent), 0.0)  # the wall is 3 mm thick
    above = (s[None] < heart.base[:, None])[..., None]
    rim = sections(heart, np.array([0]), np.array([0.0])).endo
    atrium = np.where(above, 0.88 * np.maximum(rim, 20.0) * (1.0 + 0.08 * np.cos(PHI - 0.5)), 0.0)
    sac = _sac(rng, np.maximum(cut.rv, np.maximum(cut.epi, rv_wall)), heart, above)
    return Walls(
        sac=sac,
        rv_wall=_hide(rv_wall),
        rv_blood=_hide(rv_blood),
        epi=_hide(cut.epi),
        blood=_hide(blood),
        atrium_wall=_hide(np.where(above, atrium + 2.5, 0.0)),
        atrium=_hide(atrium),
    )


def _hide(radius: NDArray[np.floating[Any]]) -> FloatArray:
    return np.where(radius > 0.0, radius, ABSENT).astype(np.float32)


def _sac(rng: np.random.Generator, outer: FloatArray, heart: Heart, above: NDArray[np.bool_]) -> FloatArray:
    """Pericardium: fat fills the grooves between the ventricles and lies in uneven lumps elsewhere."""
    lumps = gaussian_filter1d(rng.uniform(0.0, 1.0, ANGLES), 22.0, mode="wrap")
    lumps = np.clip((lumps - lumps.mean()) / lumps.std(), 0.0, 2.5) * 2.0 + 0.8
    lumps = (lumps + 1.5 * np.clip(np.cos(PHI - heart.septum), 0.0, 1.0)).astype(np.float32)
    still = outer.max(axis=0, keepdims=True)
    mixed = 0.8 * outer + 0.2 * still
    basal = np.where(above, 0.96 * still.max(axis=1, keepdims=True), mixed)
    grooves = gaussian_filter1d(basal, 26.0, axis=2, mode="wrap", truncate=2.0)
    return np.where(basal > 0.0, np.maximum(basal, grooves) + lumps, ABSENT).astype(np.float32)
