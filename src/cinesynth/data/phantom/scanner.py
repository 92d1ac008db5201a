"""What phantom scanners see: where they place slices, tissue signals, the still thorax, and how images degrade."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, gaussian_filter1d

from cinesynth.data.phantom.anatomy import Heart
from cinesynth.errors import InputError
from cinesynth.types import FloatArray


class ScannerProtocol(NamedTuple):
    """A scanner and its cine protocol; lengths in mm, ``snr`` of LV blood at the heart."""

    name: str
    field_t: float
    flip_deg: float
    tr_ms: float
    spacing_mm: tuple[float, float]
    step_mm: float
    thickness_mm: float
    field_mm: tuple[float, float]  # X, Y
    blur_mm: float  # standard deviation of the in-plane point spread
    snr: float
    shading: float  # coil sensitivity near the chest wall over that at depth, minus one
    full_scale: int  # grey value of LV blood


VENDORS = {
    v.name: v
    for v in (
        ScannerProtocol("phantom-A", 1.5, 60.0, 2.9, (1.35, 1.60), 10.0, 8.0, (250.0, 290.0), 0.75, 45.0, 0.9, 210),
        ScannerProtocol("phantom-B", 1.5, 55.0, 3.2, (1.20, 1.40), 10.0, 8.0, (250.0, 250.0), 0.70, 34.0, 0.5, 900),
        ScannerProtocol("phantom-C", 1.5, 45.0, 3.6, (1.50, 1.80), 8.0, 8.0, (290.0, 290.0), 1.05, 25.0, 0.7, 1500),
        ScannerProtocol("phantom-D", 3.0, 42.0, 3.1, (1.40, 1.60), 10.0, 8.0, (290.0, 250.0), 0.80, 55.0, 1.4, 420),
    )
}


class Sampling(NamedTuple):
    """Where the stack lies: ``slices_s`` (Z,) mm in heart coordinates, ``centers`` (Z, 2) the axis in voxels."""

    shape: tuple[int, int]
    spacing_mm: tuple[float, float, float]
    slices_s: NDArray[np.float64]
    subslices: NDArray[np.float64]  # offsets within a slice, mm
    centers: NDArray[np.float64]
    rotation: float


def place_stack(
    rng: np.random.Generator,
    heart: Heart,
    vendor: ScannerProtocol,
    *,
    spacing_mm: float | None,
    field_mm: float | None,
    shifts: bool,
) -> Sampling:
    """Plan a short-axis stack that covers the heart from base to apex, as a radiographer would."""
    pixel = rng.uniform(*vendor.spacing_mm) if spacing_mm is None else spacing_mm
    field = vendor.field_mm if field_mm is None else (field_mm, field_mm)
    if not 0.5 <= pixel <= 4.0 or min(field) < 100.0:
        raise InputError(
            f"a field of view of {min(field):g} mm with pixels of {pixel:g} mm does not fit a heart",
            hint="spacing_mm must be 0.5-4 mm and field_mm at least 100 mm",
        )
    shape = (2 * round(field[0] / pixel / 2), 2 * round(field[1] / pixel / 2))
    step = vendor.step_mm if heart.apex < 11.0 * vendor.step_mm else 10.0
    # Half a slice below the base at ED, so that slices sum up to the true volume; some stacks start one slice above.
    first = (rng.uniform(0.35, 0.65) - float(rng.random() < 0.35)) * step
    count = max(6, int(np.ceil((heart.apex - first) / step + 0.2)))
    slices_s = first + step * np.arange(count, dtype=np.float64)
    rotation = float(np.clip(rng.normal(-0.1, 0.25), -0.7, 0.7))
    jitter = rng.normal(0.0, 1.6 * float(shifts), (count, 2))
    offset = rng.uniform(-0.03, 0.03, 2) * np.array(field)
    tilt = np.outer(slices_s - heart.apex / 2.0, heart.tilt)
    middle = (np.array(shape) - 1.0) / 2.0
    centers = middle + (offset + tilt + jitter.clip(-4.0, 4.0)) / pixel
    within = (np.arange(5) + 0.5) / 5 - 0.5
    return Sampling(shape, (pixel, pixel, step), slices_s, within * vendor.thickness_mm, centers, rotation)


def receive(
    rng: np.random.Generator, image: FloatArray, sampling: Sampling, vendor: ScannerProtocol, *, noise: bool
) -> NDArray[np.int16]:
    """The image ``T X Y Z`` of an object ``T Z X Y`` (LV blood 1): blurred, shaded, with Rician noise, quantized."""
    sigma = vendor.blur_mm / sampling.spacing_mm[0]
    for axis in (2, 3):
        image = gaussian_filter1d(image, sigma, axis=axis, truncate=2.5)
    # Coil sensitivity X Y, 1 at the heart, smooth, larger toward the anterior chest wall.
    x, y = plane_coordinates(sampling, len(sampling.slices_s) // 2)
    angle = np.pi + 0.5 + rng.uniform(-0.4, 0.4)  # the surface coil lies over the front left of the chest
    depth = np.hypot(x - 145.0 * np.cos(angle), y - 145.0 * np.sin(angle))
    field = 1.0 + vendor.shading * np.exp(-((depth / 80.0) ** 2))
    field *= np.exp(-np.maximum(depth - 145.0, 0.0) / (420.0 - 120.0 * vendor.shading))
    at_heart = 1.0 + vendor.shading * np.exp(-((145.0 / 80.0) ** 2))
    image *= np.asarray(field / at_heart, np.float32)
    for t in range(len(image) if noise else 0):
        # Magnitude with complex Gaussian noise; neighbors correlate as after zero-filled interpolation.
        parts = rng.standard_normal((2, *image[t].shape), dtype=np.float32)
        for axis in (2, 3):
            parts = 0.9 * parts + 0.436 * np.roll(parts, 1, axis)
        parts *= np.float32(1.0 / vendor.snr)
        image[t] = np.hypot(image[t] + parts[0], parts[1])
    scaled = np.clip(image * np.float32(vendor.full_scale), 0.0, 32767.0) + np.float32(0.5)
    return np.ascontiguousarray(np.moveaxis(scaled, 1, 3)).astype(np.int16)


def plane_coordinates(sampling: Sampling, slice_index: int) -> tuple[FloatArray, FloatArray]:
    """Coordinates x, y ``X Y`` in mm about the LV axis of the voxels of a slice, turned into the heart's frame."""
    pixel = sampling.spacing_mm[0]
    cx, cy = sampling.centers[slice_index]
    u = ((np.arange(sampling.shape[0]) - cx) * pixel)[:, None]
    v = ((np.arange(sampling.shape[1]) - cy) * pixel)[None, :]
    cos, sin = np.cos(sampling.rotation), np.sin(sampling.rotation)
    return np.asarray(cos * u + sin * v, np.float32), np.asarray(cos * v - sin * u, np.float32)


