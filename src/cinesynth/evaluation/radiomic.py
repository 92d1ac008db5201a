"""Features computed without a network: `radiomic` (shape, grey values and texture) and `appearance` (the whole image).

A heart whose ED or ES is not annotated in every slice has no radiomic features (NaN). A structure that is annotated but
absent has features of 0: a generated heart without a ventricle is a defect to be seen, not a gap to be left out.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, stats
from skimage.feature import graycomatrix, graycoprops
from skimage.measure import marching_cubes, mesh_surface_area, perimeter_crofton

from cinesynth.data.normalisation import from_uint8
from cinesynth.evaluation.cases import Case
from cinesynth.evaluation.measure import Measurer
from cinesynth.memorisation.thumbnails import centre_of, heart_box, slices_at, window
from cinesynth.types import STRUCTURES, FloatArray, Label, LabelArray

Mask = NDArray[np.bool_]
Spacing = Sequence[float]

SHAPE = ("volume_ml", "sphericity", "elongation", "flatness", "base_cm2", "middle_cm2", "apex_cm2", "roundness")
WALL = ("wall_mean_mm", "wall_sd_mm", "wall_p10_mm", "wall_p90_mm")
STATISTICS = ("mean", "sd", "skewness", "kurtosis", "p10", "p50", "p90")
EDGE = ("blood_myocardium", "blood_myocardium_cnr", "edge")
PROPERTIES = ("contrast", "homogeneity", "correlation", "energy")
DISTANCES_PX = (1, 2)
"""Distances of the co-occurrence matrix."""
NAMES = (
    *(f"{s.name}_{name}" for s in STRUCTURES for name in SHAPE),
    *WALL,
    *(f"{region}_{name}" for region in (*(s.name for s in STRUCTURES), "ring") for name in STATISTICS),
    *EDGE,
    *(f"texture_{p}_{d}px" for p in PROPERTIES for d in DISTANCES_PX),
)
"""The radiomic features of one frame, in order."""
GREYS = 64
"""Bins of the histogram over the 256 grey levels."""
BANDS = 16
"""Rings of spatial frequency from 0 to the Nyquist frequency of the grid."""
RING_MM = 10.0
"""Width of the surroundings whose grey values are taken."""
QUARTERS = (0.25, 0.5, 0.75)
"""Heights in the ventricle of the slices whose texture and spectrum are taken."""


def frame_features(case: Case, frame: int) -> NDArray[np.float64]:
    """`NAMES` of one frame; NaN where a structure was not annotated in some slice."""
    if not case.coverage[frame].all():
        return np.full(len(NAMES), np.nan)
    whole_image, whole_label, spacing = from_uint8(case.image[frame]), case.label[frame], case.spacing_mm
    box = heart_box(whole_label, spacing, margin_mm=RING_MM)
    image, label = whole_image[box], whole_label[box]
    regions = [label == structure for structure in STRUCTURES]
    return np.concatenate(
        [
            *(shape_of(region, spacing) for region in regions),
            wall_of(label, spacing),
            *(first_order(image[region]) for region in (*regions, ring(label, spacing))),
            contrast(image, label, spacing),
            texture(whole_image, whole_label, spacing),
        ]
    )


def _measure_radiomic(case: Case) -> dict[str, NDArray[np.float64]]:
    return {"frames": np.stack([frame_features(case, t) for t in (case.ed, case.es)])}


RADIOMIC = Measurer("radiomic", "1", _measure_radiomic)
"""``frames``: `NAMES` of ED and ES, ``2 F``."""


# --- Shape of one structure in one frame -----------------------------------------------------------------------------


def shape_of(mask: Mask, spacing_mm: Spacing) -> NDArray[np.float64]:
    """`SHAPE` of an ``X Y Z`` mask; all 0 where it is empty."""
    if not mask.any():
        return np.zeros(len(SHAPE))
    volume_mm3 = float(mask.sum() * np.prod(spacing_mm))
    boxed = np.pad(mask[ndimage.find_objects(mask.astype(np.int8))[0]], 1)
    vertices, faces, _, _ = marching_cubes(boxed.astype(np.float32), 0.5, spacing=tuple(spacing_mm))
    sphericity = np.pi ** (1 / 3) * (6 * volume_mm3) ** (2 / 3) / float(mesh_surface_area(vertices, faces))
    # principal axes; a voxel counts as a solid box, not as a point
    points = np.argwhere(mask) * np.asarray(spacing_mm)
    points -= points.mean(axis=0)
    covariance = np.einsum("ni,nj->ij", points, points) / len(points) + np.diag(np.square(spacing_mm)) / 12
    third, second, first = np.sqrt(np.linalg.eigvalsh(covariance))
    # areas near the base, in the middle and near the apex of the structure's own extent
    voxels = mask.sum(axis=(0, 1))
    occupied = np.flatnonzero(voxels)
    slices = np.rint(occupied[0] + np.asarray((0.1, 0.5, 0.9)) * (occupied[-1] - occupied[0])).astype(int)
    areas_cm2 = voxels[slices] * spacing_mm[0] * spacing_mm[1] / 100.0
    # 4 pi area / perimeter^2 of the largest slice: 1 for a disc
    largest = mask[..., int(voxels.argmax())]
    edge = max(float(perimeter_crofton(largest, directions=4)), 1.0)
    roundness = float(4 * np.pi * largest.sum() / edge**2)
    return np.array([volume_mm3 / 1000.0, sphericity, second / first, third / first, *areas_cm2, roundness])


def wall_of(label: LabelArray, spacing_mm: Spacing) -> NDArray[np.float64]:
    """`WALL`: from the edge of the cavity to the outside of the wall, slice by slice in plane; 0 without one."""
    found = []
    for z in range(label.shape[2]):
        cavity, wall = label[..., z] == Label.LV, label[..., z] == Label.MYO
        if cavity.any() and wall.any():
            edge = cavity & ~ndimage.binary_erosion(cavity)
            outside = ndimage.distance_transform_edt(np.pad(cavity | wall, 1), sampling=list(spacing_mm[:2]))
            found.append(np.asarray(outside[1:-1, 1:-1][edge] - spacing_mm[0] / 2, dtype=np.float64))
    if not found:
        return np.zeros(len(WALL))
    thickness = np.concatenate(found)
    return np.array([thickness.mean(), thickness.std(), *np.percentile(thickness, (10, 90))])


# --- Grey values of one frame ----------------------------------------------------------------------------------------


def first_order(values: FloatArray) -> NDArray[np.float64]:
    """`STATISTICS` of grey values; all 0 without any. Skewness and kurtosis of a constant are 0."""
    if not len(values):
        return np.zeros(len(STATISTICS))
    moments = (stats.skew(values), stats.kurtosis(values)) if values.std() > 1e-6 else (0.0, 0.0)
    return np.array([values.mean(), values.std(), *moments, *np.percentile(values, (10, 50, 90))], dtype=np.float64)


def ring(label: LabelArray, spacing_mm: Spacing, width_mm: float = RING_MM) -> Mask:
    """Voxels around the labelled heart in plane, without the heart itself: lung, fat, liver."""
    result = np.zeros(label.shape, dtype=np.bool_)
    for z in np.flatnonzero((label > 0).any(axis=(0, 1))):
        away_mm = ndimage.distance_transform_edt(label[..., z] == 0, sampling=list(spacing_mm[:2]))
        result[..., z] = (away_mm > 0) & (away_mm <= width_mm)
    return result


def contrast(image: FloatArray, label: LabelArray, spacing_mm: Spacing) -> NDArray[np.float64]:
    """`EDGE`: blood less myocardium, the same over their pooled SD, and the mean gradient at the edge of the
    cavity (per mm); all 0 where cavity or wall is missing."""
    blood, wall = image[label == Label.LV], image[label == Label.MYO]
    if not len(blood) or not len(wall):
        return np.zeros(len(EDGE))
    difference = float(blood.mean() - wall.mean())
    pooled = float(np.sqrt((blood.var() + wall.var()) / 2))
    cavity = label == Label.LV
    border = cavity & ~ndimage.binary_erosion(cavity, np.ones((3, 3, 1), dtype=np.bool_))
    slopes = np.gradient(image, spacing_mm[0], axis=0)[border], np.gradient(image, spacing_mm[1], axis=1)[border]
    return np.array([difference, difference / max(pooled, 1e-3), float(np.hypot(*slopes).mean())])


def texture(image: FloatArray, label: LabelArray, spacing_mm: Spacing, side_mm: float = 120.0) -> NDArray[np.float64]:
    """Co-occurrence `PROPERTIES` (Haralick, 1973) in a square around the ventricle, mean of angles and three slices."""
    half = [int(side_mm / 2 / s) for s in spacing_mm[:2]]
    x, y = (round(c) for c in centre_of(label))
    box = image[max(x - half[0], 0) : x + half[0], max(y - half[1], 0) : y + half[1]]
    grey = np.clip((box + 1) * 8.0, 0, 15).astype(np.uint8)  # [-1, 1] as 16 levels
    angles = (0.0, np.pi / 4, np.pi / 2, 3 * np.pi / 4)
    planes = []
    for z in slices_at(label, QUARTERS):
        matrix = graycomatrix(grey[..., z], DISTANCES_PX, angles, levels=16, symmetric=True, normed=True)
        planes.append(np.concatenate([graycoprops(matrix, name).mean(axis=1) for name in PROPERTIES]))
    return np.asarray(np.mean(planes, axis=0), dtype=np.float64)


# --- Appearance of the whole ED image --------------------------------------------------------------------------------


def _measure_appearance(case: Case) -> dict[str, NDArray[np.generic]]:
    planes = from_uint8(case.image[case.ed][..., slices_at(case.label[case.ed], QUARTERS)])
    return {
        "histogram": histogram(case.image[case.ed]),
        "spectrum": np.mean([spectrum(planes[..., z]) for z in range(planes.shape[2])], axis=0),
        "middle": middle_slice(case, pixels=64, pixel_mm=2.0),
    }


def histogram(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Fraction of voxels in each of `GREYS` bins."""
    counts = np.bincount(image.ravel() // (256 // GREYS), minlength=GREYS)
    return np.asarray(counts / counts.sum(), dtype=np.float64)


def spectrum(plane: NDArray[np.float32]) -> NDArray[np.float64]:
    """log10 of the energy in each of `BANDS` rings of frequency of an ``X Y`` slice under a Hann window."""
    width, height = plane.shape
    tapered = (plane - plane.mean()) * np.outer(np.hanning(width), np.hanning(height))
    energy = np.abs(np.fft.fft2(tapered)) ** 2 / plane.size
    frequency = np.hypot(np.fft.fftfreq(width)[:, None], np.fft.fftfreq(height)[None, :])  # cycles per pixel
    band = np.minimum((frequency / 0.5 * BANDS).astype(int), BANDS)  # corners beyond Nyquist go to an extra bin
    totals = np.bincount(band.ravel(), energy.ravel(), minlength=BANDS + 1)[:BANDS]
    return np.asarray(np.log10(totals + 1e-9), dtype=np.float64)


def middle_slice(case: Case, *, pixels: int, pixel_mm: float) -> NDArray[np.float32]:
    """The mid-ventricular ED slice, ``pixels pixels`` in [-1, 1], centred on the left ventricle."""
    label = case.label[case.ed]
    chosen = slices_at(label, [0.5])
    image = from_uint8(case.image[case.ed][..., chosen])
    return window(image, centre_of(label), case.spacing_mm, pixels=pixels, pixel_mm=pixel_mm, fill=-1.0)[..., 0]


APPEARANCE = Measurer("appearance", "1", _measure_appearance)
"""``histogram`` (`GREYS`), ``spectrum`` (`BANDS`) and ``middle`` (``64 64``, the mid-ventricular slice), at ED."""
