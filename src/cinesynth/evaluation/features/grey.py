"""The grey values of one frame: first-order statistics of regions, texture of mid-ventricular slices."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, stats
from skimage.feature import graycomatrix, graycoprops

from cinesynth.memorisation.thumbnails import centre_of, slices_at
from cinesynth.types import FloatArray, Label, LabelArray

RING_MM = 10.0
"""Width of the ring around the labelled heart: lung, fat, liver."""
LEVELS = 16
"""Grey levels of the co-occurrence matrix, over [-1, 1]."""
DISTANCES_PX = (1, 2)
ANGLES = (0.0, np.pi / 4, np.pi / 2, 3 * np.pi / 4)
PROPERTIES = ("contrast", "homogeneity", "correlation", "energy")
TEXTURE_HEIGHTS = (0.25, 0.5, 0.75)
TEXTURE_MM = 120.0
"""Edge of the square around the ventricle in which texture is taken."""

STATISTICS = ("mean", "sd", "skewness", "kurtosis", "p10", "p50", "p90")
TEXTURE_NAMES = tuple(f"{p}_{d}px" for p in PROPERTIES for d in DISTANCES_PX)
EDGE_NAMES = ("blood_myocardium", "blood_myocardium_cnr", "edge")


def first_order(values: FloatArray) -> NDArray[np.float64]:
    """`STATISTICS` of grey values; all 0 of none. Skewness and kurtosis of a constant are 0."""
    if not len(values):
        return np.zeros(len(STATISTICS))
    moments = (stats.skew(values), stats.kurtosis(values)) if values.std() > 1e-6 else (0.0, 0.0)
    return np.array([values.mean(), values.std(), *moments, *np.percentile(values, (10, 50, 90))], dtype=np.float64)


def ring(label: LabelArray, spacing_mm: Sequence[float]) -> NDArray[np.bool_]:
    """Voxels within `RING_MM` of the labelled heart in plane, the heart itself left out."""
    result = np.zeros(label.shape, dtype=np.bool_)
    for z in np.flatnonzero((label > 0).any(axis=(0, 1))):
        away_mm = ndimage.distance_transform_edt(label[..., z] == 0, sampling=list(spacing_mm[:2]))
        result[..., z] = (away_mm > 0) & (away_mm <= RING_MM)
    return result


def contrast(image: FloatArray, label: LabelArray, spacing_mm: Sequence[float]) -> NDArray[np.float64]:
    """`EDGE_NAMES`: blood less myocardium, the same over their pooled SD, and the mean gradient at the edge of the
    cavity (per mm); all 0 where cavity or wall is missing."""
    blood, wall = image[label == Label.LV], image[label == Label.MYO]
    if not len(blood) or not len(wall):
        return np.zeros(len(EDGE_NAMES))
    difference = float(blood.mean() - wall.mean())
    pooled = float(np.sqrt((blood.var() + wall.var()) / 2))
    cavity = label == Label.LV
    border = cavity & ~ndimage.binary_erosion(cavity, np.ones((3, 3, 1), dtype=np.bool_))
    slopes = np.gradient(image, spacing_mm[0], axis=0)[border], np.gradient(image, spacing_mm[1], axis=1)[border]
    return np.array([difference, difference / max(pooled, 1e-3), float(np.hypot(*slopes).mean())])


def texture(image: FloatArray, label: LabelArray, spacing_mm: Sequence[float]) -> NDArray[np.float64]:
    """`TEXTURE_NAMES`: co-occurrence properties (Haralick, 1973), mean of angles and of three slices."""
    half = [int(TEXTURE_MM / 2 / s) for s in spacing_mm[:2]]
    x, y = (round(c) for c in centre_of(label))
    box = image[max(x - half[0], 0) : x + half[0], max(y - half[1], 0) : y + half[1]]
    grey = np.clip((box + 1) * (LEVELS / 2), 0, LEVELS - 1).astype(np.uint8)
    planes = [_cooccurrence(grey[..., z]) for z in slices_at(label, TEXTURE_HEIGHTS)]
    return np.asarray(np.mean(planes, axis=0), dtype=np.float64)


def _cooccurrence(plane: NDArray[np.uint8]) -> NDArray[np.float64]:
    matrix = graycomatrix(plane, DISTANCES_PX, ANGLES, levels=LEVELS, symmetric=True, normed=True)
    return np.concatenate([graycoprops(matrix, name).mean(axis=1) for name in PROPERTIES])
