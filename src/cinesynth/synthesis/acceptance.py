"""Is it a heart? Named rules with a value and a limit, on the label of a generated anatomy and of its motion.

They reject what no heart looks like and nothing else: every labelled ACDC patient passes (a test). The paper asks for
100 voxels of 1 x 1 x 10 mm (1 mL) of LV and myocardium, and LV on two contiguous slices (section 2.4).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cinesynth.types import BoolArray, Label, LabelArray, volumes_ml

MIN_VOLUME_ML = 1.0
MIN_LV_SLICES = 2
MIN_LARGEST_PART = 0.98
MIN_ENCLOSED = 0.8
MAX_ES_SHARE = 0.99
"""ESV over EDV: an ejection fraction of 1 %, less than any heart that supports life."""
MAX_LATER_SHARE = 1.1
"""ED is the fullest frame; a tenth more is a segmentation's noise."""
MIN_MYO_ES_SHARE = 0.8
"""Myocardium hardly compresses: in ACDC its volume at ES is 0.89-1.47 of that at ED as labelled."""
_IN_PLANE = ndimage.generate_binary_structure(2, 1)
_ANY_NEIGHBOUR = ndimage.generate_binary_structure(3, 3)


@dataclass(frozen=True)
class Verdict:
    """One rule: ``value`` must be at least (or, if ``at_most``, at most) ``limit``."""

    rule: str
    value: float
    limit: float
    at_most: bool = False

    @property
    def passed(self) -> bool:
        """Whether the rule holds."""
        return self.value <= self.limit if self.at_most else self.value >= self.limit


@dataclass(frozen=True)
class Verdicts:
    """What the rules say of one draw."""

    rules: tuple[Verdict, ...]

    @property
    def accepted(self) -> bool:
        """Whether every rule holds."""
        return all(rule.passed for rule in self.rules)

    @property
    def passed(self) -> int:
        """How many hold: of several draws that fail, the one to keep passes most."""
        return sum(rule.passed for rule in self.rules)

    def to_json(self) -> list[dict[str, object]]:
        """Each rule with value, limit and verdict."""
        return [{**asdict(r), "value": round(r.value, 4), "passed": r.passed} for r in self.rules]


def judge_anatomy(label: LabelArray, voxel_ml: float) -> Verdicts:
    """Rules on the ED label ``X Y Z`` with voxels of ``voxel_ml``."""
    lv, myo = label == Label.LV, label == Label.MYO
    return Verdicts(
        (
            Verdict("lv_volume_ml", float(lv.sum()) * voxel_ml, MIN_VOLUME_ML),
            Verdict("myo_volume_ml", float(myo.sum()) * voxel_ml, MIN_VOLUME_ML),
            Verdict("lv_contiguous_slices", longest_run(lv.any(axis=(0, 1))), MIN_LV_SLICES),
            Verdict("lv_largest_part", largest_part(lv), MIN_LARGEST_PART),
            Verdict("myo_encloses_lv", enclosed_share(lv, myo), MIN_ENCLOSED),
        )
    )


def judge_motion(label: LabelArray, voxel_ml: float, es_index: int) -> Verdicts:
    """Rules on the label of all frames, ``T X Y Z``, ED first."""
    lv_ml = volumes_ml(label, Label.LV, voxel_ml)
    edv_ml = max(float(lv_ml[0]), 1e-6)
    myo_ml = volumes_ml(label[[0, es_index]], Label.MYO, voxel_ml)
    return Verdicts(
        (
            Verdict("lv_es_volume_ml", float(lv_ml[es_index]), MIN_VOLUME_ML),
            Verdict("lv_esv_over_edv", float(lv_ml[es_index]) / edv_ml, MAX_ES_SHARE, at_most=True),
            Verdict("lv_largest_over_edv", float(lv_ml.max()) / edv_ml, MAX_LATER_SHARE, at_most=True),
            Verdict("myo_es_over_ed", float(myo_ml[1]) / max(float(myo_ml[0]), 1e-6), MIN_MYO_ES_SHARE),
        )
    )


def longest_run(present: BoolArray) -> int:
    """Length of the longest run of True."""
    runs = "".join("1" if p else " " for p in present).split()
    return max(map(len, runs), default=0)


def largest_part(mask: BoolArray) -> float:
    """Share of the voxels of ``mask`` (``X Y Z``) in its largest connected part, diagonals connect; 0 if empty."""
    parts, count = ndimage.label(mask, structure=_ANY_NEIGHBOUR)
    if count == 0:
        return 0.0
    sizes: NDArray[np.int64] = np.bincount(parts.ravel())[1:]
    return float(sizes.max() / sizes.sum())


def enclosed_share(lv: BoolArray, myo: BoolArray) -> float:
    """Share of the LV's outline on its middle slice that touches myocardium; 0 without LV."""
    slices = np.flatnonzero(lv.any(axis=(0, 1)))
    if len(slices) == 0:
        return 0.0
    middle = slices[len(slices) // 2]
    around = ndimage.binary_dilation(lv[..., middle], _IN_PLANE) & ~lv[..., middle]
    return float((around & myo[..., middle]).sum() / max(int(around.sum()), 1))
