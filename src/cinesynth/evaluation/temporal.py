"""Section "Motion over time": does a generated heart beat like a heart.

Limits that any human heart keeps judge every whole cycle. Where real whole cycles are available, the same numbers are
also compared with theirs; the change from ED to ES always is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cinesynth.evaluation.comparison import Comparison
from cinesynth.evaluation.figures import draw_curves
from cinesynth.evaluation.limits import MOTION_LIMITS, MotionLimit, judge
from cinesynth.evaluation.measure import Measured
from cinesynth.evaluation.motion import PHASES, motion
from cinesynth.evaluation.section import Figure, Measurements, Metric, Section, SectionSpec, Table
from cinesynth.evaluation.statistics import Indices, bootstrap_interval, frechet, known
from cinesynth.types import STRUCTURES, Label

TITLE = "Motion over time"
QUESTION = "Does a generated heart beat like a heart: one smooth contraction, on time, that ends where it began?"
Values = NDArray[np.float64]

NOT_APPLICABLE = {
    "whole": "no generated heart is a whole cycle",
    "around": "nothing was imaged around any generated heart",
    "known": "the LV is not annotated at every frame of any generated heart",
    "timed": "the time between frames is not known",
}
"""Why a limit applies to no heart."""
RATIOS = (
    ("frame-to-frame change over real", "step", "in the heart, whole cycles"),
    ("change outside the heart over real", "background_temporal_sd", "temporal SD, whole cycles"),
    ("ED-to-ES change in the heart over real", "ed_es_change_inside", "ED and ES of all hearts"),
    ("ED-to-ES change outside the heart over real", "ed_es_change_outside", "ED and ES of all hearts"),
)
"""Compared with real hearts: name, quantity, and over what."""


def section_spec() -> SectionSpec:
    """Motion over time; no network is needed."""
    return SectionSpec(TITLE, [motion()], _evaluate)


def _evaluate(measurements: Measurements) -> Section:
    sets = measurements.sets
    metrics = [within_limit(limit, sets) for limit in MOTION_LIMITS]
    metrics += [_ratio(*ratio, sets) for ratio in RATIOS]
    metrics.append(_motion_distance(sets))
    outside = _outside(measurements.synthetic)
    tables = [Table("Hearts outside a limit", ("heart", "metric", "value", "limit"), outside)] if outside else []
    return Section(TITLE, QUESTION, metrics, tables, _figures(sets), _notes(sets))


def _values(measured: Measured, quantity: str) -> Values:
    return np.asarray(measured[f"motion.{quantity}"], dtype=np.float64)


def _applicable(limit: MotionLimit, measured: Measured) -> NDArray[np.intp]:
    """Positions of the hearts that the limit applies to."""
    return np.flatnonzero(_values(measured, limit.needs) > 0)


def within_limit(limit: MotionLimit, sets: Sequence[Measured]) -> Metric:
    """The median of the generated hearts, judged by how many are outside the limit; ``sets`` are train, held-out and
    generated hearts with their `motion`."""
    train, held_out, synthetic = sets
    hearts = _applicable(limit, synthetic)
    values = _values(synthetic, limit.quantity)[hearts]
    finite = known(values)
    if not len(finite):
        return _no_value(limit, synthetic)
    outside = limit.outside(values)
    low, high = bootstrap_interval(np.median, finite, resamples=1000) or (None, None)
    real = next((r for r in (_known_of(limit, s) for s in (held_out, train)) if len(r)), None)
    return Metric(
        limit.name,
        float(np.median(finite)),
        limit.unit,
        len(hearts),
        low,
        high,
        None if real is None else float(np.median(real)),
        limit.words,
        judge(float(outside.mean())),
        detail=f"median; {outside.sum()} of {len(hearts)} hearts outside; {limit.why}",
    )


def _known_of(limit: MotionLimit, measured: Measured) -> Values:
    return known(_values(measured, limit.quantity)[_applicable(limit, measured)])


def _no_value(limit: MotionLimit, synthetic: Measured) -> Metric:
    """Why no heart has the number; hearts that lost their LV, or do not move, fail."""
    for need, why in NOT_APPLICABLE.items():
        if need in ("whole", limit.needs) and not (_values(synthetic, need) > 0).any():
            return Metric.unknown(limit.name, why, unit=limit.unit, detail=limit.why)
    why = "nothing moves in any generated heart" if limit.needs == "whole" else "no generated heart has an LV"
    return Metric.unknown(limit.name, why, limit=limit.words, judgement="fail", detail=limit.why)


def _ratio(name: str, quantity: str, over: str, sets: Sequence[Measured]) -> Metric:
    """Mean of the generated hearts over the mean of real ones."""
    positive = [v[np.isfinite(v) & (v > 0)] for v in (_values(s, quantity) for s in sets)]
    values, counts = np.concatenate(positive), Comparison(*map(len, positive))
    if counts.missing:
        return Metric.unknown(name, _why_not_compared(counts), detail=over)

    def ratio(x: Indices, y: Indices) -> float:
        return float(values[x].mean() / values[y].mean())

    return counts.metric(name, ratio, "both", unit="times", detail=f"{over}; {counts.describe()}")


def _why_not_compared(counts: Comparison) -> str:
    return f"{counts.missing}: the others are not whole cycles, or not annotated at every frame"


def _motion_distance(sets: Sequence[Measured]) -> Metric:
    """Frechet distance of motion: volume curves and the path of the LV's centre, of whole annotated cycles."""
    features, structures = _features(sets)
    complete = [f[np.isfinite(f).all(axis=1)] for f in features]
    points, counts = np.concatenate(complete), Comparison(*map(len, complete))
    if counts.missing:
        return Metric.unknown("fd-motion", _why_not_compared(counts))
    detail = (
        f"volume curves of {', '.join(structures)} over those at ED, and the path of the LV's centre in cm, "
        f"at {PHASES} times: {points.shape[1]} features"
    )
    return counts.metric(
        "fd-motion", lambda x, y: frechet(points[x], points[y]), "high", detail=f"{detail}; {counts.describe()}"
    )


