"""Paints the phantom's images: the still thorax, and over it the beating heart, sub-slice by sub-slice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

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


@dataclass(frozen=True)
class Scene:
    """The painted structures of all frames and planes."""

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
    """The label of most sub-slices at each voxel, ``n m``."""
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
    blood = np.float32(1.0) + np.float32(0.07) * wave  # moving blood
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
    """Blend ``value`` in by the fraction of each voxel inside (``inside_mm`` > 0); overwrites ``inside_mm``."""
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
    """Paint disks with uneven outlines, each inside a 2 mm rim if ``rim`` is given."""
    at = (frame, window.planes)
    for x, y, radius in zip(disks.x[at].T[which], disks.y[at].T[which], disks.radius[at].T[which], strict=True):
        if radius.max() <= 0.0:
            continue
        radius = np.where(radius > 0.0, radius, ABSENT - 999.0)[:, None, None]
        distance = np.hypot(window.x - x[:, None, None], window.y - y[:, None, None])
        distance *= 1.0 + np.float32(0.09) * window.flow[0]
        if rim is not None:
            _cover(image, radius + np.float32(2.0) - distance, scene.pixel, rim)
        _cover(image, radius - distance, scene.pixel, value)


# --- The thorax ------------------------------------------------------------------------------------------------------

Depth = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Body:
    """Shape of one body: lengths in mm from the LV axis; x points to the heart's lateral side, y to its diaphragm."""

    chest: tuple[float, float]  # semi-axes of the lung cavity
    fat_mm: float
    muscle_mm: float
    diaphragm: float
    dome: float
    body_radius: tuple[float, float]
    phase: tuple[float, float, float]


@dataclass(frozen=True)
class ThoraxPlane:
    """One slice: warped coordinates and textures ``X Y``, ``level`` 0 at the base and 1 at the apex, tissue signals."""

    build: Body
    level: float
    x: FloatArray
    y: FloatArray
    coarse: FloatArray
    noise: FloatArray
    fine: FloatArray
    signal: dict[str, float]

    def ellipse(self, center: tuple[float, float], axes: tuple[float, float]) -> FloatArray:
        """Approximate depth in mm inside an ellipse."""
        r = np.hypot((self.x - center[0]) / axes[0], (self.y - center[1]) / axes[1])
        return np.asarray((1.0 - r) * min(axes), np.float32)


def draw_body(rng: np.random.Generator) -> Body:
    """A body of average size."""
    return Body(
        chest=(rng.uniform(84.0, 98.0), rng.uniform(80.0, 96.0)),
        fat_mm=rng.uniform(6.0, 18.0),
        muscle_mm=rng.uniform(9.0, 15.0),
        diaphragm=rng.uniform(38.0, 48.0),
        dome=rng.uniform(0.0016, 0.0032),
        body_radius=(rng.uniform(120.0, 132.0), rng.uniform(150.0, 195.0)),
        phase=(rng.uniform(0, 6.28), rng.uniform(0, 6.28), rng.uniform(0, 6.28)),
    )


def render_thorax(rng: np.random.Generator, sampling: Sampling, signal: dict[str, float], apex: float) -> FloatArray:
    """Signal of the thorax without the heart, ``Z X Y`` (LV blood 1)."""
    build = draw_body(rng)
    pixel = sampling.spacing_mm[0]
    planes = []
    for z, s in enumerate(sampling.slices_s):
        x, y = _warp(*plane_coordinates(sampling, z), build)
        coarse, noise, fine = (_texture(rng, x.shape, mm / pixel) for mm in (9.0, 4.0, 1.7))
        planes.append(_thorax_slice(ThoraxPlane(build, float(s / apex), x, y, coarse, noise, fine, signal)))
    return np.stack(planes)


def _texture(rng: np.random.Generator, shape: tuple[int, ...], sigma: float) -> FloatArray:
    """Smooth noise of unit standard deviation."""
    noise = gaussian_filter(rng.standard_normal(shape, dtype=np.float32), sigma, mode="wrap", truncate=2.5)
    return np.asarray(noise / noise.std(), np.float32)


def _warp(x: FloatArray, y: FloatArray, build: Body) -> tuple[FloatArray, FloatArray]:
    """Bend the plane by a few mm, so that organs are not ellipses."""
    a, b, c = (np.float32(p) for p in build.phase)
    return x + 5.0 * np.sin(y / 27.0 + a) + 3.0 * np.sin(x / 17.0 + b), y + 5.0 * np.sin(x / 31.0 + c)


def _paint(image: FloatArray, depth: Depth, value: Depth | float) -> None:
    """Blend ``value`` in where ``depth`` > 0 mm, with a soft edge of 2 mm."""
    image += np.clip(depth * 0.5 + 0.5, 0.0, 1.0) * (value - image)


