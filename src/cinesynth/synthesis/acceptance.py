"""Is it a heart? Named rules with a value and a limit, on the label of a generated anatomy and of its motion.

They reject what no heart looks like and nothing else: each labelled heart of ACDC, M&Ms and Najman, the "people" below,
passes in every frame, and phantoms do but for a base that leaves its slice. The paper asks for 100 voxels of 1 x 1 x 10
mm (1 mL) of LV and myocardium, and LV on two contiguous slices (section 2.4).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, signal

from cinesynth.physiology import MAX_ES_SHARE, MIN_MYO_ES_SHARE
from cinesynth.types import STRUCTURES, BoolArray, FloatArray, Label, LabelArray, volumes_ml

MIN_VOLUME_ML = 1.0
MIN_LV_SLICES = 2
MIN_LARGEST_PART = {Label.LV: 0.95, Label.MYO: 0.9, Label.RV: 0.9}
"""People as labelled: .99, .95 and .96 at least."""
MIN_ENCLOSED = 0.8
"""Of the LV's outline in any slice but its first, where the outflow tract may leave it open, and its last, which comes
and goes with the apex; people: .92 at least."""
MIN_ENCLOSED_FIRST = 0.5
"""Of the LV's outline in its first slice; people: .77, phantoms, whose valve plane crosses it, .53 at least."""
LEAST_BASE = 0.1
"""Share of the largest slice's LV below which a slice is a sliver of the base, and not judged as its first."""
MAX_LATER_SHARE = 1.1
"""ED is the fullest frame; a tenth more is a segmentation's noise."""
LATE_SHARE = 0.1
"""Share of the cycle by which the smallest LV may miss the frame of ES; one frame always may."""
MINIMUM_DEPTH = 0.05
"""A minimum of the LV's volume is one if it is deeper than this share of the EDV on both sides."""
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
    volumes = {structure: float((label == structure).sum()) * voxel_ml for structure in STRUCTURES}
    least = (Verdict(f"{s.name.lower()}_volume_ml", ml, MIN_VOLUME_ML) for s, ml in volumes.items())
    run = Verdict("lv_contiguous_slices", longest_run((label == Label.LV).any(axis=(0, 1))), MIN_LV_SLICES)
    return Verdicts((*least, run, *_shape_rules([label]), _base_rule(label)))


def judge_motion(label: LabelArray, voxel_ml: float, es_index: int) -> Verdicts:
    """Rules on the label of all frames, ``T X Y Z``, ED first; the worst frame after ED counts for its shape.

    The first slice is judged at ED and ES alone: in between the base may be on its way through it.
    """
    lv_ml = volumes_ml(label, Label.LV, voxel_ml)
    edv_ml = max(float(lv_ml[0]), 1e-6)
    myo_ml = volumes_ml(label[[0, es_index]], Label.MYO, voxel_ml)
    off = abs(int(lv_ml.argmin()) - es_index)
    return Verdicts(
        (
            Verdict("lv_es_volume_ml", float(lv_ml[es_index]), MIN_VOLUME_ML),
            Verdict("lv_esv_over_edv", float(lv_ml[es_index]) / edv_ml, MAX_ES_SHARE, at_most=True),
            Verdict("lv_largest_over_edv", float(lv_ml.max()) / edv_ml, MAX_LATER_SHARE, at_most=True),
            Verdict("lv_minima", minima(lv_ml / edv_ml), 1, at_most=True),
            Verdict("es_frames_off", off, max(1, int(LATE_SHARE * len(label))), at_most=True),
            Verdict("myo_es_over_ed", float(myo_ml[1]) / max(float(myo_ml[0]), 1e-6), MIN_MYO_ES_SHARE),
            *_shape_rules(label[1:], "cycle_"),
            _base_rule(label[es_index], "es_"),
        )
    )


def _shape_rules(frames: Sequence[LabelArray] | LabelArray, prefix: str = "") -> Iterator[Verdict]:
    """Whole structures without a gap, and an LV inside its myocardium: the worst of ``frames`` (``X Y Z``)."""
    hearts = [frame[box(frame)] for frame in frames]
    for structure, limit in MIN_LARGEST_PART.items():
        parts = min(largest_part(heart == structure) for heart in hearts)
        yield Verdict(f"{prefix}{structure.name.lower()}_largest_part", parts, limit)
    gaps = max(missing_slices(heart == structure) for heart in hearts for structure in STRUCTURES)
    yield Verdict(f"{prefix}gap_slices", gaps, 0, at_most=True)
    shares = [enclosed_shares(heart == Label.LV, heart == Label.MYO) for heart in hearts]
    yield Verdict(f"{prefix}myo_encloses_lv", min(min(s[1:-1], default=float(bool(s))) for s in shares), MIN_ENCLOSED)


def _base_rule(label: LabelArray, prefix: str = "") -> Verdict:
    """Myocardium around the LV in the first slice that the valve plane has not all but left."""
    heart = label[box(label)]
    lv = heart == Label.LV
    area = lv.sum(axis=(0, 1))
    lv[..., area < LEAST_BASE * area.max()] = False
    shares = enclosed_shares(lv, heart == Label.MYO)
    return Verdict(f"{prefix}myo_encloses_base", min(shares[:1], default=0.0), MIN_ENCLOSED_FIRST)


def box(label: LabelArray) -> tuple[slice, slice, slice]:
    """Where a label ``X Y Z`` is not background, with a voxel around it in-plane: what is looked at is small."""
    x, y = (np.flatnonzero((label != Label.BACKGROUND).any(axis=axes)) for axes in ((1, 2), (0, 2)))
    if len(x) == 0:
        return (slice(0, 1), slice(0, 1), slice(None))
    return (slice(max(x[0] - 1, 0), x[-1] + 2), slice(max(y[0] - 1, 0), y[-1] + 2), slice(None))


def minima(curve: FloatArray) -> int:
    """Minima of a cyclic curve (shares of its first value) that are deeper than `MINIMUM_DEPTH` on both sides."""
    twice = np.concatenate([curve, curve, curve])
    found, _ = signal.find_peaks(-twice, prominence=MINIMUM_DEPTH)
    return int(((found >= len(curve)) & (found < 2 * len(curve))).sum())


def missing_slices(mask: BoolArray) -> int:
    """Slices without any of ``mask`` (``X Y Z``) between its first and its last one."""
    slices = np.flatnonzero(mask.any(axis=(0, 1)))
    return int(slices[-1] - slices[0] + 1 - len(slices)) if len(slices) else 0


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


def enclosed_shares(lv: BoolArray, myo: BoolArray) -> list[float]:
    """Share of the LV's outline that touches myocardium, of each slice with LV, base first."""
    shares = []
    for z in np.flatnonzero(lv.any(axis=(0, 1))):
        around = ndimage.binary_dilation(lv[..., z], _IN_PLANE) & ~lv[..., z]
        shares.append(float((around & myo[..., z]).sum() / max(int(around.sum()), 1)))
    return shares
