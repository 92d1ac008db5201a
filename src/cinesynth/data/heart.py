"""Locating the heart of a study in the image plane."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cinesynth.types import Study


def heart_centre(study: Study) -> tuple[float, float]:
    """In-plane centre of the heart in voxels: of the labels (ED first), else of motion, else of the image."""
    for find in (_labels, _motion):
        weight = find(study)
        if weight is not None and weight.any():
            x, y = ndimage.center_of_mass(weight)
            return float(x), float(y)
    _, width, height, _ = study.image.shape
    return (width - 1) / 2, (height - 1) / 2


def label_bounds(study: Study) -> tuple[tuple[int, int], tuple[int, int]]:
    """First and last labelled voxel along x and along y, over all frames; the study must have labels."""
    touched = study.label.max(axis=(0, 3)) > 0  # X Y
    x, y = np.flatnonzero(touched.max(axis=1)), np.flatnonzero(touched.max(axis=0))
    return (int(x[0]), int(x[-1])), (int(y[0]), int(y[-1]))


def _labels(study: Study) -> NDArray[np.float64] | None:
    """Labelled voxels through the plane, ``X Y``, at ED if it was annotated; None without annotations."""
    frames = np.flatnonzero(study.labelled)
    if not len(frames):
        return None
    ed = np.flatnonzero(study.frame_index == study.ed_index)
    frame = ed[0] if len(ed) and study.labelled[ed[0]] else frames[0]
    return np.asarray((study.label[frame] > 0).sum(axis=-1), dtype=np.float64)


def _motion(study: Study, blur_mm: float = 8.0, threshold: float = 0.6) -> NDArray[np.float64] | None:
    """Change over time, ``X Y``, where it is at least ``threshold`` of the strongest; None for a single frame.

    The blur joins the moving walls of the heart into one spot, which outweighs vessels and coils.
    """
    if len(study.image) < 2:
        return None
    change = study.image.astype(np.float64).std(axis=0).mean(axis=-1)  # X Y
    blur = [blur_mm / s for s in study.spacing_mm[:2]]
    motion = np.asarray(ndimage.gaussian_filter(change, blur, mode="constant"), dtype=np.float64)
    return np.asarray(motion * (motion >= threshold * motion.max()), dtype=np.float64)
