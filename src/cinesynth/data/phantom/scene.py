"""Painting the beating heart, sub-slice by sub-slice, over its still surroundings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from cinesynth.data.phantom.anatomy import PHI, Heart
from cinesynth.data.phantom.scanner import Sampling, plane_coordinates
from cinesynth.data.phantom.shape import (
    ABSENT,
    Disks,
    Sections,
    Walls,
    angle_index,
    build_walls,
    label_plane,
    outlet_disks,
    papillary_disks,
    sections,
)
from cinesynth.types import FloatArray, Label, LabelArray

WALL_MM = 2.0
FLOW = 0.07
"""Signal variation of moving blood."""


@dataclass(frozen=True)
class Scene:
    """Everything that is painted, for all frames and planes."""

    cut: Sections
    walls: Walls
    pillars: Disks
    outlets: Disks
    signal: dict[str, float]
    pixel: float


@dataclass(frozen=True)
class Window:
    """The part of a slice that the heart can reach: coordinates in mm and two textures, each ``n m``."""

    box: tuple[slice, slice]
    planes: slice
    x: FloatArray
    y: FloatArray
    radius: FloatArray
    angle: NDArray[np.int32]
    flow: FloatArray


def paint_heart(
    rng: np.random.Generator, heart: Heart, sampling: Sampling, signal: dict[str, float], thorax: FloatArray
) -> tuple[FloatArray, LabelArray]:
    """Image ``T Z X Y`` (LV blood 1, before the scanner) and majority label ``T X Y Z`` of every frame."""
    frames, s = np.arange(len(heart.beat.ejected)), sampling.planes
    cut = sections(heart, frames, s)
    walls = build_walls(rng, heart, s, cut)
    pillars, outlets = papillary_disks(heart, s, cut), outlet_disks(heart, s, cut)
    scene = Scene(cut, walls, pillars, outlets, signal, sampling.spacing_mm[0])
    image = np.repeat(thorax[None], len(frames), axis=0)
    label = np.zeros((len(frames), *sampling.shape, len(sampling.slices_s)), np.uint8)
    for z in range(len(sampling.slices_s)):
        window = open_window(rng, sampling, z, walls)
        for t in range(len(frames)):
            phase = 2.0 * np.pi * t / len(frames)
            image[(t, z, *window.box)] = _image(scene, window, t, thorax[(z, *window.box)], phase)
            label[(t, *window.box, z)] = _label(scene, window, t)
    return image, label


def open_window(rng: np.random.Generator, sampling: Sampling, z: int, walls: Walls) -> Window:
    """The smallest box of slice ``z`` that holds the pericardium at every frame."""
    count = len(sampling.subslices)
    planes = slice(z * count, (z + 1) * count)
    reach = np.maximum(walls.sac[:, planes].max(axis=(0, 1)), 0.0) + 2.0
    turned = PHI + sampling.rotation
    corners = np.stack([reach * np.cos(turned), reach * np.sin(turned)], axis=1) / sampling.spacing_mm[0]
    low = np.maximum(np.floor(sampling.centers[z] + corners.min(axis=0)), 0).astype(int)
    high = np.minimum(np.ceil(sampling.centers[z] + corners.max(axis=0)) + 1, sampling.shape).astype(int)
    box = (slice(int(low[0]), int(high[0])), slice(int(low[1]), int(high[1])))
    x, y = (np.ascontiguousarray(c[box]) for c in plane_coordinates(sampling, z))
    flow = gaussian_filter(rng.standard_normal((2, *x.shape), dtype=np.float32), (0.0, 2.5, 2.5), truncate=2.5)
    return Window(box, planes, x, y, np.hypot(x, y), angle_index(x, y), flow / max(float(flow.std()), 1e-6))


def _table(wall: FloatArray, window: Window, frame: int) -> FloatArray:
    """Radius ``S n m`` of a wall in the direction of every voxel."""
    return np.take(wall[frame, window.planes], window.angle, axis=1)


def _label(scene: Scene, window: Window, frame: int) -> LabelArray:
    """What fills most of the slice at each voxel, ``n m``."""
    cut = scene.cut
    if cut.epi[frame, window.planes].max() <= 0.0:
        return np.zeros(window.x.shape, np.uint8)
    endo, epi, rv = (_table(wall, window, frame) for wall in (cut.endo, cut.epi, cut.rv))
    each = label_plane(endo, epi, rv, window.radius)
    votes = np.stack([(each == k).sum(axis=0, dtype=np.uint8) for k in Label])
    return np.asarray(votes.argmax(axis=0), np.uint8)


def _image(scene: Scene, window: Window, frame: int, under: FloatArray, phase: float) -> FloatArray:
    """Signal ``n m`` of one slice, the mean over its sub-slices: layers from the outside in."""
    signal, walls = scene.signal, scene.walls
    wave = np.float32(np.cos(phase)) * window.flow[0] + np.float32(np.sin(phase)) * window.flow[1]
    blood = np.float32(1.0) + np.float32(FLOW) * wave
    dark_blood = np.float32(signal["rv_blood"]) * blood
    muscle = np.float32(signal["myocardium"]) * (1.0 + np.float32(0.06) * window.flow[0])
    fat = np.float32(0.55 * signal["fat"]) * (1.0 + np.float32(0.12) * window.flow[1])
    image = np.repeat(under[None], walls.sac[frame, window.planes].shape[0], axis=0)
    for wall, value in ((walls.sac, fat), (walls.rv_wall, muscle), (walls.rv_blood, dark_blood)):
        _fill(image, scene, window, frame, wall, value)
    _disks(image, scene, window, frame, scene.outlets, slice(0, 2), muscle, dark_blood)
    inner = (walls.atrium_wall, muscle), (walls.atrium, blood), (walls.epi, muscle), (walls.blood, blood)
    for wall, value in inner:
        _fill(image, scene, window, frame, wall, value)
    _disks(image, scene, window, frame, scene.outlets, slice(2, 3), muscle, blood)
    _disks(image, scene, window, frame, scene.pillars, slice(0, 2), None, muscle)
    return np.asarray(image.mean(axis=0))


def _cover(image: FloatArray, inside_mm: FloatArray, pixel: float, value: FloatArray) -> None:
    """Blend ``value`` in by the part of each voxel that lies inside (``inside_mm`` > 0); spoils ``inside_mm``."""
    inside_mm *= np.float32(1.0 / pixel)
    inside_mm += np.float32(0.5)
    np.clip(inside_mm, 0.0, 1.0, out=inside_mm)
    inside_mm *= value - image
    image += inside_mm


def _fill(image: FloatArray, scene: Scene, window: Window, frame: int, wall: FloatArray, value: FloatArray) -> None:
    if wall[frame, window.planes].max() > 0.0:
        inside = _table(wall, window, frame)
        inside -= window.radius
        _cover(image, inside, scene.pixel, value)


def _disks(
    image: FloatArray,
    scene: Scene,
    window: Window,
    frame: int,
    disks: Disks,
    which: slice,
    rim: FloatArray | None,
    value: FloatArray,
) -> None:
    """Paint disks, lumpy as muscle is, each inside a rim where one is given."""
    at = (frame, window.planes)
    for x, y, radius in zip(disks.x[at].T[which], disks.y[at].T[which], disks.radius[at].T[which], strict=True):
        if radius.max() <= 0.0:
            continue
        radius = np.where(radius > 0.0, radius, ABSENT - 999.0)[:, None, None]
        distance = np.hypot(window.x - x[:, None, None], window.y - y[:, None, None])
        distance *= 1.0 + np.float32(0.09) * window.flow[0]
        if rim is not None:
            _cover(image, radius + np.float32(WALL_MM) - distance, scene.pixel, rim)
        _cover(image, radius - distance, scene.pixel, value)
