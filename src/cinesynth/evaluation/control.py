"""Does a generated heart have what was asked of it: in its own masks, and in its images as another eye sees them."""

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
    Agreement,
    achieved,
    agreement,
    both_known,
    r_interval,
    requested,
)
from cinesynth.evaluation.cases import Case
from cinesynth.evaluation.control_figures import agreement_picture
from cinesynth.evaluation.measure import Measurer
from cinesynth.evaluation.section import Evidence, Judgement, Listing, Measure, Picture, Question, Section
from cinesynth.evaluation.segmenter import NAME as SEGMENTER
from cinesynth.evaluation.segmenter import Segmenter, measurer
from cinesynth.evaluation.statistics import Yardstick
from cinesynth.types import Diagnosis

TITLE = "Control"
NAME = "control"
NO_SEGMENTER = "no segmenter was given: train one with cinesynth train segmenter"
LEAST_R = 0.8
"""What the paper reports of its own generator (Pearson, requested against achieved)."""
LARGEST_MAE = {
    "EDV": (8.0, 24.0),
    "ESV": (6.0, 18.0),
    "EF": (5.0, 10.0),
    "slices": (0.0, 0.0),
    "ES index": (1.0, 2.0),
    "RV EDV": (12.0, 36.0),
    "RV ESV": (9.0, 27.0),
    "mass": (12.0, 36.0),
}
"""Mean absolute error that passes and that warns. Two readers of one heart differ about as much as the first: 4-8 mL of
EDV and ESV, 3-5 points of EF (docs/evaluation-control.md); three times that, and the request is not met. Outlines of
the RV and of the outer wall are less agreed on: half as much again."""
FEWEST_FOR_R = 5
DISCRETE = ("slices", "ES index")
"""Quantities of which a correlation says nothing."""
DIAGNOSES = tuple(Diagnosis)
Columns = NDArray[np.float32]


@dataclass(frozen=True)
class Source:
    """Where what was achieved is read from: pairs ``N Q`` in the order of `QUANTITIES`, and each heart's diagnosis."""

    title: str
    asked: Columns
    found: Columns
    diagnosis: Columns  # N, positions in `DIAGNOSES`

    def pairs(self, quantity: str, group: int | None = None) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Requested and achieved of the hearts (of one diagnosis) that have both."""
        i = QUANTITIES.index(quantity)
        chosen = slice(None) if group is None else self.diagnosis == group
        return both_known(self.asked[chosen, i], self.found[chosen, i])


def measure_control(case: Case) -> dict[str, Any]:
    """``requested`` and ``achieved`` in the order of `QUANTITIES`, and the diagnosis."""
    return {
        "requested": requested(case),
        "achieved": achieved(case),
        "diagnosis": np.float32(DIAGNOSES.index(case.diagnosis)),
    }


MEASURER = Measurer(NAME, "2", measure_control)


def question(segmenter: Segmenter | None) -> Question:
    """Requested against achieved, by the cohort's masks and, where there is one, by the independent segmenter."""
    measurers = (MEASURER,) if segmenter is None else (MEASURER, measurer(segmenter))
    return Question(TITLE, measurers, partial(_answer, segmenter is not None))


def _answer(segmented: bool, evidence: Evidence) -> Section:
    cohort, people = evidence.synthetic, evidence.held_out
    asked, diagnosis = cohort[f"{NAME}.requested"], cohort[f"{NAME}.diagnosis"]
    masks = Source("masks", asked, cohort[f"{NAME}.achieved"], diagnosis)
    quantities = _quantities(masks)
    continuous = [q for q in quantities if q not in DISCRETE]
    measures = [_correlation(masks, q) for q in continuous] + [_error(masks, q) for q in quantities]
    sources = [masks]
    if segmented:
        images = Source("images", asked, cohort[f"{SEGMENTER}.achieved"], diagnosis)
        floor = Source(
            "real people", people[f"{NAME}.achieved"], people[f"{SEGMENTER}.achieved"], people[f"{NAME}.diagnosis"]
        )
        measures += [_correlation(images, q, floor) for q in continuous]
        seen = [q for q in quantities if q != "slices"]
        measures += [_error_beside_floor(images, q, floor, len(seen)) for q in seen]
        sources += [images, floor]
    else:
        measures += [Measure.unknown(f"r {q}, images", NO_SEGMENTER) for q in continuous]
    return Section(
        TITLE,
        "Does a generated heart have the volumes, the ejection fraction, the slices and the time of end-systole that "
        "were asked for, and, where they were asked for, the volumes of the RV and the myocardial mass?",
        measures,
        [_listing(sources, quantities), _by_diagnosis(sources[:2] if segmented else sources, continuous)],
        [p for source in sources if (p := _picture(source, continuous)) is not None],
        NOTES,
    )


NOTES = (
    "masks: measured on the labels that were generated with the images. images: measured by the independent segmenter, "
    "which sees the images alone. real people: the segmenter against the annotators, the floor of what it can tell.",
    "Closed-loop control steers the masks, so their agreement says little about the images; the second source does.",
    "RV volumes and myocardial mass (1.05 g/mL, at ED) are judged where weights that know them were asked for them; a "
    "vendor that was asked for is not judged.",
)


