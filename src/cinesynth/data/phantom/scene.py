"""The beating heart on short-axis planes: its walls, its labels, and its image over the still thorax."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, gaussian_filter1d

from cinesynth.data.phantom.anatomy import ANGLES, PHI, RV_CREST_INTEGRAL, RV_EDGE, Array, Heart, profile, rv_profile
from cinesynth.data.phantom.scanner import Sampling, plane_coordinates
from cinesynth.types import FloatArray, Label, LabelArray


class Sections(NamedTuple):
    """Radii in mm around the LV axis, each ``F S A`` (frames, planes, angles `PHI`); 0 where there is none."""

    endo: FloatArray
    epi: FloatArray
    rv: FloatArray


def sections(heart: Heart, frames: NDArray[np.int64], s: Array) -> Sections:
    """Cut the heart at positions ``s`` (S,) mm along its axis at the given ``frames`` (F,)."""
    group, length = heart.patient.group, heart.length[frames, None]
    xi = (s[None] - heart.base[frames, None]) / length
    along = heart.infarct_along(xi)
    active = 1.0 - (heart.akinesia * along)[..., None] * heart.infarct(PHI)
    endo2 = (
        profile(xi)[..., None] * heart.roundness() * (heart.radius2 - heart.contraction[frames, None, None] * active)
    )
    # The wall at ED, which keeps the volume of each fiber as the heart shortens.
    mean = heart.epi2 * profile(xi, 1.0 + heart.cap) - heart.radius2 * profile(xi)
    hypertrophy = group.septal_hypertrophy * (heart.septal(PHI) - heart.septal.mean)
    thin = 0.85 * heart.akinesia * along[..., None] * (heart.infarct(PHI) - heart.infarct.mean)
    wall = mean[..., None] * (1.0 + hypertrophy - thin)
    epi2 = endo2 + wall * (heart.length[0] / length)[..., None]
    rv2 = np.where(epi2 > 0.0, epi2 + _crescent(heart, frames, s), 0.0)
    endo, epi, rv = (np.sqrt(np.maximum(squared, 0.0)).astype(np.float32) for squared in (endo2, epi2, rv2))
    return Sections(endo, epi, rv)


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
    return np.asarray((2.0 * area / (half * RV_CREST_INTEGRAL))[..., None] * crest)


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


# --- The painted borders ---------------------------------------------------------------------------------------------

ABSENT = np.float32(-9.0)
"""Radius of an absent structure: no voxel, not even the central one, lies partly inside."""


class Disks(NamedTuple):
    """Round structures ``F S K``: center x, y and radius in mm (not positive: absent)."""

    x: FloatArray
    y: FloatArray
    radius: FloatArray


def _disks(distance: Array, angle: Array, radius: Array) -> Disks:
    """Disks centered at polar positions."""
    x, y, r = np.broadcast_arrays(distance * np.cos(angle), distance * np.sin(angle), radius)
    return Disks(x.astype(np.float32), y.astype(np.float32), r.astype(np.float32))


def _depth_along(heart: Heart, s: Array) -> Array:
    """Position xi along the cavity (0 base, 1 apex) of planes ``s``, ``F S``."""
    return np.asarray((s[None] - heart.base[:, None]) / heart.length[:, None])


def _twist_angle(heart: Heart, xi: Array) -> Array:
    """Rotation of the wall about the long axis, ``F S``: the base turns a little one way, the apex more the other."""
    return np.asarray(heart.twist * heart.beat.ejected[:, None] * (np.clip(xi, 0.0, 1.0) - 0.25))


def _outlet_disks(heart: Heart, s: Array, cut: Sections) -> Disks:
    """Above the valves: right atrium, RV outflow tract, aortic root. Basal slices see them as the base descends."""
    inner, reach = float(cut.epi.max()), float(cut.rv.max())
    middle, half = 0.5 * (inner + reach), 0.5 * (reach - inner)
    angle = heart.septum + np.array([-0.42, 0.55, 0.15])
    distance = np.array([middle + 1.0, middle - 1.0, 0.72 * inner])
    radius = np.array([half + 8.0, 0.6 * half + 8.0, 12.5])
    base = np.stack([heart.rv_base, heart.rv_base, heart.base - 5.0], axis=-1)[:, None]
    opening = np.where(s[None, :, None] < base, 1.0, 0.0)
    return _disks(distance, angle, radius * opening)


def _papillary_disks(heart: Heart, s: Array, cut: Sections) -> Disks:
    """The two papillary muscles, carried by twist and contraction of the wall they stand on."""
    xi = _depth_along(heart, s)
    angle = heart.septum + np.pi + np.array([-0.95, 1.0]) + _twist_angle(heart, xi)[..., None]
    index = np.mod(np.round((angle + np.pi) * (ANGLES / (2 * np.pi))).astype(int), ANGLES)
    wall = np.take_along_axis(cut.endo, index, axis=2)
    size = np.array([5.0, 5.8]) * (heart.patient.lv_edv_ml / 130.0) ** (1.0 / 3.0)
    span = np.sqrt(np.maximum(1.0 - ((xi[..., None] - 0.55) / 0.3) ** 2, 0.0))
    radius = np.minimum(size * span * (1.0 + 0.1 * heart.beat.ejected[:, None, None]), 0.38 * wall)
    return _disks(0.97 * wall - 0.8 * radius, angle, radius)


def _trabeculated(rng: np.random.Generator, heart: Heart, s: Array) -> FloatArray:
    """Depth (0-1) of trabeculae on a wall, ``F S A``: ridges along the axis that turn with the twist."""
    levels = 12  # of the pattern, along the axis
    table = gaussian_filter(rng.standard_normal((levels, ANGLES)), (0.8, 9.0), mode=("nearest", "wrap"))
    table = (np.clip(table / table.std() - 0.2, 0.0, 2.0) / 2.0).astype(np.float32)
    xi = _depth_along(heart, s)
    turn = np.round(_twist_angle(heart, xi) * (ANGLES / (2 * np.pi))).astype(int)
    level = np.clip(xi * levels, 0, levels - 1).astype(int)
    return np.asarray(table[level[..., None], np.mod(np.arange(ANGLES) - turn[..., None], ANGLES)], np.float32)


def _build_walls(rng: np.random.Generator, heart: Heart, s: Array, cut: Sections) -> dict[str, FloatArray]:
    """The painted radii in mm on planes ``s`` at every frame, each ``F S A``; `ABSENT` where there is none."""
    xi = np.clip(_depth_along(heart, s), 0.0, 1.0)[..., None].astype(np.float32)
    blood = cut.endo * (1.0 - (0.06 + 0.26 * xi) * _trabeculated(rng, heart, s))
    crescent = cut.rv - cut.epi
    rv_blood = cut.epi + crescent * (1.0 - (0.15 + 0.35 * xi) * _trabeculated(rng, heart, s))
    rv_wall = np.where(crescent > 0.3, cut.rv + np.minimum(3.0, crescent), 0.0)  # the wall is 3 mm thick
    above = (s[None] < heart.base[:, None])[..., None]
    rim = sections(heart, np.array([0]), np.array([0.0])).endo
    atrium = np.where(above, 0.88 * np.maximum(rim, 20.0) * (1.0 + 0.08 * np.cos(PHI - 0.5)), 0.0)
    walls: dict[str, NDArray[np.floating[Any]]] = {
        "sac": _sac(rng, np.maximum(cut.rv, np.maximum(cut.epi, rv_wall)), heart, above),
        "rv_wall": rv_wall,
        "rv_blood": rv_blood,
        "epi": cut.epi,
        "blood": blood,
        "atrium_wall": np.where(above, atrium + 2.5, 0.0),
        "atrium": atrium,
    }
    return {name: np.where(radius > 0.0, radius, ABSENT).astype(np.float32) for name, radius in walls.items()}


def _sac(rng: np.random.Generator, outer: FloatArray, heart: Heart, above: NDArray[np.bool_]) -> FloatArray:
    """Pericardium: fat fills the grooves between the ventricles and lies in uneven lumps elsewhere."""
    lumps = gaussian_filter1d(rng.uniform(0.0, 1.0, ANGLES), 22.0, mode="wrap")
    lumps = np.clip((lumps - lumps.mean()) / lumps.std(), 0.0, 2.5) * 2.0 + 0.8
    lumps = (lumps + 1.5 * np.clip(np.cos(PHI - heart.septum), 0.0, 1.0)).astype(np.float32)
    still = outer.max(axis=0, keepdims=True)
    mixed = 0.8 * outer + 0.2 * still
    basal = np.where(above, 0.96 * still.max(axis=1, keepdims=True), mixed)
    grooves = gaussian_filter1d(basal, 26.0, axis=2, mode="wrap", truncate=2.0)
    return np.where(basal > 0.0, np.maximum(basal, grooves) + lumps, 0.0).astype(np.float32)


# --- The image, sub-slice by sub-slice -------------------------------------------------------------------------------


class Window:
    """The smallest box of slice ``z`` that holds the pericardium at every frame: coordinates in mm and two textures."""

    def __init__(self, rng: np.random.Generator, sampling: Sampling, z: int, sac: FloatArray) -> None:
        count = len(sampling.subslices)
        self.planes = slice(z * count, (z + 1) * count)
        reach = np.maximum(sac[:, self.planes].max(axis=(0, 1)), 0.0) + 2.0
        turned = PHI + sampling.rotation
        corners = np.stack([reach * np.cos(turned), reach * np.sin(turned)], axis=1) / sampling.spacing_mm[0]
        low = np.maximum(np.floor(sampling.centers[z] + corners.min(axis=0)), 0).astype(int)
        high = np.minimum(np.ceil(sampling.centers[z] + corners.max(axis=0)) + 1, sampling.shape).astype(int)
        self.box = (slice(int(low[0]), int(high[0])), slice(int(low[1]), int(high[1])))
        self.x, self.y = (np.ascontiguousarray(c[self.box]) for c in plane_coordinates(sampling, z))  # n m
        self.radius, self.angle = np.hypot(self.x, self.y), angle_index(self.x, self.y)
        noise = rng.standard_normal((2, *self.x.shape), dtype=np.float32)
        flow = gaussian_filter(noise, (0.0, 2.5, 2.5), truncate=2.5)
        self.flow: FloatArray = flow / max(float(flow.std()), 1e-6)  # 2 n m

    def toward(self, wall: FloatArray, frame: int) -> FloatArray:
        """Radius ``S n m`` of a wall ``F S A`` in the direction of every voxel."""
        return np.take(wall[frame, self.planes], self.angle, axis=1)


class Scene(NamedTuple):
    """The painted structures of all frames and planes."""

    cut: Sections
    walls: dict[str, FloatArray]
    pillars: Disks
    outlets: Disks
    signal: dict[str, float]
    pixel: float


def paint_heart(
    rng: np.random.Generator, heart: Heart, sampling: Sampling, signal: dict[str, float], thorax: FloatArray
) -> tuple[FloatArray, LabelArray]:
    """Image ``T Z X Y`` (LV blood 1, before the scanner) and majority label ``T X Y Z`` of every frame."""
    count, s = len(heart.beat.ejected), (sampling.slices_s[:, None] + sampling.subslices).ravel()  # Z * sub
    cut = sections(heart, np.arange(count), s)
    walls = _build_walls(rng, heart, s, cut)
    pillars, outlets = _papillary_disks(heart, s, cut), _outlet_disks(heart, s, cut)
    scene = Scene(cut, walls, pillars, outlets, signal, sampling.spacing_mm[0])
    image = np.repeat(thorax[None], count, axis=0)
    label = np.zeros((count, *sampling.shape, len(sampling.slices_s)), np.uint8)
    for z in range(len(sampling.slices_s)):
        window = Window(rng, sampling, z, walls["sac"])
        for t in range(count):
            image[(t, z, *window.box)] = _image(scene, window, t, thorax[(z, *window.box)], 2.0 * np.pi * t / count)
            if cut.epi[t, window.planes].max() > 0.0:  # the label of most sub-slices
                endo, epi, rv = (window.toward(wall, t) for wall in cut)
                each = label_plane(endo, epi, rv, window.radius)
                votes = np.stack([(each == k).sum(axis=0, dtype=np.uint8) for k in Label])
                label[(t, *window.box, z)] = votes.argmax(axis=0)
    return image, label


def _image(scene: Scene, window: Window, frame: int, under: FloatArray, phase: float) -> FloatArray:
    """Signal ``n m`` of one slice, the mean over its sub-slices: layers from the outside in."""
    signal, at = scene.signal, (frame, window.planes)
    wave = np.float32(np.cos(phase)) * window.flow[0] + np.float32(np.sin(phase)) * window.flow[1]
    blood = np.float32(1.0) + np.float32(0.07) * wave  # moving blood
    dark_blood = np.float32(signal["rv_blood"]) * blood
    muscle = np.float32(signal["myocardium"]) * (1.0 + np.float32(0.06) * window.flow[0])
    fat = np.float32(0.55 * signal["fat"]) * (1.0 + np.float32(0.12) * window.flow[1])
    image = np.repeat(under[None], len(scene.cut.epi[at]), axis=0)

    def cover(inside_mm: FloatArray, value: FloatArray) -> None:
        """Blend ``value`` in by the fraction of each voxel inside (``inside_mm`` > 0); overwrites ``inside_mm``."""
        inside_mm *= np.float32(1.0 / scene.pixel)
        inside_mm += np.float32(0.5)
        np.clip(inside_mm, 0.0, 1.0, out=inside_mm)
        inside_mm *= value - image
        np.add(image, inside_mm, out=image)

    def fill(wall: FloatArray, value: FloatArray) -> None:
        if wall[at].max() > 0.0:
            inside = window.toward(wall, frame)
            inside -= window.radius
            cover(inside, value)

    def disks(structure: Disks, which: slice, rim: FloatArray | None, value: FloatArray) -> None:
        """Paint disks with uneven outlines, each inside a 2 mm rim if ``rim`` is given."""
        for x, y, radius in zip(*(part[at].T[which] for part in structure), strict=True):
            if radius.max() <= 0.0:
                continue
            radius = np.where(radius > 0.0, radius, ABSENT - 999.0)[:, None, None]
            distance = np.hypot(window.x - x[:, None, None], window.y - y[:, None, None])
            distance *= 1.0 + np.float32(0.09) * window.flow[0]
            if rim is not None:
                cover(radius + np.float32(2.0) - distance, rim)
            cover(radius - distance, value)

    for wall, value in (("sac", fat), ("rv_wall", muscle), ("rv_blood", dark_blood)):
        fill(scene.walls[wall], value)
    disks(scene.outlets, slice(0, 2), muscle, dark_blood)
    for wall, value in (("atrium_wall", muscle), ("atrium", blood), ("epi", muscle), ("blood", blood)):
        fill(scene.walls[wall], value)
    disks(scene.outlets, slice(2, 3), muscle, blood)
    disks(scene.pillars, slice(0, 2), None, muscle)
    return np.asarray(image.mean(axis=0))
