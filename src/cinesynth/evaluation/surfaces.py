"""How well two labels of one heart agree, where it was annotated: Dice, and the Hausdorff distance in mm."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from monai.metrics.utils import get_edge_surface_distance
from numpy.typing import NDArray
from scipy import ndimage

from cinesynth.evaluation.cases import Case
from cinesynth.physiology import MYO_G_PER_ML
from cinesynth.types import STRUCTURES, BoolArray, FloatArray, Label, LabelArray, is_contiguous

Spacing = tuple[float, float, float]
PERCENTILE = 95
"""Of the distances from each surface to the other; the larger of the two directions counts."""


def dice(a: LabelArray | BoolArray, b: LabelArray | BoolArray) -> float:
    """Dice overlap of two masks, at least one of which is not empty."""
    return 2.0 * float(np.logical_and(a, b).sum()) / float(a.sum() + b.sum())


def hd95_mm(a: BoolArray, b: BoolArray, spacing_mm: Spacing) -> float:
    """95 % Hausdorff distance of the surfaces of two 3D masks (MONAI); NaN where one is empty and there is none."""
    return surface_distances_mm(a, b, spacing_mm)[0]


def surface_distances_mm(a: BoolArray, b: BoolArray, spacing_mm: Spacing) -> tuple[float, float]:
    """95 % Hausdorff distance and average symmetric distance of the surfaces of two 3D masks, by MONAI's edges.

    NaN where one is empty and there are none.
    """
    if not a.any() or not b.any():
        return float("nan"), float("nan")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # MONAI calls an argument of its own deprecated
        masks = (torch.from_numpy(np.ascontiguousarray(mask, dtype=np.float32)) for mask in (a, b))
        _, both, _ = get_edge_surface_distance(*masks, spacing=spacing_mm, symmetric=True)
    hd95 = max(float(np.percentile(away, PERCENTILE)) for away in both)
    return hd95, float(torch.cat(list(both)).mean())


def overlaps(
    predicted: LabelArray, truth: LabelArray, coverage: BoolArray, spacing_mm: Spacing
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Dice and HD95 (mm) of each structure of frames ``T X Y Z`` in the slices that ``coverage`` (``T Z S``) vouches
    for: each ``T S``, NaN where nothing was annotated or neither label has the structure."""
    found = np.full((2, len(truth), len(STRUCTURES)), np.nan, dtype=np.float32)
    for t in range(len(truth)):
        for i, structure in enumerate(STRUCTURES):
            covered = coverage[t, :, i]
            a, b = predicted[t][..., covered] == structure, truth[t][..., covered] == structure
            if a.any() or b.any():
                found[:, t, i] = dice(a, b), hd95_mm(a, b, spacing_mm)
    return found[0], found[1]


# --- Does the mask lie where the image has its edges -----------------------------------------------------------------


SMOOTHING_MM = 2.0
"""Standard deviation of the Gaussian whose gradient is taken."""
DISPLACED_MM = 4.0
"""Two voxels of 2 mm: far enough to leave an edge, near enough to stay within the wall."""
REACH_MM, SLICE_STEP_RANGE_MM = 8.0, 1.0
"""How far, and how finely, a better place is looked for."""
DIRECTIONS = 16
FEWEST_POINTS = 40


def gradient(frame: FloatArray, spacing_mm: tuple[float, float, float]) -> FloatArray:
    """In-plane gradient magnitude of ``X Y Z``, per mm, at a fixed scale in mm."""
    sigma = [SMOOTHING_MM / spacing_mm[0], SMOOTHING_MM / spacing_mm[1], 0.0]
    smooth = ndimage.gaussian_filter(frame, sigma, mode="nearest")
    gx, gy = np.gradient(smooth, *spacing_mm[:2], axis=(0, 1))
    return np.asarray(np.hypot(gx, gy), dtype=np.float32)


def contour(mask: BoolArray) -> NDArray[np.float64]:
    """Midpoints of all in-plane faces between a mask ``X Y Z`` and what is around it: ``3 N`` voxel coordinates."""
    points = []
    for axis in (0, 1):
        faces = np.argwhere(np.diff(mask, axis=axis)).T.astype(np.float64)
        faces[axis] += 0.5
        points.append(faces)
    return np.concatenate(points, axis=1)


def edge_strength(
    slope: FloatArray, points: NDArray[np.float64], shifts_mm: NDArray[np.float64], spacing_mm: tuple[float, ...]
) -> NDArray[np.float64]:
    """Mean gradient along the contour after each in-plane shift (``N 2``, mm): ``N``."""
    shifts = np.concatenate([shifts_mm / np.array(spacing_mm[:2]), np.zeros((len(shifts_mm), 1))], axis=1)  # N 3
    moved = points[:, None, :] + shifts.T[:, :, None]  # 3 N points
    values = ndimage.map_coordinates(slope, moved, order=1, mode="nearest")
    return np.asarray(values.mean(axis=1), dtype=np.float64)


def measure_edges(case: Case) -> dict[str, float]:
    """``ratio``: gradient at the LV contour over that at contours displaced by `DISPLACED_MM`, scale-free; and
    ``offset_mm``: the shift of the contour that meets the strongest edges. Means over ED and ES, NaN without an LV."""
    found = [_frame(case, t) for t in dict.fromkeys((case.ed, case.es))]
    ratio, offset = np.array(found).mean(axis=0)
    return {"ratio": float(ratio), "offset_mm": float(offset)}


