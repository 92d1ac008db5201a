"""What lies around the heart and keeps still: chest wall, fat, lung, liver, stomach, spine and great vessels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from cinesynth.data.phantom.scanner import Sampling, plane_coordinates
from cinesynth.types import FloatArray

Depth = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Build:
    """One body: lengths mm about the LV axis, directions as the heart's (x to its lateral side, y to its diaphragm)."""

    chest: tuple[float, float]  # semi-axes of the lung cavity
    fat_mm: float
    muscle_mm: float
    diaphragm: float
    dome: float
    body_radius: tuple[float, float]
    phase: tuple[float, float, float]


@dataclass(frozen=True)
class Plane:
    """One slice: warped coordinates and textures ``X Y``, ``level`` 0 at the base and 1 at the apex, tissue signals."""

    build: Build
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


def draw_build(rng: np.random.Generator) -> Build:
    """A body of ordinary size."""
    return Build(
        chest=(rng.uniform(84.0, 98.0), rng.uniform(80.0, 96.0)),
        fat_mm=rng.uniform(6.0, 18.0),
        muscle_mm=rng.uniform(9.0, 15.0),
        diaphragm=rng.uniform(38.0, 48.0),
        dome=rng.uniform(0.0016, 0.0032),
        body_radius=(rng.uniform(120.0, 132.0), rng.uniform(150.0, 195.0)),
        phase=(rng.uniform(0, 6.28), rng.uniform(0, 6.28), rng.uniform(0, 6.28)),
    )


def render_thorax(rng: np.random.Generator, sampling: Sampling, signal: dict[str, float], apex: float) -> FloatArray:
    """Signal of the still surroundings, ``Z X Y``, LV blood 1."""
    build = draw_build(rng)
    pixel = sampling.spacing_mm[0]
    planes = []
    for z, s in enumerate(sampling.slices_s):
        x, y = _warp(*plane_coordinates(sampling, z), build)
        coarse, noise, fine = (_texture(rng, x.shape, mm / pixel) for mm in (9.0, 4.0, 1.7))
        planes.append(_slice(Plane(build, float(s / apex), x, y, coarse, noise, fine, signal)))
    return np.stack(planes)


def _texture(rng: np.random.Generator, shape: tuple[int, ...], sigma: float) -> FloatArray:
    """Smooth noise of unit standard deviation."""
    noise = gaussian_filter(rng.standard_normal(shape, dtype=np.float32), sigma, mode="wrap", truncate=2.5)
    return np.asarray(noise / noise.std(), np.float32)


def _warp(x: FloatArray, y: FloatArray, build: Build) -> tuple[FloatArray, FloatArray]:
    """Bend the plane by a few mm: no organ is an ellipse."""
    a, b, c = (np.float32(p) for p in build.phase)
    return x + 5.0 * np.sin(y / 27.0 + a) + 3.0 * np.sin(x / 17.0 + b), y + 5.0 * np.sin(x / 31.0 + c)


def _paint(image: FloatArray, depth: Depth, value: Depth | float) -> None:
    """Blend ``value`` in where depth > 0 mm, with an edge 2 mm soft."""
    image += np.clip(depth * 0.5 + 0.5, 0.0, 1.0) * (value - image)


def _slice(p: Plane) -> FloatArray:
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


def _chest_wall(p: Plane, image: FloatArray, body: FloatArray, cavity: FloatArray) -> None:
    """Skin fat, layers of muscle with fat between them, and ribs of marrow in a dark cortex."""
    fat, muscle = p.signal["fat"], p.signal["muscle"]
    _paint(image, body, 0.9 * fat * (1.0 + 0.05 * p.noise))
    # Where the wall is thin, muscle keeps its half of it.
    inner = body - np.minimum(p.build.fat_mm + 8.0 * p.level, np.maximum(0.45 * (body - cavity), 4.0))
    _paint(image, np.minimum(inner, 8.0 + 3.0 * p.coarse), muscle * (1.0 + 0.12 * p.noise))
    stripes = 6.0 * (np.cos(0.33 * inner + 1.3 * p.coarse) + 0.15 * p.fine - 0.95)
    _paint(image, np.minimum(stripes, inner - 1.0), 0.7 * fat)
    around = np.arctan2(p.y + 4.0, p.x - 8.0) * np.float32(min(p.build.chest)) + 20.0 * p.level
    rib = np.minimum(7.5 - np.abs(np.mod(around, 31.0) - 15.5), 4.5 - np.abs(cavity + 6.5)) + 0.8 * p.noise
    rib = np.minimum(rib, inner - 1.0)
    _paint(image, rib, 0.55 * muscle)
    _paint(image, rib - 2.2, 0.8 * p.signal["bone"])


def _abdomen(p: Plane, image: FloatArray, body: FloatArray) -> None:
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
