"""Section "Control": does a generated heart have what was requested, in its masks and in its images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cinesynth.evaluation.agreement import (
    FURTHER,
    QUANTITIES,
    UNITS,
    achieved,
    agreement,
    both_known,
    r_interval,
    requested,
)
from cinesynth.evaluation.cases import Case
from cinesynth.evaluation.comparison import one_sided_test
from cinesynth.evaluation.figures import agreement_figure
from cinesynth.evaluation.measure import Measurer
from cinesynth.evaluation.section import Figure, Judgement, Measurements, Metric, Section, SectionSpec, Table
from cinesynth.evaluation.segmenter import NAME as SEGMENTER
from cinesynth.evaluation.segmenter import Segmenter, measurer
from cinesynth.types import Diagnosis

TITLE = "Control"
NAME = "control"
NO_SEGMENTER = "no segmenter was given: train one with cinesynth train segmenter"
DISCRETE = ("slices", "ES index")
"""Quantities whose correlation is not informative."""
DIAGNOSES = tuple(Diagnosis)
Columns = NDArray[np.float32]


@dataclass(frozen=True)
class ControlThresholds:
    """What passes, and what is a warning rather than a failure."""

    min_r: float = 0.8
    """Pearson's r of requested against achieved that the paper reports for its generator."""
    min_hearts_for_r: int = 5
    mae: tuple[tuple[float, float], ...] = (
        (8.0, 24.0),
        (6.0, 18.0),
        (5.0, 10.0),
        (0.0, 0.0),
        (1.0, 2.0),
        (12.0, 36.0),
        (9.0, 27.0),
        (12.0, 36.0),
    )
    """Largest mean absolute error that passes, and that warns, in the order of `QUANTITIES`. Two readers of one heart
    differ by about the first: 4-8 mL of EDV and ESV, 3-5 points of EF; at three times that the request is not met.
    Readers agree less on the RV and the outer wall: half as much again."""


THRESHOLDS = ControlThresholds()


@dataclass(frozen=True)
class PairedValues:
    """Requested and achieved values ``N Q`` in the order of `QUANTITIES`, by one way of measuring."""

    title: str
    requested: Columns
    achieved: Columns
    diagnosis: Columns  # N, positions in `DIAGNOSES`

    def pairs(self, quantity: str, group: int | None = None) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Requested and achieved of the hearts (of one diagnosis) that have both."""
        i = QUANTITIES.index(quantity)
        chosen = slice(None) if group is None else self.diagnosis == group
        return both_known(self.requested[chosen, i], self.achieved[chosen, i])


def measure_control(case: Case) -> dict[str, Any]:
    """``requested`` and ``achieved`` in the order of `QUANTITIES`, and the diagnosis."""
    return {
        "requested": requested(case),
        "achieved": achieved(case),
        "diagnosis": np.float32(DIAGNOSES.index(case.diagnosis)),
    }


MEASURER = Measurer(NAME, "2", measure_control)


def section_spec(segmenter: Segmenter | None) -> SectionSpec:
    """Requested against achieved, in the cohort's masks and, where there is one, by the independent segmenter."""
    measurers = (MEASURER,) if segmenter is None else (MEASURER, measurer(segmenter))
    return SectionSpec(TITLE, measurers, partial(_evaluate, segmenter is not None))


def _evaluate(segmented: bool, measurements: Measurements) -> Section:
    cohort, real = measurements.synthetic, measurements.held_out
    request, diagnosis = cohort[f"{NAME}.requested"], cohort[f"{NAME}.diagnosis"]
    masks = PairedValues("masks", request, cohort[f"{NAME}.achieved"], diagnosis)
    quantities = _quantities(masks)
    continuous = [q for q in quantities if q not in DISCRETE]
    metrics = [_correlation(masks, q) for q in continuous] + [_error(masks, q) for q in quantities]
    values = [masks]
    if segmented:
        images = PairedValues("images", request, cohort[f"{SEGMENTER}.achieved"], diagnosis)
        annotated, diagnosed = real[f"{NAME}.achieved"], real[f"{NAME}.diagnosis"]
        floor = PairedValues("real subjects", annotated, real[f"{SEGMENTER}.achieved"], diagnosed)
        metrics += [_correlation(images, q, floor) for q in continuous]
        judged = [q for q in quantities if q != "slices"]  # the segmenter has no say in the number of slices
        metrics += [_error_beside_floor(images, q, floor, len(judged)) for q in judged]
        values += [images, floor]
    else:
        metrics += [Metric.unknown(f"r {q}, images", NO_SEGMENTER) for q in continuous]
    return Section(
        TITLE,
        "Do generated hearts have the volumes, ejection fraction, number of slices and time of end-systole that were "
        "requested and, where requested, the RV volumes and myocardial mass?",
        metrics,
        [_table(values, quantities), _table_by_diagnosis(values[:2], continuous)],
        [p for v in values if (p := _figure(v, continuous)) is not None],
        NOTES,
    )


NOTES = (
    "masks: measured on the labels that were generated with the images. images: measured by the independent segmenter, "
    "which sees the images alone. real subjects: the segmenter against the annotators, its own error.",
    "Volume matching steers the masks, so agreement in the masks says little about the images.",
    "RV volumes and myocardial mass (1.05 g/mL, at ED) are judged where they were requested of weights that are "
    "conditioned on them. A requested vendor is not judged.",
)