# --- Balanced steady-state free precession signal of the tissues in a cardiac cine -----------------------------------


class Tissue(NamedTuple):
    """Proton density and relaxation times in ms at 1.5 T and 3 T (rounded literature values)."""

    density: float
    t1_ms: tuple[float, float]
    t2_ms: tuple[float, float]


TISSUES = {
    "lv_blood": Tissue(0.95, (1550.0, 1930.0), (250.0, 230.0)),
    "rv_blood": Tissue(0.95, (1580.0, 1960.0), (175.0, 130.0)),  # less oxygen, shorter T2
    "myocardium": Tissue(0.78, (1000.0, 1220.0), (49.0, 44.0)),
    "fat": Tissue(0.95, (300.0, 380.0), (85.0, 75.0)),
    "liver": Tissue(0.75, (590.0, 810.0), (46.0, 34.0)),
    "spleen": Tissue(0.80, (1050.0, 1320.0), (79.0, 61.0)),
    "muscle": Tissue(0.80, (1010.0, 1410.0), (36.0, 32.0)),
    "lung": Tissue(0.17, (1200.0, 1400.0), (40.0, 25.0)),
    "bone": Tissue(0.45, (550.0, 590.0), (49.0, 45.0)),
    "fluid": Tissue(0.90, (3000.0, 3500.0), (700.0, 600.0)),
}


def bssfp_signal(tissue: Tissue, *, field_t: float, flip_deg: float, tr_ms: float) -> float:
    """On-resonance steady state of balanced SSFP at TE = TR / 2.

    ``M0 sin a (1 - E1) sqrt(E2) / (1 - (E1 - E2) cos a - E1 E2)``, Bernstein, King and Zhou, Handbook of MRI
    Pulse Sequences (2004), section 14.1.
    """
    high = int(field_t > 2.0)
    e1, e2 = math.exp(-tr_ms / tissue.t1_ms[high]), math.exp(-tr_ms / tissue.t2_ms[high])
    sin, cos = math.sin(math.radians(flip_deg)), math.cos(math.radians(flip_deg))
    return tissue.density * sin * (1.0 - e1) * math.sqrt(e2) / (1.0 - (e1 - e2) * cos - e1 * e2)


def signals(*, field_t: float, flip_deg: float, tr_ms: float) -> dict[str, float]:
    """Signal of every tissue relative to LV blood."""
    raw = {k: bssfp_signal(t, field_t=field_t, flip_deg=flip_deg, tr_ms=tr_ms) for k, t in TISSUES.items()}
    return {k: v / raw["lv_blood"] for k, v in raw.items()}


# --- The thorax ------------------------------------------------------------------------------------------------------

Depth = NDArray[np.floating[Any]]


