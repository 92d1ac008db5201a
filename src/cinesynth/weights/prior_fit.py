"""Fits the empirical prior on training subjects, of some of whom mass and RV are not known.

The core axes are known of every subject that counts. The others are added by regression on those before them, the
maximum-likelihood solution where what is unknown grows from axis to axis (Little and Rubin, *Statistical Analysis with
Missing Data*, 2002, section 7.4). All diagnoses share the slopes; each has its own level, and its own spread as far as
it has subjects.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from cinesynth.data.packed import Record
from cinesynth.data.readiness import has_ef
from cinesynth.data.subject_prior import vendor_of_record
from cinesynth.errors import DataError
from cinesynth.physiology import USUAL_SYSTOLE_FRACTION
from cinesynth.types import ClinicalPrior, Diagnosis
from cinesynth.weights.prior import (
    AXES,
    CORE,
    PSEUDO_SUBJECTS,
    EmpiricalPrior,
    Matrix,
    SubjectGroup,
    VendorShare,
    known_axes,
)
from cinesynth.weights.seen import Seen

SPREAD_FLOOR = (0.05, 0.1, 0.3, 0.1, 0.1, 0.15)
"""Standard deviation on each axis that even a single subject has: it keeps covariances positive definite."""
MIN_SUBJECTS = 12
"""Subjects with mass, or with RV volumes, from which their axes are fitted: twice as many as coefficients."""
BLOCKS = ((3, 4), (4, 6))
"""The axes beyond the core, fitted together: mass, RV."""


class Subject(NamedTuple):
    """A training subject: its record, and its place on the axes; NaN where unknown."""

    record: Record
    row: Matrix


def fit(
    records: Sequence[Record],
    priors: Sequence[ClinicalPrior] | None = None,
    others: Sequence[ClinicalPrior] = (),
) -> EmpiricalPrior:
    """Fit on the training subjects with known volumes; ``priors`` is what else is known of each.

    ``others`` is what is known of phantoms that training saw beside them.
    `DataError` if no volumes are known, or some subjects are of another split.
    """
    other = sorted({r.split for r in records} - {"train"})
    if other:
        raise DataError(f"subjects of the split {other[0]} in the empirical prior", hint="fit it on the training split")
    known = priors or [ClinicalPrior(r.diagnosis, r.lv_edv_ml, r.lv_esv_ml, r.slices) for r in records]
    subjects = [Subject(r, row) for r, prior in zip(records, known, strict=True) if (row := _row(r, prior)) is not None]
    if not subjects:
        raise DataError(f"none of {len(records)} training subjects has both LV volumes", hint="ingest labelled studies")
    by_diagnosis = {d: [s for s in subjects if s.record.diagnosis == d] for d in Diagnosis}
    present = {d: members for d, members in by_diagnosis.items() if members}
    within = _centred([_rows(members)[:, :CORE] for members in present.values()])
    pooled = within.T @ within / len(within) + np.diag(np.square(SPREAD_FLOOR[:CORE]))
    timing = _systolic_spread(list(present.values()))
    groups = {d: _core_group(members, pooled, timing) for d, members in present.items()}
    overall = _core_group(subjects, pooled, timing)
    for first, end in BLOCKS:
        if sum(_knows(s, end) for s in subjects) < MIN_SUBJECTS:
            break
        slopes = _Slopes.fit(list(present.values()), first, end)
        groups = {d: slopes.extend(group, present[d], subjects) for d, group in groups.items()}
        overall = slopes.extend(overall, subjects, subjects)
    diagnoses = [d.value for d in present if d is not Diagnosis.UNKNOWN]
    return EmpiricalPrior(overall, groups, Seen.of(priors, others) if priors else Seen(diagnoses))


def _row(record: Record, prior: ClinicalPrior) -> Matrix | None:
    """A subject on the `AXES`; None if an LV volume is unknown or the two contradict each other."""
    edv_ml, esv_ml = record.lv_edv_ml, record.lv_esv_ml
    if edv_ml is None or esv_ml is None or not has_ef(record):
        return None
    row = np.full(len(AXES), np.nan)
    core = [np.log(edv_ml), np.log((edv_ml - esv_ml) / esv_ml), float(record.slices)]
    for axis, value in {**known_axes(prior), **dict(enumerate(core))}.items():
        row[axis] = value
    return row


def _rows(subjects: Sequence[Subject]) -> Matrix:
    return np.array([s.row for s in subjects])  # N A


def _centred(groups: Sequence[Matrix]) -> Matrix:
    """The rows of all groups without their group's mean."""
    return np.concatenate([rows - rows.mean(axis=0) for rows in groups if len(rows)])


