"""The painted borders of the heart: label borders plus what a label ignores (trabeculae, papillaries, atria, fat)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, gaussian_filter1d

from cinesynth.data.phantom.anatomy import ANGLES, PHI, Array, Heart
from cinesynth.data.phantom.shape import Sections, sections
from cinesynth.types import FloatArray

RV_WALL_MM = 3.0
ATRIUM_WALL_MM = 2.5
TWIST_LEVELS = 12
ABSENT = np.float32(-9.0)
"""Radius of what is not there: no voxel, not even the central one, lies partly inside."""


@dataclass(frozen=True)
class Walls:
    """What is painted, from the outside in: radii in mm, each ``F S A``; `ABSENT` where there is none."""

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
    table = gaussian_filter(rng.standard_normal((TWIST_LEVELS, ANGLES)), (0.8, 9.0), mode=("nearest", "wrap"))
    table = (np.clip(table / table.std() - 0.2, 0.0, 2.0) / 2.0).astype(np.float32)
    xi = depth_along(heart, s)
    turn = np.round(twist_angle(heart, xi) * (ANGLES / (2 * np.pi))).astype(int)
    level = np.clip(xi * TWIST_LEVELS, 0, TWIST_LEVELS - 1).astype(int)
    return np.asarray(table[level[..., None], np.mod(np.arange(ANGLES) - turn[..., None], ANGLES)], np.float32)


def build_walls(rng: np.random.Generator, heart: Heart, s: Array, cut: Sections) -> Walls:
    """The painted radii on planes ``s`` at every frame."""
    xi = np.clip(depth_along(heart, s), 0.0, 1.0)[..., None].astype(np.float32)
    blood = cut.endo * (1.0 - (0.06 + 0.26 * xi) * trabeculated(rng, heart, s))
    crescent = cut.rv - cut.epi
    rv_blood = cut.epi + crescent * (1.0 - (0.15 + 0.35 * xi) * trabeculated(rng, heart, s))
    rv_wall = np.where(crescent > 0.3, cut.rv + np.minimum(RV_WALL_MM, crescent), 0.0)
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
        atrium_wall=_hide(np.where(above, atrium + ATRIUM_WALL_MM, 0.0)),
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
