"""Acceptance rules: named checks of a generated anatomy and its motion, and rejection sampling by them.

The rules reject anatomically impossible masks only. All labelled hearts of ACDC, M&Ms and Najman pass in every frame
(without an RV, all rules but the RV's); phantoms fail only where the base leaves its slice. The paper asks for 100
voxels of 1 x 1 x 10 mm (1 mL) of LV and myocardium, and for LV in two contiguous slices (section 2.4).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from cinesynth.data.label_shape import bounding_box, enclosed_shares, largest_part, longest_run
from cinesynth.errors import InputError
from cinesynth.physiology import MAX_ES_SHARE, MIN_ENCLOSED, MIN_MYO_ES_SHARE
from cinesynth.synthesis.volume_matching import VolumeMatching
from cinesynth.types import STRUCTURES, FloatArray, Label, LabelArray, volumes_ml


@dataclass(frozen=True)
class Limits:
    """Limits of the rules. "Labelled" gives the extreme value over the labelled hearts of the three datasets."""

    min_volume_ml: float = 1.0
    min_lv_slices: int = 2
    min_largest_part: tuple[tuple[Label, float], ...] = ((Label.LV, 0.95), (Label.MYO, 0.9), (Label.RV, 0.9))
    """Fraction of a structure's voxels in its largest connected part. Labelled: .99, .95 and .96."""
    min_enclosed: float = MIN_ENCLOSED
    """Fraction of the LV's outline that touches myocardium, in every slice but the first, where the outflow tract may
    leave it open, and the last, which comes and goes with the apex. Labelled: .92."""
    min_enclosed_first: float = 0.5
    """The same for the first slice. Labelled: .77; phantoms, whose valve plane crosses it: .53."""
    min_first_area: float = 0.1
    """LV area, as a fraction of the largest slice's, below which a slice is a sliver of the base and is skipped."""
    max_later_volume: float = 1.1
    """LV volume of any frame over the EDV. ED is the largest frame; a tenth more is segmentation noise."""
    max_es_offset: float = 0.1
    """Distance of the smallest LV from the ES frame, as a fraction of the cycle; one frame is always allowed."""
    min_rv_stroke: float = 0.05
    """Stroke volume of the RV over that of the LV. Labelled: .06, then .22, with failing RVs."""
    min_lv_stroke: float = 0.33
    """Stroke volume of the LV over that of the RV. Labelled: .36, with a leaking valve."""
    minimum_depth: float = 0.05
    """Depth, as a fraction of the EDV and on both sides, from which a minimum of the LV's volume counts as one."""


LIMITS = Limits()


@dataclass(frozen=True)
class Verdict:
    """The result of one rule: ``value`` must be at least ``limit``, or at most if ``at_most`` is set."""

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
    """The results of all rules for one candidate."""

    rules: tuple[Verdict, ...]

    @property
    def accepted(self) -> bool:
        """Whether every rule holds."""
        return all(rule.passed for rule in self.rules)

    def to_json(self) -> list[dict[str, object]]:
        """Each rule with its value, its limit and whether it holds."""
        return [{**asdict(r), "value": round(r.value, 4), "passed": r.passed} for r in self.rules]


def judge_anatomy(label: LabelArray, voxel_ml: float) -> Verdicts:
    """Apply the rules of an anatomy to an ED label ``X Y Z`` with voxels of ``voxel_ml``."""
    volumes = {structure: float((label == structure).sum()) * voxel_ml for structure in STRUCTURES}
    sizes = (Verdict(f"{s.name.lower()}_volume_ml", ml, LIMITS.min_volume_ml) for s, ml in volumes.items())
    run = Verdict("lv_contiguous_slices", longest_run((label == Label.LV).any(axis=(0, 1))), LIMITS.min_lv_slices)
    return Verdicts((*sizes, run, *_shape_rules([label]), _base_rule(label)))


