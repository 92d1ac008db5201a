"""`appearance`: how a heart looks as a whole: grey values, sharpness, and its mid-ventricular ED slice."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cinesynth.evaluation.cases import Case
from cinesynth.evaluation.measure import Measurer
from cinesynth.memorisation.thumbnails import centre_of, slices_at, window

GREYS = 64
"""Bins of the histogram over the 256 bytes."""
BANDS = 16
"""Rings of spatial frequency from 0 to the Nyquist frequency of the grid."""
HEIGHTS = (0.25, 0.5, 0.75)
"""Slices of the ventricle whose spectrum is taken."""
PIXELS, PIXEL_MM = 64, 2.0
"""The window of the mid-ventricular slice."""


def _measure(case: Case) -> dict[str, NDArray[np.generic]]:
    planes = case.intensity[case.ed][..., slices_at(case.label[case.ed], HEIGHTS)]
    return {
        "histogram": histogram(case.image[case.ed]),
        "spectrum": np.mean([spectrum(planes[..., z]) for z in range(planes.shape[2])], axis=0),
        "middle": middle_slice(case, pixels=PIXELS, pixel_mm=PIXEL_MM),
    }


def histogram(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Share of voxels in each of `GREYS` bins."""
    counts = np.bincount(image.ravel() // (256 // GREYS), minlength=GREYS)
    return np.asarray(counts / counts.sum(), dtype=np.float64)


def spectrum(plane: NDArray[np.float32]) -> NDArray[np.float64]:
    """log10 of the energy in each of `BANDS` rings of frequency of an ``X Y`` slice under a Hann window."""
    width, height = plane.shape
    tapered = (plane - plane.mean()) * np.outer(np.hanning(width), np.hanning(height))
    energy = np.abs(np.fft.fft2(tapered)) ** 2 / plane.size
    frequency = np.hypot(np.fft.fftfreq(width)[:, None], np.fft.fftfreq(height)[None, :])  # cycles a pixel
    band = np.minimum((frequency / 0.5 * BANDS).astype(int), BANDS)  # the corners beyond Nyquist are left out
    totals = np.bincount(band.ravel(), energy.ravel(), minlength=BANDS + 1)[:BANDS]
    return np.asarray(np.log10(totals + 1e-9), dtype=np.float64)


def appearance() -> Measurer:
    """``histogram`` (`GREYS`), ``spectrum`` (`BANDS`) and ``middle`` (`PIXELS` x `PIXELS`), all of ED."""
    return Measurer("appearance", "1", _measure)


# --- The slice of a case that is shown and compared ------------------------------------------------------------------


def middle_slice(case: Case, *, pixels: int, pixel_mm: float) -> NDArray[np.float32]:
    """The mid-ventricular ED slice, ``pixels pixels`` in [-1, 1], centred on the left ventricle."""
    label = case.label[case.ed]
    chosen = slices_at(label, [0.5])
    image = case.intensity[case.ed][..., chosen]
    return window(image, centre_of(label), case.spacing_mm, pixels=pixels, pixel_mm=pixel_mm, fill=-1.0)[..., 0]