def _core_group(subjects: Sequence[Subject], pooled: Matrix, systolic_spread: float) -> SubjectGroup:
    rows = _rows(subjects)[:, :CORE]
    own = np.cov(rows, rowvar=False, bias=True) if len(rows) > 1 else np.zeros((CORE, CORE))
    cycles_ms = [s.record.frame_time_ms * s.record.frames_in_cycle for s in subjects if s.record.frame_time_ms]
    systole = _systolic_fractions(subjects)
    weight = PSEUDO_SUBJECTS / (PSEUDO_SUBJECTS + len(rows) - 1)
    return SubjectGroup(
        count=len(rows),
        mean=rows.mean(axis=0).tolist(),
        covariance=((1.0 - weight) * own + weight * pooled).tolist(),
        low=rows.min(axis=0).tolist(),
        high=rows.max(axis=0).tolist(),
        systolic_fraction=float(np.median(systole)) if systole else USUAL_SYSTOLE_FRACTION,
        cycle_ms=float(np.median(cycles_ms)) if cycles_ms else None,
        systolic_spread=systolic_spread,
        vendors=_vendors(subjects),
    )


def _vendors(subjects: Sequence[Subject]) -> dict[str, VendorShare]:
    counts = Counter(vendor for s in subjects if (vendor := vendor_of_record(s.record)) is not None)
    means = {v: _rows([s for s in subjects if vendor_of_record(s.record) == v])[:, :CORE].mean(axis=0) for v in counts}
    return {vendor: VendorShare(counts[vendor], means[vendor].tolist()) for vendor in sorted(counts)}


def _systolic_fractions(subjects: Sequence[Subject]) -> list[float]:
    records = [s.record for s in subjects]
    # A pair of ED and ES frames has no timing.
    timed = [r for r in records if r.frames_in_cycle != 2 and 0 < r.es_index_from_ed < r.frames_in_cycle]
    return [r.es_index_from_ed / r.frames_in_cycle for r in timed]


def _systolic_spread(groups: Sequence[Sequence[Subject]]) -> float:
    """Standard deviation of the systolic fraction within diagnoses; 0 if there are too few whole cycles to tell."""
    fractions = [np.array(found)[:, None] for members in groups if (found := _systolic_fractions(members))]
    if sum(map(len, fractions)) < len(fractions) + 3:
        return 0.0
    return float(np.sqrt(np.square(_centred(fractions)).sum() / (sum(map(len, fractions)) - len(fractions))))


def _knows(subject: Subject, end: int) -> bool:
    return bool(np.isfinite(subject.row[:end]).all())


class _Slopes(NamedTuple):
    """The regression of some axes on all before them, within diagnoses."""

    first: int
    end: int
    slopes: Matrix  # axes before, axes
    residual: Matrix  # covariance of what is left, over all diagnoses

    @classmethod
    def fit(cls, groups: Sequence[Sequence[Subject]], first: int, end: int) -> _Slopes:
        known = [_rows([s for s in members if _knows(s, end)])[:, :end] for members in groups if _any(members, end)]
        rows = _centred(known)
        given, found = rows[:, :first], rows[:, first:]
        floor = np.diag(np.square(SPREAD_FLOOR[:first]))  # a ridge: what hardly varies explains nothing
        slopes = np.linalg.solve(given.T @ given + floor, given.T @ found)
        left = found - given @ slopes
        degrees = max(1, len(rows) - len(known))
        residual = left.T @ left / degrees + np.diag(np.square(SPREAD_FLOOR[first:end])) / len(rows)
        return cls(first, end, slopes, residual)

    def extend(self, group: SubjectGroup, members: Sequence[Subject], everyone: Sequence[Subject]) -> SubjectGroup:
        """``group`` on the further axes; its level is that of its members or, if none is known, of everyone."""
        rows = _rows([s for s in (members if _any(members, self.end) else everyone) if _knows(s, self.end)])
        given, found = rows[:, : self.first], rows[:, self.first : self.end]
        left = found - given @ self.slopes
        level = left.mean(axis=0)
        own = np.cov(left, rowvar=False, bias=True).reshape(self.residual.shape)
        weight = PSEUDO_SUBJECTS / (PSEUDO_SUBJECTS + len(left) - 1)
        mean, covariance = np.array(group.mean), np.array(group.covariance)
        cross = covariance @ self.slopes  # covariance of the axes before with the new ones
        spread = self.slopes.T @ cross + (1.0 - weight) * own + weight * self.residual
        return replace(
            group,
            mean=[*group.mean, *(level + mean @ self.slopes).tolist()],
            covariance=np.block([[covariance, cross], [cross.T, spread]]).tolist(),
            low=[*group.low, *found.min(axis=0).tolist()],
            high=[*group.high, *found.max(axis=0).tolist()],
        )


def _any(members: Sequence[Subject], end: int) -> bool:
    return any(_knows(s, end) for s in members)