def _frame(case: Case, frame: int) -> tuple[float, float]:
    covered = case.coverage[frame, :, STRUCTURES.index(Label.LV)]
    points = contour((case.label[frame] == Label.LV)[..., covered])
    if points.shape[1] < FEWEST_POINTS:
        return float("nan"), float("nan")
    slope = gradient(case.intensity[frame][..., covered], case.spacing_mm)
    here = edge_strength(slope, points, np.zeros((1, 2)), case.spacing_mm)[0]
    around = edge_strength(slope, points, _ring_mm(), case.spacing_mm).mean()
    places = _places_mm()
    best = places[edge_strength(slope, points, places, case.spacing_mm).argmax()]
    return float(here / max(around, 1e-9)), float(np.hypot(*best))


def _ring_mm() -> NDArray[np.float64]:
    angles = np.linspace(0, 2 * np.pi, DIRECTIONS, endpoint=False)
    return DISPLACED_MM * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _places_mm() -> NDArray[np.float64]:
    """Shifts of a disc, the nearest first: of equal edges the nearest counts."""
    steps = np.arange(-REACH_MM, REACH_MM + SLICE_STEP_RANGE_MM / 2, SLICE_STEP_RANGE_MM)
    places = np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 2)
    distance = np.hypot(*places.T)
    order = np.argsort(distance, kind="stable")
    return np.asarray(places[order][distance[order] <= REACH_MM])


# --- The myocardium as clinicians measure it -------------------------------------------------------------------------


RAYS = 72
STEP_VOXELS = 0.25
MIDDLE = (1 / 3, 2 / 3)
"""The mid-ventricular third of the slices with an LV, where rays cross the wall at right angles."""
LEAST_CLOSED = 0.9
"""Share of rays that must cross the wall for a slice to count: an open ring has no mean thickness."""


def thickness_mm(label: LabelArray, spacing_mm: tuple[float, float, float]) -> float:
    """Mean wall thickness of one frame ``X Y Z`` over its mid-ventricular slices; NaN without a closed wall.

    The wall is crossed along rays from the centre of the LV; a ray's thickness is the length over which it sees
    (bilinearly) myocardium.
    """
    lv_slices = np.flatnonzero((label == Label.LV).any(axis=(0, 1)))
    if len(lv_slices) == 0:
        return float("nan")
    first, last = (round(share * (len(lv_slices) - 1)) for share in MIDDLE)
    found = [slice_thickness_mm(label[..., z], spacing_mm[:2]) for z in lv_slices[first : last + 1]]
    known = [value for value in found if np.isfinite(value)]
    return float(np.mean(known)) if known else float("nan")


def slice_thickness_mm(label: LabelArray, spacing_mm: tuple[float, float]) -> float:
    """Mean length of myocardium along rays from the LV's centre of one slice ``X Y``; NaN if the ring is open."""
    spacing = np.array(spacing_mm)
    centre = np.argwhere(label == Label.LV).mean(axis=0) * spacing  # mm
    angles = np.linspace(0, 2 * np.pi, RAYS, endpoint=False)
    step_mm = STEP_VOXELS * float(spacing.min())
    radii = np.arange(0, float(np.hypot(*(np.array(label.shape) * spacing))), step_mm)
    points = centre[:, None, None] + np.stack([np.cos(angles), np.sin(angles)])[:, :, None] * radii  # 2 rays steps
    wall = (label == Label.MYO).astype(np.float32)
    seen = ndimage.map_coordinates(wall, points / spacing[:, None, None], order=1, mode="constant")
    lengths = seen.sum(axis=1) * step_mm
    crossing = lengths > step_mm
    return float(lengths[crossing].mean()) if crossing.mean() >= LEAST_CLOSED else float("nan")


def myocardium_ml(case: Case) -> NDArray[np.float64]:
    """Volume of myocardium at each frame, ``T``; NaN where the annotated slices do not follow each other."""
    covered = case.coverage[:, :, STRUCTURES.index(Label.MYO)]
    volumes = case.volumes_ml(Label.MYO).astype(np.float64)
    return np.where([is_contiguous(frame) for frame in covered], volumes, np.nan)


def measure_wall(case: Case) -> dict[str, float | list[float]]:
    """At ED and ES: thickness (mm) and mass (g); ES over ED volume, and its variation (SD over mean) over a cycle."""
    myo_ml, both = myocardium_ml(case), [case.ed, case.es]
    whole = case.whole_cycle and bool(np.isfinite(myo_ml).all()) and float(myo_ml.mean()) > 0
    ed_ml, es_ml = (float(v) for v in myo_ml[both])
    return {
        "thickness_mm": [_frame_thickness_mm(case, t) for t in both],
        "mass_g": [MYO_G_PER_ML * ed_ml, MYO_G_PER_ML * es_ml],
        "es_over_ed": es_ml / ed_ml if ed_ml > 0 else float("nan"),
        "variation_percent": 100.0 * float(myo_ml.std() / myo_ml.mean()) if whole else float("nan"),
    }


def _frame_thickness_mm(case: Case, frame: int) -> float:
    covered: BoolArray = case.coverage[frame][:, [STRUCTURES.index(s) for s in (Label.LV, Label.MYO)]].all(axis=1)
    return thickness_mm(case.label[frame][..., covered], case.spacing_mm)
