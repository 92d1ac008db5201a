"""The empirical prior: the joint distribution of core conditions, fitted on the training subjects.

Each diagnosis has a Gaussian over (log EDV, logit EF, slices), so that a dilated heart has a low ejection fraction and
a large heart more slices. Samples stay within the observed range. Systolic fraction and cycle length are medians.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cinesynth.errors import DataError, InputError, WeightsError
from cinesynth.physiology import USUAL_CYCLE_MS, USUAL_SYSTOLE_FRACTION
from cinesynth.types import ClinicalPrior, Diagnosis

if TYPE_CHECKING:
    from cinesynth.data.packed import Record

Matrix = NDArray[np.float64]

FORMAT = 1
"""Version of ``prior.json``."""
SAMPLES_PER_DRAW = 64
"""Samples drawn at once; the first within the observed range is returned."""


@dataclass(frozen=True)
class SubjectGroup:
    """Subjects of one diagnosis (or all): moments and observed range of (log EDV, logit EF, slices)."""

    count: int
    mean: list[float]
    covariance: list[list[float]]
    low: list[float]
    high: list[float]
    systolic_fraction: float
    cycle_ms: float | None

    def draw(self, rng: np.random.Generator, known: Mapping[int, float] = MappingProxyType({})) -> Matrix:
        """A sample of (log EDV, logit EF, slices) within the observed range, conditional on the ``known`` axes.

        Slices are whole numbers. A known value outside the range counts as the end of the range.
        """
        low, high = np.array(self.low), np.array(self.high)
        free = [axis for axis in range(len(low)) if axis not in known]
        rows = np.empty((SAMPLES_PER_DRAW, len(low)))
        rows[:, sorted(known)] = [known[axis] for axis in sorted(known)]
        if free:
            mean, covariance = self.given(known, free)
            rows[:, free] = rng.multivariate_normal(mean, covariance, size=SAMPLES_PER_DRAW, method="cholesky")
        rows[:, 2] = np.rint(rows[:, 2])
        inside = np.all((rows >= low - 1e-9) & (rows <= high + 1e-9), axis=1, where=np.isin(range(len(low)), free))
        row: Matrix = np.clip(rows[int(inside.argmax())], low, high)
        return row

    def given(self, known: Mapping[int, float], free: list[int]) -> tuple[Matrix, Matrix]:
        """Mean and covariance of the ``free`` axes conditional on the ``known`` ones."""
        mean, covariance = np.array(self.mean), np.array(self.covariance)
        axes = sorted(known)
        centre, spread = mean[free], covariance[np.ix_(free, free)]
        if axes:
            inside = np.clip([known[a] for a in axes], np.array(self.low)[axes], np.array(self.high)[axes])
            # Gaussian conditioning: mean + S_fk S_kk^-1 (k - mean_k), covariance S_ff - S_fk S_kk^-1 S_kf
            gain = np.linalg.solve(covariance[np.ix_(axes, axes)], covariance[np.ix_(axes, free)]).T
            centre = centre + gain @ (inside - mean[axes])
            spread = spread - gain @ covariance[np.ix_(axes, free)]
        return centre, spread


@dataclass(frozen=True)
class EmpiricalPrior:
    """The distribution of all training subjects, and of each diagnosis among them."""

    overall: SubjectGroup
    groups: Mapping[Diagnosis, SubjectGroup]

    @classmethod
    def fit(cls, records: Sequence[Record]) -> EmpiricalPrior:
        """Fit on the training subjects with known volumes; `DataError` if there are none, or some of another split."""
        other = sorted({r.split for r in records} - {"train"})
        if other:
            raise DataError(
                f"subjects of the split {other[0]} in the empirical prior", hint="fit it on the training split"
            )
        usable = [r for r in records if _row(r) is not None]
        if not usable:
            raise DataError(
                f"none of {len(records)} training subjects has both LV volumes", hint="ingest labelled studies"
            )
        by_diagnosis = {d: [r for r in usable if r.diagnosis == d] for d in Diagnosis}
        present = {d: rs for d, rs in by_diagnosis.items() if rs}
        centred = np.concatenate([rows - rows.mean(axis=0) for rows in map(_rows, present.values())])
        within = centred.T @ centred / len(centred)
        # The floor keeps it positive definite: of one subject alone, the three still vary by .05, .1 and .3 (SD).
        pooled = within + np.diag(np.square((0.05, 0.1, 0.3)))
        return cls(_group(usable, pooled), {d: _group(rs, pooled) for d, rs in present.items()})

    def draw(
        self,
        seed: int | np.random.Generator,
        diagnosis: Diagnosis | None = None,
        *,
        lv_edv_ml: float | None = None,
        ef_percent: float | None = None,
        slices: int | None = None,
    ) -> ClinicalPrior:
        """A complete prior: given conditions are kept, and the others are sampled conditional on them.

        A diagnosis is sampled by its share of the training subjects. `InputError` if no training subject has it.
        """
        rng = np.random.default_rng(seed)
        if diagnosis is None:
            shares = np.array([group.count for group in self.groups.values()], dtype=np.float64)
            diagnosis = list(self.groups)[int(rng.choice(len(shares), p=shares / shares.sum()))]
        elif diagnosis not in self.groups and diagnosis is not Diagnosis.UNKNOWN:
            known = ", ".join(d.value for d in self.groups)
            raise InputError(
                f"no training subject has the diagnosis {diagnosis.value}", hint=f"these weights know {known}"
            )
        given = _axes(lv_edv_ml, ef_percent, slices)
        log_edv, logit_ef, drawn_slices = self.group(diagnosis).draw(rng, given)
        drawn_ef = round(min(max(100.0 / (1.0 + math.exp(-logit_ef)), 3.0), 95.0), 1)
        return ClinicalPrior.from_ef(
            diagnosis,
            round(math.exp(log_edv), 1) if lv_edv_ml is None else lv_edv_ml,
            drawn_ef if ef_percent is None else ef_percent,
            int(drawn_slices) if slices is None else slices,
        )

    def complete(self, prior: ClinicalPrior, seed: int | np.random.Generator) -> ClinicalPrior:
        """``prior`` with a number of slices: its own, or one sampled conditional on its volumes."""
        if prior.slices is not None:
            return prior
        group = self.group(prior.diagnosis)
        (centre,), ((variance,),) = group.given(_axes(prior.lv_edv_ml, prior.ef_percent), [2])
        drawn = np.random.default_rng(seed).normal(centre, math.sqrt(max(float(variance), 0.0)))
        return replace(prior, slices=int(np.clip(np.rint(drawn), group.low[2], group.high[2])))

    def frame_time_ms(self, diagnosis: Diagnosis, frames: int) -> float:
        """Milliseconds between frames of the median cycle divided into ``frames``, rounded to a hundredth."""
        cycle_ms = self.group(diagnosis).cycle_ms or self.overall.cycle_ms or USUAL_CYCLE_MS
        return round(cycle_ms / frames, 2)

    def group(self, diagnosis: Diagnosis) -> SubjectGroup:
        """The subjects of a diagnosis; all subjects if it is unknown or was not in the training data."""
        return self.groups.get(diagnosis, self.overall)

    def to_json(self) -> dict[str, Any]:
        """The content of ``prior.json`` in a weights folder."""
        groups = {diagnosis.value: asdict(group) for diagnosis, group in self.groups.items()}
        return {"format": FORMAT, "overall": asdict(self.overall), "groups": groups}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> EmpiricalPrior:
        """The inverse of `to_json`; `WeightsError` if ``values`` is not a prior."""
        try:
            groups = {Diagnosis(name): SubjectGroup(**group) for name, group in values["groups"].items()}
            return cls(SubjectGroup(**values["overall"]), groups)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise WeightsError(
                f"prior.json is not an empirical prior: {error!r}", hint="copy the folder again"
            ) from None


def _axes(lv_edv_ml: float | None, ef_percent: float | None, slices: int | None = None) -> dict[int, float]:
    """The specified ones of log EDV (0), logit EF (1) and slices (2)."""
    known = {} if lv_edv_ml is None else {0: math.log(lv_edv_ml)}
    if ef_percent is not None:
        known[1] = _logit(ef_percent / 100.0)
    return known if slices is None else {**known, 2: float(slices)}


def _row(record: Record) -> list[float] | None:
    """(log EDV, logit EF, slices) of a subject; None if a volume is unknown or the two contradict each other."""
    edv_ml, esv_ml = record.lv_edv_ml, record.lv_esv_ml
    if edv_ml is None or esv_ml is None or not 0.0 < esv_ml < edv_ml:
        return None
    return [math.log(edv_ml), _logit(1.0 - esv_ml / edv_ml), float(record.slices)]


def _rows(records: Sequence[Record]) -> Matrix:
    return np.array([_row(record) for record in records])  # N 3


def _group(records: Sequence[Record], pooled: Matrix) -> SubjectGroup:
    rows = _rows(records)
    own = np.cov(rows, rowvar=False, bias=True) if len(rows) > 1 else np.zeros((3, 3))
    # a pair of ED and ES frames has no timing
    timed = [r for r in records if r.frames_in_cycle != 2 and 0 < r.es_index_from_ed < r.frames_in_cycle]
    systole = [r.es_index_from_ed / r.frames_in_cycle for r in timed]
    cycles_ms = [r.frame_time_ms * r.frames_in_cycle for r in records if r.frame_time_ms is not None]
    weight = 2.0 / (2.0 + len(rows) - 1)  # the pooled covariance counts as two subjects
    covariance = (1.0 - weight) * own + weight * pooled
    return SubjectGroup(
        count=len(rows),
        mean=rows.mean(axis=0).tolist(),
        covariance=covariance.tolist(),
        low=rows.min(axis=0).tolist(),
        high=rows.max(axis=0).tolist(),
        systolic_fraction=float(np.median(systole)) if systole else USUAL_SYSTOLE_FRACTION,
        cycle_ms=float(np.median(cycles_ms)) if cycles_ms else None,
    )


def _logit(share: float) -> float:
    return math.log(share / (1.0 - share))
