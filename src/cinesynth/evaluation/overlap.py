"""How well two labels of one heart agree where it was annotated: Dice, HD95 and mean surface distance.

One rule for a missed structure, wherever labels are compared: a structure that only one of the two labels has, in
the slices where it was annotated, counts as Dice 0 and as far off as the annotated stack is long from corner to
corner. Leaving it out would improve the mean of a segmenter that finds nothing.
"""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np
import torch
from monai.metrics.utils import get_edge_surface_distance
from numpy.typing import NDArray

from cinesynth.types import STRUCTURES, BoolArray, LabelArray

Spacing = tuple[float, float, float]


class Overlap(NamedTuple):
    """Dice, 95 % Hausdorff distance (mm) and average symmetric surface distance (mm), each ``T S``.

    NaN where a structure was not annotated, or where neither label has it.
    """

    dice: NDArray[np.float64]
    hd95_mm: NDArray[np.float64]
    assd_mm: NDArray[np.float64]


def overlap(predicted: LabelArray, truth: LabelArray, coverage: BoolArray, spacing_mm: Spacing) -> Overlap:
    """Agreement of labels ``T X Y Z`` for each structure, in the slices that ``coverage`` (``T Z S``) marks as
    annotated."""
    found = np.full((len(Overlap._fields), len(truth), len(STRUCTURES)), np.nan)
    for t in range(len(truth)):
        for i, structure in enumerate(STRUCTURES):
            covered = coverage[t, :, i]
            a, b = predicted[t][..., covered] == structure, truth[t][..., covered] == structure
            if a.any() and b.any():
                found[:, t, i] = dice(a, b), *surface_distances_mm(a, b, spacing_mm)
            elif a.any() or b.any():
                found[:, t, i] = 0.0, *[missed_mm(truth, int(covered.sum()), spacing_mm)] * 2
    return Overlap(*found)


def dice(a: BoolArray, b: BoolArray) -> float:
    """Dice overlap of two masks, at least one of which is not empty."""
    return 2.0 * float(np.logical_and(a, b).sum()) / float(a.sum() + b.sum())


def surface_distances_mm(a: BoolArray, b: BoolArray, spacing_mm: Spacing) -> tuple[float, float]:
    """95 % Hausdorff distance and average symmetric distance of the surfaces of two 3D masks, neither of them empty.

    Surfaces are MONAI's edges; of the two directed 95th percentiles the larger one counts.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # MONAI marks an argument of its own as deprecated
        masks = (torch.from_numpy(np.ascontiguousarray(mask, dtype=np.float32)) for mask in (a, b))
        _, both, _ = get_edge_surface_distance(*masks, spacing=spacing_mm, symmetric=True)
    hd95 = max(float(np.percentile(directed, 95)) for directed in both)
    return hd95, float(torch.cat(list(both)).mean())


def missed_mm(truth: LabelArray, slices: int, spacing_mm: Spacing) -> float:
    """The distance that a missed structure counts as: the diagonal of the box around everything annotated in the
    plane in any frame of ``truth`` (``T X Y Z``), over the annotated ``slices``; of the whole plane if the box is
    empty."""
    labelled: BoolArray = np.asarray((truth > 0).any(axis=(0, 3)))  # X Y
    if not labelled.any():
        labelled[:] = True
    extent = [int(np.ptp(np.flatnonzero(labelled.any(axis=axis)))) + 1 for axis in (1, 0)]
    return float(np.linalg.norm(np.array([*extent, slices]) * np.array(spacing_mm)))