def judge_motion(label: LabelArray, voxel_ml: float, es_index: int) -> Verdicts:
    """Apply the rules of a motion to the label of all frames, ``T X Y Z``, ED first.

    The worst frame after ED decides the rules of shape.
    """
    lv_ml = volumes_ml(label, Label.LV, voxel_ml)  # T
    edv_ml = max(float(lv_ml[0]), 1e-6)  # an empty LV fails other rules and must not divide by 0
    rv_ml, myo_ml = (volumes_ml(label[[0, es_index]], s, voxel_ml) for s in (Label.RV, Label.MYO))  # ED, ES
    lv_stroke, rv_stroke = (max(float(ed - es), 1e-6) for ed, es in (lv_ml[[0, es_index]], rv_ml))
    offset = abs(int(lv_ml.argmin()) - es_index)
    max_offset = max(1, int(LIMITS.max_es_offset * len(label)))
    return Verdicts(
        (
            Verdict("lv_es_volume_ml", float(lv_ml[es_index]), LIMITS.min_volume_ml),
            Verdict("lv_esv_over_edv", float(lv_ml[es_index]) / edv_ml, MAX_ES_SHARE, at_most=True),
            Verdict("lv_largest_over_edv", float(lv_ml.max()) / edv_ml, LIMITS.max_later_volume, at_most=True),
            Verdict("lv_minima", minima(lv_ml / edv_ml), 1, at_most=True),
            Verdict("es_frames_off", offset, max_offset, at_most=True),
            Verdict("myo_es_over_ed", float(myo_ml[1]) / max(float(myo_ml[0]), 1e-6), MIN_MYO_ES_SHARE),
            Verdict("rv_stroke_over_lv", rv_stroke / lv_stroke, LIMITS.min_rv_stroke),
            Verdict("lv_stroke_over_rv", lv_stroke / rv_stroke, LIMITS.min_lv_stroke),
            *_shape_rules(label[1:], "cycle_"),
            # Only at ES: in between, the base may be moving through the first slice.
            _base_rule(label[es_index], "es_"),
        )
    )


def _shape_rules(frames: Sequence[LabelArray] | LabelArray, prefix: str = "") -> Iterator[Verdict]:
    """Connected structures without missing slices, and an LV inside its myocardium: the worst of ``frames``."""
    hearts = [frame[bounding_box(frame)] for frame in frames]  # X Y Z each
    for structure, limit in LIMITS.min_largest_part:
        parts = min(largest_part(heart == structure) for heart in hearts)
        yield Verdict(f"{prefix}{structure.name.lower()}_largest_part", parts, limit)
    spans = (np.flatnonzero((heart == structure).any(axis=(0, 1))) for heart in hearts for structure in STRUCTURES)
    gaps = max(int(z[-1] - z[0] + 1 - len(z)) if len(z) else 0 for z in spans)
    yield Verdict(f"{prefix}gap_slices", gaps, 0, at_most=True)
    shares = [enclosed_shares(heart == Label.LV, heart == Label.MYO) for heart in hearts]
    # An LV in one or two slices has no inner one: that passes. Without any LV nothing is enclosed.
    enclosed = min(min(s[1:-1], default=float(bool(s))) for s in shares)
    yield Verdict(f"{prefix}myo_encloses_lv", enclosed, LIMITS.min_enclosed)


def shapes_hold(frames: Sequence[LabelArray]) -> bool:
    """Whether frames ``X Y Z`` after ED keep the rules of shape of a motion; True for none."""
    return not frames or all(rule.passed for rule in _shape_rules(frames))


def _base_rule(label: LabelArray, prefix: str = "") -> Verdict:
    """Myocardium around the LV in the first slice, skipping slices that the valve plane has almost left."""
    heart = label[bounding_box(label)]
    lv = heart == Label.LV  # X Y Z
    area = lv.sum(axis=(0, 1))  # Z
    lv[..., area < LIMITS.min_first_area * area.max()] = False
    shares = enclosed_shares(lv, heart == Label.MYO)
    return Verdict(f"{prefix}myo_encloses_base", min(shares[:1], default=0.0), LIMITS.min_enclosed_first)


def minima(curve: FloatArray) -> int:
    """Number of minima of a cyclic curve (``T``, fractions of the EDV) with at least `Limits.minimum_depth`."""
    cycles = [np.roll(curve, -frame).astype(np.float64) for frame in range(len(curve))]  # each begins at its frame
    return sum(_depth(cycle) >= LIMITS.minimum_depth for cycle in cycles if cycle[-1] > cycle[0])


