"""The myocardium as clinicians measure it: wall thickness in mm, mass in g, volume over the cycle."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cinesynth.evaluation.cases import Case
from cinesynth.types import MYO_G_PER_ML, STRUCTURES, BoolArray, Label, LabelArray, without_gap

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
    return np.where([without_gap(frame) for frame in covered], volumes, np.nan)


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