def _quantities(masks: Source) -> list[str]:
    """What every request holds, and what any heart was asked for besides."""
    return [q for i, q in enumerate(QUANTITIES) if q not in FURTHER or np.isfinite(masks.asked[:, i]).any()]


def _correlation(source: Source, quantity: str, floor: Source | None = None) -> Measure:
    asked, found = source.pairs(quantity)
    name, result = f"r {quantity}, {source.title}", agreement(quantity, asked, found) if len(asked) else None
    if result is None or result.r is None:
        return Measure.unknown(name, _why_no_r(asked, found), count=len(asked))
    within = r_interval(asked, found) if len(asked) >= FEWEST_FOR_R else None
    high = within[1] if within else 1.0
    verdict: Judgement = "pass" if result.r >= LEAST_R else "warn" if high >= LEAST_R else "fail"
    best = agreement(quantity, *floor.pairs(quantity)).r if floor and len(floor.pairs(quantity)[0]) else None
    return Measure(
        name,
        result.r,
        "",
        len(asked),
        low=within[0] if within else None,
        high=within[1] if within else None,
        floor=best,
        limit=f"at least {LEAST_R:g} (fail: the whole interval below)",
        judgement=verdict,
        detail=f"Pearson; slope {result.slope:.2f}",
    )


def _why_no_r(asked: NDArray[np.float64], found: NDArray[np.float64]) -> str:
    if len(asked) < 3:
        return f"{len(asked)} hearts were asked for it and have it; a correlation needs three"
    return "all hearts were asked for the same" if asked.std() == 0 else "all hearts have the same"


def _error(source: Source, quantity: str) -> Measure:
    asked, found = source.pairs(quantity)
    name, unit = f"MAE {quantity}, {source.title}", UNITS[QUANTITIES.index(quantity)]
    if not len(asked):
        return Measure.unknown(name, "no heart was asked for it and has it", unit=unit)
    result, (good, bearable) = agreement(quantity, asked, found), LARGEST_MAE[quantity]
    verdict: Judgement = "pass" if result.mae <= good else "warn" if result.mae <= bearable else "fail"
    return Measure(
        name,
        result.mae,
        unit,
        len(asked),
        limit=f"at most {good:g} {unit} (fail: {bearable:g})".replace("  ", " "),
        judgement=verdict,
        detail=f"bias {result.bias:+.3g} {unit}",
    )


def _error_beside_floor(source: Source, quantity: str, floor: Source, comparisons: int) -> Measure:
    """The error by the segmenter, judged by its own error on real people, as one of so many ``comparisons``."""
    name, unit = f"MAE {quantity}, {source.title}", UNITS[QUANTITIES.index(quantity)]
    ours, theirs = (np.abs(np.subtract(*s.pairs(quantity))) for s in (source, floor))
    if not len(theirs):
        return Measure.unknown(name, "no held-out person has it annotated: the segmenter's own error is not known")
    return Yardstick(comparisons).worse(name, ours, theirs, theirs, high_is_bad=True, unit=unit)


def _listing(sources: Sequence[Source], quantities: Sequence[str]) -> Listing:
    rows = [(s.title, *_row(s, q)) for s in sources for q in quantities if len(s.pairs(q)[0])]
    columns = ("measured on", "quantity", "hearts", "r", "slope", "bias", "limits of agreement", "MAE")
    return Listing("Requested against achieved (of real people: annotated against segmented)", columns, rows)


def _row(source: Source, quantity: str, group: int | None = None) -> tuple[object, ...]:
    a: Agreement = agreement(quantity, *source.pairs(quantity, group))
    limits = "" if a.low is None or a.high is None else f"{a.low:+.1f} to {a.high:+.1f}"
    enough = a.count >= FEWEST_FOR_R
    return quantity, a.count, a.r if enough else None, a.slope if enough else None, a.bias, limits, a.mae


def _by_diagnosis(sources: Sequence[Source], continuous: Sequence[str]) -> Listing:
    rows = [
        (DIAGNOSES[group].value, source.title, *_row(source, quantity, group))
        for group in sorted({int(d) for s in sources for d in s.diagnosis})
        for source in sources
        for quantity in continuous
        if len(source.pairs(quantity, group)[0])
    ]
    columns = ("diagnosis", "measured on", "quantity", "hearts", "r", "slope", "bias", "limits of agreement", "MAE")
    return Listing(f"By requested diagnosis (r and slope from {FEWEST_FOR_R} hearts on)", columns, rows)


def _picture(source: Source, continuous: Sequence[str]) -> Picture | None:
    groups = [DIAGNOSES[int(d)].value for d in source.diagnosis]
    shown = {}
    for quantity in continuous:
        i = QUANTITIES.index(quantity)
        both = np.isfinite(source.asked[:, i]) & np.isfinite(source.found[:, i])
        if both.sum() >= 2:
            names = [g for g, keep in zip(groups, both, strict=True) if keep]
            shown[f"{quantity} [{UNITS[i]}]"] = (source.asked[both, i], source.found[both, i], names)
    return agreement_picture(source.title, shown) if shown else None