def _quantities(masks: PairedValues) -> list[str]:
    """What every request holds, and what was requested of some heart besides."""
    return [q for i, q in enumerate(QUANTITIES) if q not in FURTHER or np.isfinite(masks.requested[:, i]).any()]


def _correlation(values: PairedValues, quantity: str, floor: PairedValues | None = None) -> Metric:
    asked, found = values.pairs(quantity)
    name, result = f"r {quantity}, {values.title}", agreement(quantity, asked, found) if len(asked) else None
    if result is None or result.r is None:
        return Metric.unknown(name, _why_no_r(asked, found), count=len(asked))
    interval = r_interval(asked, found) if len(asked) >= THRESHOLDS.min_hearts_for_r else None
    low, high = interval or (None, None)
    reached = result.r >= THRESHOLDS.min_r
    verdict: Judgement = "pass" if reached else "warn" if high is None or high >= THRESHOLDS.min_r else "fail"
    best = agreement(quantity, *floor.pairs(quantity)).r if floor and len(floor.pairs(quantity)[0]) else None
    return Metric(
        name,
        result.r,
        "",
        len(asked),
        low,
        high,
        best,
        f"at least {THRESHOLDS.min_r:g} (fail: the whole interval below)",
        verdict,
        detail=f"Pearson; slope {result.slope:.2f}",
    )


def _why_no_r(requested: NDArray[np.float64], achieved: NDArray[np.float64]) -> str:
    if len(requested) < 3:
        return f"{len(requested)} hearts have both values; a correlation needs three"
    return "the same was requested of all hearts" if requested.std() == 0 else "all hearts have the same value"


def _error(values: PairedValues, quantity: str) -> Metric:
    asked, found = values.pairs(quantity)
    i = QUANTITIES.index(quantity)
    name, unit = f"MAE {quantity}, {values.title}", UNITS[i]
    if not len(asked):
        return Metric.unknown(name, "no heart has both a requested and an achieved value", unit=unit)
    result, (good, bearable) = agreement(quantity, asked, found), THRESHOLDS.mae[i]
    return Metric(
        name,
        result.mae,
        unit,
        len(asked),
        limit=f"at most {good:g} {unit} (fail: {bearable:g})".replace("  ", " "),
        judgement="pass" if result.mae <= good else "warn" if result.mae <= bearable else "fail",
        detail=f"bias {result.bias:+.3g} {unit}",
    )


def _error_beside_floor(values: PairedValues, quantity: str, floor: PairedValues, comparisons: int) -> Metric:
    """The error by the segmenter, judged by its own error on real subjects, as one of so many ``comparisons``."""
    name, unit = f"MAE {quantity}, {values.title}", UNITS[QUANTITIES.index(quantity)]
    ours, theirs = (np.abs(np.subtract(*v.pairs(quantity))) for v in (values, floor))
    if not len(theirs):
        return Metric.unknown(name, "not annotated in any held-out subject: the segmenter's own error is unknown")
    return one_sided_test(name, ours, theirs, theirs, high_is_bad=True, unit=unit, comparisons=comparisons)


COLUMNS = ("measured on", "quantity", "hearts", "r", "slope", "bias", "limits of agreement", "MAE")


def _table(values: Sequence[PairedValues], quantities: Sequence[str]) -> Table:
    rows = [(v.title, *_row(v, q)) for v in values for q in quantities if len(v.pairs(q)[0])]
    return Table("Requested against achieved (for real subjects: annotated against segmented)", COLUMNS, rows)


def _table_by_diagnosis(values: Sequence[PairedValues], continuous: Sequence[str]) -> Table:
    rows = [
        (DIAGNOSES[group].value, v.title, *_row(v, quantity, group))
        for group in sorted({int(d) for v in values for d in v.diagnosis})
        for v in values
        for quantity in continuous
        if len(v.pairs(quantity, group)[0])
    ]
    caption = f"By requested diagnosis (r and slope from {THRESHOLDS.min_hearts_for_r} hearts on)"
    return Table(caption, ("diagnosis", *COLUMNS), rows)


def _row(values: PairedValues, quantity: str, group: int | None = None) -> tuple[object, ...]:
    a = agreement(quantity, *values.pairs(quantity, group))
    limits = "" if a.low is None or a.high is None else f"{a.low:+.1f} to {a.high:+.1f}"
    r, slope = (a.r, a.slope) if a.count >= THRESHOLDS.min_hearts_for_r else (None, None)
    return quantity, a.count, r, slope, a.bias, limits, a.mae


def _figure(values: PairedValues, continuous: Sequence[str]) -> Figure | None:
    groups = [DIAGNOSES[int(d)].value for d in values.diagnosis]
    plotted = {}
    for quantity in continuous:
        i = QUANTITIES.index(quantity)
        both = np.isfinite(values.requested[:, i]) & np.isfinite(values.achieved[:, i])
        if both.sum() >= 2:
            names = [g for g, keep in zip(groups, both, strict=True) if keep]
            plotted[f"{quantity} [{UNITS[i]}]"] = (values.requested[both, i], values.achieved[both, i], names)
    return agreement_figure(values.title, plotted) if plotted else None