def _features(sets: Sequence[Measured]) -> tuple[list[Values], list[str]]:
    """Motion of each heart as one row, with the structures that some heart of every set has at all frames."""
    curves = [_values(s, "curves") for s in sets]  # N S PHASES
    shared = [i for i in range(len(STRUCTURES)) if all(np.isfinite(c[:, i]).any() for c in curves)]
    paths = [_values(s, "path").reshape(len(s), -1) for s in sets]
    rows = [np.hstack([c[:, shared].reshape(len(c), -1), p]) for c, p in zip(curves, paths, strict=True)]
    return rows, [STRUCTURES[i].name for i in shared]


def _outside(synthetic: Measured, max_rows: int = 20) -> list[tuple[object, ...]]:
    """The first hearts outside a limit."""
    rows: list[tuple[object, ...]] = []
    for limit in MOTION_LIMITS:
        hearts, values = _applicable(limit, synthetic), _values(synthetic, limit.quantity)
        if np.isfinite(values[hearts]).any():
            for i in hearts[limit.outside(values[hearts])]:
                value = float(values[i]) if math.isfinite(values[i]) else "no LV"
                rows.append((synthetic.names[i], limit.name, value, limit.words.split(" in every")[0]))
    return rows[:max_rows]


def _figures(sets: Sequence[Measured]) -> list[Figure]:
    lv = STRUCTURES.index(Label.LV)
    curves = [[c for c in _values(s, "curves")[:, lv] if np.isfinite(c).all()] for s in sets]
    train, held_out, synthetic = curves
    if not synthetic:
        return []
    real = [*train, *held_out]
    caption = f"LV volume over the cycle, from ED on, of {len(synthetic)} generated hearts"
    caption += f" and {len(real)} real hearts" if real else "; no real heart has an LV curve of a whole cycle"
    return [Figure(caption, draw_curves(synthetic, real))]


def _notes(sets: Sequence[Measured]) -> list[str]:
    counts = [
        f"{int((_values(s, 'whole') > 0).sum())} of {len(s)} {s.title}"
        f" ({int((_values(s, 'known') > 0).sum())} with the LV at every frame)"
        for s in sets
    ]
    return [
        f"Whole cycles: {', '.join(counts)}.",
        "The column 'real' is of held-out whole cycles, or of train where there are none.",
    ]
