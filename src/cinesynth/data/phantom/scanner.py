"""Four phantom scanners: where they place slices, how they degrade an image, and the signal of each tissue."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from cinesynth.data.phantom.anatomy import Heart
from cinesynth.errors import InputError
from cinesynth.types import FloatArray


@dataclass(frozen=True)
class ScannerProtocol:
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


@dataclass(frozen=True)
class Sampling:
    """Where the stack lies: ``slices_s`` (Z,) mm in heart coordinates, ``centers`` (Z, 2) the axis in voxels."""

    shape: tuple[int, int]
    spacing_mm: tuple[float, float, float]
    slices_s: NDArray[np.float64]
    subslices: NDArray[np.float64]  # offsets within a slice, mm
    centers: NDArray[np.float64]
    rotation: float

    @property
    def planes(self) -> NDArray[np.float64]:
        """All sub-slice positions, shape ``Z * sub``, slice by slice."""
        return np.asarray((self.slices_s[:, None] + self.subslices).ravel())


def vendor_named(name: str) -> ScannerProtocol:
    """The scanner of a vendor; `InputError` names the known vendors."""
    if name not in VENDORS:
        raise InputError(f"unknown vendor {name!r}", hint=f"one of {', '.join(VENDORS)}")
    return VENDORS[name]


def place_stack(
    rng: np.random.Generator,
    heart: Heart,
    vendor: ScannerProtocol,
    *,
    spacing_mm: float | None,
    field_mm: float | None,
    shifts: bool,
    subslices: int = 5,
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
    within = (np.arange(subslices) + 0.5) / subslices - 0.5
    return Sampling(shape, (pixel, pixel, step), slices_s, within * vendor.thickness_mm, centers, rotation)


def receive(
    rng: np.random.Generator, image: FloatArray, sampling: Sampling, vendor: ScannerProtocol, *, noise: bool
) -> NDArray[np.int16]:
    """The image ``T X Y Z`` of an object ``T Z X Y`` (LV blood 1): blurred, shaded, with Rician noise, quantized."""
    sigma = vendor.blur_mm / sampling.spacing_mm[0]
    for axis in (2, 3):
        image = gaussian_filter1d(image, sigma, axis=axis, truncate=2.5)
    image *= _sensitivity(rng, sampling, vendor)
    if noise:
        image = _rician(rng, image, 1.0 / vendor.snr)
    scaled = np.clip(image * np.float32(vendor.full_scale), 0.0, 32767.0) + np.float32(0.5)
    return np.ascontiguousarray(np.moveaxis(scaled, 1, 3)).astype(np.int16)


def _sensitivity(rng: np.random.Generator, sampling: Sampling, vendor: ScannerProtocol) -> FloatArray:
    """Coil sensitivity ``X Y``, 1 at the heart, smooth, larger toward the anterior chest wall."""
    x, y = plane_coordinates(sampling, len(sampling.slices_s) // 2)
    angle = np.pi + 0.5 + rng.uniform(-0.4, 0.4)  # the surface coil lies over the front left of the chest
    depth = np.hypot(x - 145.0 * np.cos(angle), y - 145.0 * np.sin(angle))
    field = 1.0 + vendor.shading * np.exp(-((depth / 80.0) ** 2))
    field *= np.exp(-np.maximum(depth - 145.0, 0.0) / (420.0 - 120.0 * vendor.shading))
    at_heart = 1.0 + vendor.shading * np.exp(-((145.0 / 80.0) ** 2))
    return np.asarray(field / at_heart, np.float32)


def _rician(rng: np.random.Generator, image: FloatArray, sigma: float) -> FloatArray:
    """Magnitude of the image plus complex Gaussian noise; neighbors correlate as after zero-filled interpolation."""
    out = np.empty_like(image)
    for t in range(len(image)):
        noise = rng.standard_normal((2, *image[t].shape), dtype=np.float32)
        for axis in (2, 3):
            noise = 0.9 * noise + 0.436 * np.roll(noise, 1, axis)
        noise *= np.float32(sigma)
        out[t] = np.hypot(image[t] + noise[0], noise[1])
    return out


def plane_coordinates(sampling: Sampling, slice_index: int) -> tuple[FloatArray, FloatArray]:
    """Coordinates x, y ``X Y`` in mm about the LV axis of the voxels of a slice, turned into the heart's frame."""
    pixel = sampling.spacing_mm[0]
    cx, cy = sampling.centers[slice_index]
    u = ((np.arange(sampling.shape[0]) - cx) * pixel)[:, None]
    v = ((np.arange(sampling.shape[1]) - cy) * pixel)[None, :]
    cos, sin = np.cos(sampling.rotation), np.sin(sampling.rotation)
    return np.asarray(cos * u + sin * v, np.float32), np.asarray(cos * v - sin * u, np.float32)


# --- Balanced steady-state free precession signal of the tissues in a cardiac cine -----------------------------------


@dataclass(frozen=True)
class Tissue:
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
