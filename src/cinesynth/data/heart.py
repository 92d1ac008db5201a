"""Where in the plane the heart of a study lies."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cinesynth.types import Study

BLUR_MM = 8.0
"""Joins the moving walls of a heart into one spot, and leaves vessels and coils behind."""
MOVING = 0.6
"""Fraction of the strongest motion that still counts as heart."""


def heart_centre(study: Study) -> tuple[float, float]:
    """In-plane centre of the heart in voxels: labels (ED first), else motion, else the middle of the image."""
    for find in (_labels, _motion):
        weight = find(study)
        if weight is not None and weight.any():
            x, y = ndimage.center_of_mass(weight)
            return float(x), float(y)
    _, width, height, _ = study.image.shape
    return (width - 1) / 2, (height - 1) / 2


def label_bounds(study: Study) -> tuple[tuple[int, int], tuple[int, int]]:
    """First and last labelled voxel along x and along y, over all frames; there must be one."""
    touched = study.label.max(axis=(0, 3)) > 0  # X Y
    x, y = np.flatnonzero(touched.max(axis=1)), np.flatnonzero(touched.max(axis=0))
    return (int(x[0]), int(x[-1])), (int(y[0]), int(y[-1]))


def _labels(study: Study) -> NDArray[np.float64] | None:
    frames = np.flatnonzero(study.labelled)
    if not len(frames):
        return None
    ed = np.flatnonzero(study.frame_index == study.ed_index)
    frame = ed[0] if len(ed) and study.labelled[ed[0]] else frames[0]
    return np.asarray((study.label[frame] > 0).sum(axis=-1), dtype=np.float64)


def _motion(study: Study) -> NDArray[np.float64] | None:
    if len(study.image) < 2:
        return None
    change = study.image.astype(np.float64).std(axis=0).mean(axis=-1)  # X Y
    blur = [BLUR_MM / s for s in study.spacing_mm[:2]]
    motion = np.asarray(ndimage.gaussian_filter(change, blur, mode="constant"), dtype=np.float64)
    return np.asarray(motion * (motion >= MOVING * motion.max()), dtype=np.float64)