class Body:
    """A body of average size: lengths in mm from the LV axis; x points to the lateral side, y to the diaphragm."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.chest = (rng.uniform(84.0, 98.0), rng.uniform(80.0, 96.0))  # semi-axes of the lung cavity
        self.fat_mm, self.muscle_mm = rng.uniform(6.0, 18.0), rng.uniform(9.0, 15.0)
        self.diaphragm, self.dome = rng.uniform(38.0, 48.0), rng.uniform(0.0016, 0.0032)
        self.radius = (rng.uniform(120.0, 132.0), rng.uniform(150.0, 195.0))
        self.phase = [np.float32(rng.uniform(0, 6.28)) for _ in range(3)]


class ThoraxPlane(NamedTuple):
    """One slice: warped coordinates and textures ``X Y``, ``level`` 0 at the base and 1 at the apex, tissue signals."""

    body: Body
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


def render_thorax(rng: np.random.Generator, sampling: Sampling, signal: dict[str, float], apex: float) -> FloatArray:
    """Signal of the thorax without the heart, ``Z X Y`` (LV blood 1)."""
    body = Body(rng)
    a, b, c = body.phase
    planes = []
    for z, s in enumerate(sampling.slices_s):
        x, y = plane_coordinates(sampling, z)
        # Bend the plane by a few mm, so that organs are not ellipses.
        bent = x + 5.0 * np.sin(y / 27.0 + a) + 3.0 * np.sin(x / 17.0 + b), y + 5.0 * np.sin(x / 31.0 + c)
        textures = []
        for mm in (9.0, 4.0, 1.7):  # smooth noise of unit standard deviation
            noise = rng.standard_normal(x.shape, dtype=np.float32)
            smooth = gaussian_filter(noise, mm / sampling.spacing_mm[0], mode="wrap", truncate=2.5)
            textures.append(np.asarray(smooth / smooth.std(), np.float32))
        coarse, noise, fine = textures
        planes.append(_thorax_slice(ThoraxPlane(body, float(s / apex), *bent, coarse, noise, fine, signal)))
    return np.stack(planes)


def _paint(image: FloatArray, depth: Depth, value: Depth | float) -> None:
    """Blend ``value`` in where ``depth`` > 0 mm, with a soft edge of 2 mm."""
    image += np.clip(depth * 0.5 + 0.5, 0.0, 1.0) * (value - image)


def _thorax_slice(p: ThoraxPlane) -> FloatArray:
    """Body, fat, muscle with ribs, lung, then the organs below the diaphragm, from back to front."""
    image = np.zeros_like(p.x)
    radius = p.body.radius
    body = p.ellipse((28.0, 25.0), (radius[0], radius[1] - 25.0 * p.level))
    cavity = p.ellipse((8.0, -4.0), (p.body.chest[0], p.body.chest[1] * (1.0 - 0.2 * p.level)))
    _chest_wall(p, image, body, cavity)
    lung = p.signal["lung"] * (1.0 + 0.2 * p.noise)
    _paint(image, cavity, lung)
    _paint(image, np.minimum(cavity - 4.0, 2.5 * (p.fine - 2.35 - 0.008 * np.hypot(p.x - 40.0, p.y - 10.0) + 0.2)), 0.6)
    _abdomen(p, image, np.minimum(body - p.body.fat_mm - p.body.muscle_mm, 30.0))
    return image


def _chest_wall(p: ThoraxPlane, image: FloatArray, body: FloatArray, cavity: FloatArray) -> None:
    """Skin fat, layers of muscle with fat between them, and ribs of marrow in a dark cortex."""
    fat, muscle = p.signal["fat"], p.signal["muscle"]
    _paint(image, body, 0.9 * fat * (1.0 + 0.05 * p.noise))
    # Muscle keeps half of a thin wall.
    inner = body - np.minimum(p.body.fat_mm + 8.0 * p.level, np.maximum(0.45 * (body - cavity), 4.0))
    _paint(image, np.minimum(inner, 8.0 + 3.0 * p.coarse), muscle * (1.0 + 0.12 * p.noise))
    stripes = 6.0 * (np.cos(0.33 * inner + 1.3 * p.coarse) + 0.15 * p.fine - 0.95)
    _paint(image, np.minimum(stripes, inner - 1.0), 0.7 * fat)
    around = np.arctan2(p.y + 4.0, p.x - 8.0) * np.float32(min(p.body.chest)) + 20.0 * p.level
    rib = np.minimum(7.5 - np.abs(np.mod(around, 31.0) - 15.5), 4.5 - np.abs(cavity + 6.5)) + 0.8 * p.noise
    rib = np.minimum(rib, inner - 1.0)
    _paint(image, rib, 0.55 * muscle)
    _paint(image, rib - 2.2, 0.8 * p.signal["bone"])


def _abdomen(p: ThoraxPlane, image: FloatArray, body: FloatArray) -> None:
    """Liver to the right of the body, stomach, bowel and spleen to the left, spine and aorta behind."""
    signal, noise, level = p.signal, p.noise, p.level
    floor = p.body.diaphragm - 6.0 * level
    lateral = p.x - 5.0
    below = p.y - floor - p.body.dome * lateral * lateral * np.where(lateral > 0.0, 1.0, -0.5)
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