def _depth(cycle: NDArray[np.float64]) -> float:
    """How far the curve rises on both sides of its first point before it falls below it: 0 if that is no minimum."""
    sides = [side[np.cumsum(side < cycle[0]) == 0] for side in (cycle, cycle[::-1])]
    return float(min(side.max(initial=cycle[0]) for side in sides) - cycle[0])


# --- Rejection sampling ----------------------------------------------------------------------------------------------

MAX_REJECTED = 8
"""Candidates that duplicate filters may reject before the search stops."""


@dataclass(frozen=True)
class Candidate:
    """One sampled anatomy (one frame) or motion (all frames), with the verdicts of the acceptance rules."""

    latent: Tensor  # 1 C x y z: the latent of an anatomy, the start noise of a motion
    image: FloatArray  # T X Y Z
    label: LabelArray  # T X Y Z
    verdicts: Verdicts
    attempt: int
    volume_matching: VolumeMatching | None = None
    postprocessing_ml: float = 0.0  # volume of the voxels that mask postprocessing changed, summed over frames
    rejected: str = ""  # why a duplicate filter rejects this candidate, whatever the rules say; empty if none does

    @property
    def accepted(self) -> bool:
        """Whether every rule holds and no duplicate filter rejects it."""
        return self.verdicts.accepted and not self.rejected


def rejection_sample(
    max_attempts: int,
    sample: Callable[[int], Candidate],
    finish: Callable[[Candidate], Candidate] = lambda candidate: candidate,
) -> tuple[Candidate, list[Candidate]]:
    """Call ``sample(0)``, ``sample(1)``, ... until a candidate is accepted, as it was sampled and once it is finished.

    ``finish`` takes long: where no candidate is accepted as it was sampled, it is tried on those that only broke rules,
    from the one that broke the fewest. Candidates that a duplicate filter rejects do not count towards
    ``max_attempts``. Returns ``(kept, candidates)``: ``kept`` is finished and passes all rules or, if none does, the
    most among those that no filter rejected; ``candidates`` are all that were sampled, in order. Raises `InputError`
    if a duplicate filter rejected every candidate.
    """
    candidates: list[Candidate] = []
    unfinished: list[Candidate] = []
    rejected = 0
    while unfinished or len(candidates) - rejected < max_attempts:
        if len(candidates) - rejected < max_attempts and rejected < MAX_REJECTED:
            candidate = sample(len(candidates))
            candidates.append(candidate)
            if not candidate.accepted:
                unfinished.append(candidate)
                continue
        elif unfinished:
            unfinished.sort(key=_rank)
            candidate = unfinished.pop(0)
        else:
            break
        candidates[candidate.attempt] = finished = finish(candidate)
        if finished.accepted:
            return finished, candidates
        rejected += bool(finished.rejected)
    left = [candidate for candidate in candidates if not candidate.rejected]
    if not left:
        raise InputError(
            f"all {len(candidates)} candidates were rejected: {candidates[-1].rejected}",
            hint="use another seed, or request a heart that is less similar to a training subject's",
        )
    return min(left, key=_rank), candidates


def _rank(candidate: Candidate) -> tuple[int, int]:
    """Broken rules, then the attempt: raising max_attempts changes no case that it does not improve."""
    return sum(not rule.passed for rule in candidate.verdicts.rules), candidate.attempt


def acceptance_json(kept: Candidate, candidates: Sequence[Candidate]) -> dict[str, object]:
    """The sidecar's acceptance record of one stage; ``attempts`` counts all candidates, rejected ones too."""
    failed = [[rule.rule for rule in c.verdicts.rules if not rule.passed] for c in candidates]
    return {
        "accepted": kept.verdicts.accepted,
        "attempts": len(candidates),
        "kept_attempt": kept.attempt,
        "rules": kept.verdicts.to_json(),
        "failed_rules_by_attempt": failed,
        "near_duplicates": sum(bool(c.rejected) for c in candidates),
        "postprocessing_ml": round(kept.postprocessing_ml, 3),
        "volume_matching": kept.volume_matching.to_json() if kept.volume_matching else None,
    }
