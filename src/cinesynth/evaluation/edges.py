"""Does the mask lie where the image has its edges: the LV contour against the same contour displaced."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cinesynth.evaluation.cases import Case
from cinesynth.types import STRUCTURES, BoolArray, FloatArray, Label

SMOOTHING_MM = 2.0
"""Standard deviation of the Gaussian whose gradient is taken."""
DISPLACED_MM = 4.0
"""Two voxels of 2 mm: far enough to leave an edge, near enough to stay within the wall."""
REACH_MM, STEP_MM = 8.0, 1.0
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
    steps = np.arange(-REACH_MM, REACH_MM + STEP_MM / 2, STEP_MM)
    places = np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 2)
    distance = np.hypot(*places.T)
    order = np.argsort(distance, kind="stable")
    return np.asarray(places[order][distance[order] <= REACH_MM])
