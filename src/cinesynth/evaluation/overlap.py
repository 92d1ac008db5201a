"""How well two labels of one heart agree, where it was annotated: Dice, and the Hausdorff distance in mm."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from monai.metrics.utils import get_edge_surface_distance
from numpy.typing import NDArray

from cinesynth.types import STRUCTURES, BoolArray, LabelArray

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
