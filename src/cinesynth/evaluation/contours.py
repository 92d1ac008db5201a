"""Contours of a heart: do they lie on the edges of its image, and how thick and heavy is the wall they enclose."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cinesynth.data.normalisation import from_uint8
from cinesynth.evaluation.cases import Case
from cinesynth.evaluation.measure import Measurer
from cinesynth.memorisation.thumbnails import heart_box
from cinesynth.physiology import MYO_G_PER_ML
from cinesynth.types import STRUCTURES, BoolArray, FloatArray, Label, LabelArray

Points = NDArray[np.float64]


# --- Does the mask lie where the image has its edges -----------------------------------------------------------------


SMOOTHING_MM = 2.0
"""Standard deviation of the Gaussian before the gradient."""
DISPLACED_MM, DIRECTIONS = 4.0, 16
"""Two voxels of 2 mm: far enough to leave an edge, near enough to stay within the wall."""
REACH_MM, STEP_MM = 8.0, 1.0
"""Largest shift at which stronger edges are searched."""
MIN_POINTS = 40
"""Contour points without which a frame has no measurement."""


def contour(mask: BoolArray) -> Points:
    """Midpoints of all in-plane faces between a mask ``X Y Z`` and its surroundings: ``3 N`` voxel coordinates."""
    points = []
    for axis in (0, 1):
        faces = np.argwhere(np.diff(mask, axis=axis)).T.astype(np.float64)
        faces[axis] += 0.5
        points.append(faces)
    return np.concatenate(points, axis=1)


def edge_strength(slope: FloatArray, points: Points, shifts_mm: Points, spacing_mm: tuple[float, ...]) -> Points:
    """Mean gradient along the contour after each in-plane shift (``N 2``, mm): ``N``."""
    x, y, z = points
    shift_x, shift_y = (shifts_mm / np.array(spacing_mm[:2])).T[..., None]  # N 1 each
    # Sections above each other in one plane: interpolating in it takes half the time, and points lie on sections.
    rows = np.clip(x + shift_x, 0, slope.shape[0] - 1) + z * slope.shape[0]
    plane = np.moveaxis(slope, 2, 0).reshape(-1, slope.shape[1])  # (Z X) Y
    values = ndimage.map_coordinates(plane, np.stack([rows, y + shift_y]), order=1, mode="nearest")
    return np.asarray(values.mean(axis=1), dtype=np.float64)


def measure_edges(case: Case) -> dict[str, float]:
    """Means over ED and ES, NaN without an LV.

    ``ratio``: gradient at the LV contour over that at displaced contours, free of scale. ``offset_mm``: the shift at
    which the contour meets the strongest edges.
    """
    frames = [_frame_edges(case, t) for t in dict.fromkeys((case.ed, case.es))]
    ratio, offset = np.array(frames).mean(axis=0)
    return {"ratio": float(ratio), "offset_mm": float(offset)}


def _frame_edges(case: Case, frame: int) -> tuple[float, float]:
    covered = case.coverage[frame, :, STRUCTURES.index(Label.LV)]
    # the smoothing reaches four standard deviations beyond the farthest shift
    box = heart_box(case.label[frame], case.spacing_mm, REACH_MM + 4 * SMOOTHING_MM + max(case.spacing_mm[:2]))
    image, label = (volume[frame][box][..., covered] for volume in (case.image, case.label))
    points = contour(label == Label.LV)
    if points.shape[1] < MIN_POINTS:
        return float("nan"), float("nan")
    # in-plane gradient magnitude, per mm, at a fixed scale in mm
    x_mm, y_mm, _ = case.spacing_mm
    sigma = [SMOOTHING_MM / x_mm, SMOOTHING_MM / y_mm, 0.0]
    smooth = ndimage.gaussian_filter(from_uint8(image), sigma, mode="nearest")
    slope = np.asarray(np.hypot(*np.gradient(smooth, x_mm, y_mm, axis=(0, 1))), dtype=np.float32)
    here = edge_strength(slope, points, np.zeros((1, 2)), case.spacing_mm)[0]
    angles = np.linspace(0, 2 * np.pi, DIRECTIONS, endpoint=False)
    ring_mm = DISPLACED_MM * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    around = edge_strength(slope, points, ring_mm, case.spacing_mm).mean()
    # shifts within the reach, the shortest first: of equally strong edges the nearest counts
    steps = np.arange(-REACH_MM, REACH_MM + STEP_MM / 2, STEP_MM)
    square_mm = np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 2)
    length_mm = np.hypot(*square_mm.T)
    order = np.argsort(length_mm, kind="stable")
    shifts_mm = square_mm[order][length_mm[order] <= REACH_MM]
    best = shifts_mm[edge_strength(slope, points, shifts_mm, case.spacing_mm).argmax()]
    return float(here / max(around, 1e-9)), float(np.hypot(*best))


EDGES = Measurer("edges", "1", measure_edges)


# --- The myocardium as clinicians measure it -------------------------------------------------------------------------


def thickness_mm(label: LabelArray, spacing_mm: tuple[float, float, float]) -> float:
    """Mean wall thickness of one frame ``X Y Z`` over its mid-ventricular slices; NaN without a closed wall."""
    lv_slices = np.flatnonzero((label == Label.LV).any(axis=(0, 1)))
    if len(lv_slices) == 0:
        return float("nan")
    # the mid-ventricular third of the slices with an LV, where rays cross the wall at right angles
    first, last = (round(share * (len(lv_slices) - 1)) for share in (1 / 3, 2 / 3))
    label = label[heart_box(label, spacing_mm, margin_mm=0.0)]
    slices = [slice_thickness_mm(label[..., z], spacing_mm[:2]) for z in lv_slices[first : last + 1]]
    known = [value for value in slices if np.isfinite(value)]
    return float(np.mean(known)) if known else float("nan")


def slice_thickness_mm(label: LabelArray, spacing_mm: tuple[float, float]) -> float:
    """Mean length of myocardium (interpolated bilinearly) along 72 rays from the LV's centre of one slice ``X Y``.

    NaN where fewer than 90 % of the rays cross the wall: an open ring has no mean thickness.
    """
    spacing = np.array(spacing_mm)
    centre = np.argwhere(label == Label.LV).mean(axis=0) * spacing  # mm
    angles = np.linspace(0, 2 * np.pi, 72, endpoint=False)
    step_mm = 0.25 * float(spacing.min())
    radii = np.arange(0, float(np.hypot(*(np.array(label.shape) * spacing))), step_mm)
    points = centre[:, None, None] + np.stack([np.cos(angles), np.sin(angles)])[:, :, None] * radii  # 2 rays steps
    wall = (label == Label.MYO).astype(np.float32)
    seen = ndimage.map_coordinates(wall, points / spacing[:, None, None], order=1, mode="constant")
    lengths = seen.sum(axis=1) * step_mm
    crossing = lengths > step_mm
    return float(lengths[crossing].mean()) if crossing.mean() >= 0.9 else float("nan")


def measure_wall(case: Case) -> dict[str, float | list[float]]:
    """At ED and ES: thickness (mm) and mass (g); ES over ED volume, and its variation (SD over mean) over a cycle."""
    myo_ml, both = case.known_volumes_ml(Label.MYO), [case.ed, case.es]
    whole = case.whole_cycle and bool(np.isfinite(myo_ml).all()) and float(myo_ml.mean()) > 0
    ed_ml, es_ml = (float(v) for v in myo_ml[both])
    needed = [STRUCTURES.index(s) for s in (Label.LV, Label.MYO)]
    covered: BoolArray = np.asarray(case.coverage[..., needed].all(axis=2))  # T Z
    return {
        "thickness_mm": [thickness_mm(case.label[t][..., covered[t]], case.spacing_mm) for t in both],
        "mass_g": [MYO_G_PER_ML * ed_ml, MYO_G_PER_ML * es_ml],
        "es_over_ed": es_ml / ed_ml if ed_ml > 0 else float("nan"),
        "variation_percent": 100.0 * float(myo_ml.std() / myo_ml.mean()) if whole else float("nan"),
    }


WALL = Measurer("wall", "1", measure_wall)
