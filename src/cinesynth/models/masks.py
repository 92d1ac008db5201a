"""Masks as people draw them, from what a mask decoder finds likeliest voxel by voxel.

A decoder sees heart where there is liver, and lets shreds of it above the valve plane while that passes a slice. People
draw one heart; in each slice a structure is one part without holes; and a structure is in a slice whole or not at all.
So it is in 526 annotated frames of 154 people (ACDC, M&Ms, Najman; of 144 with an RV), which stay as they are but for
two frames: the myocardium begins in the same slice as the LV, where the LV has 530 mm² and .46 of its next section at
least, and the myocardium 365 mm²; the RV begins there or below, with 595 mm² and .31 of its next section at least;
towards the apex the LV ends where the myocardium does or before, an RV may go on; and the last sections have 13 mm²
(LV), 9.7 mm² (RV) and 98 mm² (myocardium) at least.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from cinesynth.types import STRUCTURES, BoolArray, FloatArray, Label, LabelArray

BASE_MM2 = {Label.LV: 450.0, Label.MYO: 300.0, Label.RV: 500.0}
BASE_SHARE = {Label.LV: 0.5, Label.MYO: 0.0, Label.RV: 0.3}
"""Of the structure's next section; for the LV lower in one of a hundred frames of people."""
APEX_MM2 = {Label.MYO: 90.0, Label.LV: 12.0, Label.RV: 9.0}
_DIAGONALS_TOO = ndimage.generate_binary_structure(2, 2)


def clean_mask(label: LabelArray, pixel_mm2: float) -> LabelArray:
    """A label ``X Y Z``, base first, of one heart without shreds and holes; `pixel_mm2` is a pixel's area."""
    drawn = one_heart(label)
    for z in np.flatnonzero(drawn.any(axis=(0, 1))):
        _tidy(drawn[..., z])
    return _without_shreds(drawn, pixel_mm2)


def one_heart(label: LabelArray) -> LabelArray:
    """A label ``X Y Z`` without what lies apart from the largest part of all structures together: liver or chest."""
    parts, _ = ndimage.label(label > 0)
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    return np.where((label > 0) & (parts == sizes.argmax()), label, Label.BACKGROUND).astype(label.dtype)


def _tidy(section: LabelArray) -> None:
    """Leave each structure of ``X Y`` its largest part, and fill the holes that this and the decoder left."""
    for structure in STRUCTURES:
        parts, count = ndimage.label(section == structure, structure=_DIAGONALS_TOO)
        if count > 1:
            section[(parts > 0) & (parts != 1 + np.bincount(parts.ravel())[1:].argmax())] = Label.BACKGROUND
    nothing = section == Label.BACKGROUND
    section[nothing & ndimage.binary_fill_holes(section == Label.LV)] = Label.LV
    left = (section == Label.LV) | (section == Label.MYO)
    section[(section == Label.BACKGROUND) & ndimage.binary_fill_holes(left)] = Label.MYO


def _without_shreds(label: LabelArray, pixel_mm2: float) -> LabelArray:
    """Structures from their first whole section to their last; without a whole one of the LV, the label as it is."""
    areas = {s: (label == s).sum(axis=(0, 1)) * pixel_mm2 for s in STRUCTURES}
    whole = {s: _whole(areas[s], BASE_MM2[s], BASE_SHARE[s]) for s in STRUCTURES}
    left = whole[Label.LV] & whole[Label.MYO]
    if not left.any():
        return label
    first = dict.fromkeys(STRUCTURES, int(left.argmax()))
    if whole[Label.RV][first[Label.RV] :].any():  # else the RV is for the rules to see
        first[Label.RV] += int(whole[Label.RV][first[Label.RV] :].argmax())
    last = {s: _last(areas[s] >= APEX_MM2[s]) for s in STRUCTURES}
    last[Label.LV] = min(last[Label.LV], last[Label.MYO])
    for structure in STRUCTURES:
        for beyond in (label[..., : first[structure]], label[..., last[structure] + 1 :]):
            beyond[beyond == structure] = Label.BACKGROUND
    return label


def _whole(areas: FloatArray, least_mm2: float, least_share: float) -> BoolArray:
    """The slices, base first, with sections that are not shreds."""
    return np.asarray((areas >= least_mm2) & (areas >= least_share * np.append(areas[1:], 0.0)))


def _last(where: BoolArray) -> int:
    """The last slice of those, or -1."""
    return int(np.flatnonzero(where)[-1]) if where.any() else -1