def _thorax_slice(p: ThoraxPlane) -> FloatArray:
    """Body, fat, muscle with ribs, lung, then the organs below the diaphragm, from back to front."""
    image = np.zeros_like(p.x)
    radius = p.build.body_radius
    body = p.ellipse((28.0, 25.0), (radius[0], radius[1] - 25.0 * p.level))
    cavity = p.ellipse((8.0, -4.0), (p.build.chest[0], p.build.chest[1] * (1.0 - 0.2 * p.level)))
    _chest_wall(p, image, body, cavity)
    lung = p.signal["lung"] * (1.0 + 0.2 * p.noise)
    _paint(image, cavity, lung)
    _paint(image, np.minimum(cavity - 4.0, 2.5 * (p.fine - 2.35 - 0.008 * np.hypot(p.x - 40.0, p.y - 10.0) + 0.2)), 0.6)
    _abdomen(p, image, np.minimum(body - p.build.fat_mm - p.build.muscle_mm, 30.0))
    return image


def _chest_wall(p: ThoraxPlane, image: FloatArray, body: FloatArray, cavity: FloatArray) -> None:
    """Skin fat, layers of muscle with fat between them, and ribs of marrow in a dark cortex."""
    fat, muscle = p.signal["fat"], p.signal["muscle"]
    _paint(image, body, 0.9 * fat * (1.0 + 0.05 * p.noise))
    # Muscle keeps half of a thin wall.
    inner = body - np.minimum(p.build.fat_mm + 8.0 * p.level, np.maximum(0.45 * (body - cavity), 4.0))
    _paint(image, np.minimum(inner, 8.0 + 3.0 * p.coarse), muscle * (1.0 + 0.12 * p.noise))
    stripes = 6.0 * (np.cos(0.33 * inner + 1.3 * p.coarse) + 0.15 * p.fine - 0.95)
    _paint(image, np.minimum(stripes, inner - 1.0), 0.7 * fat)
    around = np.arctan2(p.y + 4.0, p.x - 8.0) * np.float32(min(p.build.chest)) + 20.0 * p.level
    rib = np.minimum(7.5 - np.abs(np.mod(around, 31.0) - 15.5), 4.5 - np.abs(cavity + 6.5)) + 0.8 * p.noise
    rib = np.minimum(rib, inner - 1.0)
    _paint(image, rib, 0.55 * muscle)
    _paint(image, rib - 2.2, 0.8 * p.signal["bone"])


def _abdomen(p: ThoraxPlane, image: FloatArray, body: FloatArray) -> None:
    """Liver to the right of the body, stomach, bowel and spleen to the left, spine and aorta behind."""
    signal, noise, level = p.signal, p.noise, p.level
    floor = p.build.diaphragm - 6.0 * level
    lateral = p.x - 5.0
    below = p.y - floor - p.build.dome * lateral * lateral * np.where(lateral > 0.0, 1.0, -0.5)
    inside = np.minimum(below, body)
    _paint(image, inside, 0.55 * signal["fat"] * (1.0 + 0.10 * noise))
    bowel = 7.0 * (p.coarse + 0.3 * noise - 0.1)
    _paint(image, np.minimum(inside - 4.0, bowel), signal["muscle"] * (1.3 + 0.2 * noise))
    liver = np.minimum(inside - 2.0, 34.0 - 50.0 * level - p.x + 3.0 * noise)
    _paint(image, liver, signal["liver"] * (0.60 + 0.04 * noise))
    _paint(image, np.minimum(liver - 5.0, 3.5 * (p.fine + 0.4 * noise - 2.0)), 0.9 * signal["rv_blood"])
    stomach = p.ellipse((44.0 - 12.0 * level, floor + 34.0), (27.0, 22.0)) + 1.5 * p.coarse
    _paint(image, np.minimum(stomach, inside - 2.0), signal["muscle"])
    _paint(image, np.minimum(stomach - 4.0, inside - 6.0), signal["muscle"] * (1.5 + 0.45 * p.coarse))
    spleen = p.ellipse((84.0 + 4.0 * level, floor + 48.0), (20.0, 34.0)) + 1.5 * p.coarse
    _paint(image, np.minimum(spleen, inside - 2.0), signal["spleen"] * (0.7 + 0.04 * noise))
    for center, radius, value in (
        ((66.0, 106.0), 19.0, signal["bone"]),
        ((90.0, 114.0), 8.0, signal["fluid"] * 0.6),
        ((45.0, 86.0 - 14.0 * (1.0 - level)), 10.5, signal["lv_blood"]),  # the descending aorta
    ):
        disk = p.ellipse(center, (radius, radius)) + 0.8 * p.coarse
        _paint(image, disk + 2.0, 0.6 * signal["muscle"])
        _paint(image, disk, value * (1.0 + 0.05 * noise))
