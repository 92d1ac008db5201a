"""Crumbs of a mask: small parts of a structure that do not touch the rest of it.

A decoder of masks leaves some, far from the heart or above the valves. They are no anatomy, and given to a
segmentation model they would be false labels: each voxel of a crumb becomes what the decoder held likeliest after it.
Larger parts stay, for the rules to see (`acceptance`).
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from cinesynth.types import STRUCTURES, BoolArray, FloatArray, LabelArray

LARGEST_ISLAND = 0.02
"""Share of a structure's voxels up to which a part of it is a crumb."""
_ANY_NEIGHBOUR = ndimage.generate_binary_structure(3, 3)


def without_islands(logits: FloatArray) -> tuple[LabelArray, int]:
    """The likeliest label ``X Y Z`` of logits ``K X Y Z`` without its crumbs, and how many there were."""
    label: LabelArray = logits.argmax(axis=0).astype(np.uint8)
    crumbs = {structure: parts for structure in STRUCTURES if (parts := crumbs_of(label == structure))}
    if not crumbs:
        return label, 0
    allowed = logits.copy()
    for structure, parts in crumbs.items():
        for part in parts:
            allowed[structure][part] = -np.inf
    label, more = without_islands(allowed)  # what they become may be a crumb too
    return label, sum(map(len, crumbs.values())) + more


def crumbs_of(mask: BoolArray) -> list[BoolArray]:
    """The crumbs of one structure ``X Y Z``, each as a mask; diagonals connect."""
    parts, count = ndimage.label(mask, structure=_ANY_NEIGHBOUR)
    if count < 2:
        return []
    sizes = np.bincount(parts.ravel())[1:]
    small = (sizes <= LARGEST_ISLAND * sizes.sum()) & (np.arange(count) != sizes.argmax())
    return [parts == part for part in np.flatnonzero(small) + 1]


def heart_of(label: LabelArray) -> BoolArray:
    """The largest part of all structures together, ``X Y Z``; what lies apart from it is liver or chest."""
    parts, _ = ndimage.label(label > 0)
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    return np.asarray((label > 0) & (parts == sizes.argmax()))
