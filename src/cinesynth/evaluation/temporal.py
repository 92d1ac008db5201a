"""Section "Motion over time": does a generated heart beat like a heart.

`MOTION_LIMITS`, which any human heart keeps, judge every whole cycle. They come from physiology and were checked on 13
real cycles: ten of Najman et al. (LV contoured at every frame), two of the Sunnybrook data and one of ACDC. Where real
whole cycles are available, the same numbers are also compared with theirs; the change from ED to ES always is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cinesynth.evaluation.comparison import Comparison, judge_value
from cinesynth.evaluation.measure import Measured
from cinesynth.evaluation.motion import MIN_DIP, MOTION, PHASES
from cinesynth.evaluation.section import Figure, Measurements, Metric, Section, SectionSpec, Table
from cinesynth.evaluation.statistics import Indices, bootstrap_interval, frechet, known
from cinesynth.reports.plots import cycle_plot
from cinesynth.types import STRUCTURES, Label

TITLE = "Motion over time"
QUESTION = "Does a generated heart beat like a heart: one smooth contraction, on time, that ends where it began?"
Values = NDArray[np.float64]


# --- Limits of the motion of any human heart -------------------------------------------------------------------------


WARN_SHARE, FAIL_SHARE = 0.10, 0.25
"""Fraction of the hearts outside a limit above which it is a warning, or a failure."""


@dataclass(frozen=True)
class MotionLimit:
    """The range of one number of a human heart, and its source."""

    name: str
    quantity: str
    unit: str
    low: float
    high: float
    needs: str
    """What a heart must have (see `measure_motion`) for the limit to apply: whole, around, known or timed."""
    why: str

    @property
    def words(self) -> str:
        """The rule of the judgement."""
        if math.isinf(self.low):
            allowed = f"at most {self.high:g}"
        else:
            allowed = f"{self.low:g}" if self.low == self.high else f"{self.low:g} to {self.high:g}"
        return f"{allowed} in every heart; warn above {WARN_SHARE:.0%} of hearts outside, fail above {FAIL_SHARE:.0%}"

    def applicable(self, measured: Measured) -> NDArray[np.intp]:
        """Positions of the hearts that the limit applies to."""
        return np.flatnonzero(_values(measured, self.needs) > 0)

    def outside(self, values: Values) -> NDArray[np.bool_]:
        """Mask of the hearts outside the limit; a missing value counts as outside."""
        return ~((values >= self.low - 1e-6) & (values <= self.high + 1e-6))


_RANGES = (
    ("ES index, measured against declared", "es_shift", "of the cycle", -math.inf, 0.10, "known"),
    ("end of systole", "systole", "of the cycle", 0.20, 0.55, "known"),
    ("LV larger than at ED", "above_ed", "of EDV", -math.inf, 0.10, "known"),
    ("minima of the LV curve", "minima", "a beat", 1.0, 1.0, "known"),
    ("roughness of the LV curve", "roughness", "", -math.inf, 1.4, "known"),
    ("peak ejection rate", "ejection", "EDV/s", 0.2, 8.0, "timed"),
    ("peak filling rate", "filling", "EDV/s", 0.2, 8.0, "timed"),
    ("cycle closure", "closure", "", -math.inf, 2.0, "whole"),
    ("change between neighbouring frames", "consecutive_change", "of that between any two", -math.inf, 0.80, "whole"),
    ("change outside the heart", "background_temporal_sd", "% of the range", -math.inf, 4.0, "around"),
    ("flicker of brightness", "flicker", "%", -math.inf, 4.0, "around"),
)
_SOURCES = {
    "es_shift": "frame of the smallest LV volume; they agree within 0.05 in 10 real cycles",
    "systole": "ejection takes 413 - 1.7 HR ms (Weissler et al., Circulation 1968), after some 60 ms: at 50 beats a "
    "minute it ends at 0.32 of the cycle, at 100 at 0.5; 0.27 to 0.37 in 10 real cycles",
    "above_ed": "largest volume of the cycle above that at ED; at most 0.07 in 10 real cycles",
    "minima": f"dips deeper than {MIN_DIP:.0%} of the stroke volume: a heart contracts once a beat",
    "roughness": "mean |second difference| over mean |first difference|; at most 0.63 in 10 real cycles, 1.7 in random "
    "order",
    "ejection": "3.4 in normal, 1.2 in failing hearts, up to 6 under isoprenaline (Marshall et al., Circulation 1977)",
    "filling": "2.2 +- 0.6 in normal hearts (Muntinga et al., Int J Card Imaging 1997), less where filling is slow",
    "closure": "change from the last frame to the first over that between other frames; 0.7 to 1.15 in 13 real cycles",
    "consecutive_change": "in the heart; at most 0.57 in 13 real cycles of 12 to 25 frames, 1 in random order",
    "background_temporal_sd": "mean temporal SD of grey values; at most 2.0 in 13 real cycles",
    "flicker": "step of the mean brightness outside the heart against neighbouring frames; at most 1.8 in 13 real "
    "cycles",
}
MOTION_LIMITS = tuple(MotionLimit(*row, why=_SOURCES[row[1]]) for row in _RANGES)


# --- The section -----------------------------------------------------------------------------------------------------


NOT_APPLICABLE = {
    "whole": "no generated heart is a whole cycle",
    "around": "nothing was imaged around any generated heart",
    "known": "the LV is not annotated at every frame of any generated heart",
    "timed": "the time between frames is not known",
}
"""Why a limit applies to no heart."""
NOT_WHOLE = ": the others are not whole cycles, or not annotated at every frame"
RATIOS = (
    ("frame-to-frame change over real", "step", "in the heart, whole cycles"),
    ("change outside the heart over real", "background_temporal_sd", "temporal SD, whole cycles"),
    ("ED-to-ES change in the heart over real", "ed_es_change_inside", "ED and ES of all hearts"),
    ("ED-to-ES change outside the heart over real", "ed_es_change_outside", "ED and ES of all hearts"),
)
"""Compared with real hearts: name, quantity, and over what."""


def section_spec() -> SectionSpec:
    """Motion over time; no network is needed."""
    return SectionSpec(TITLE, [MOTION], _evaluate)


def _evaluate(measurements: Measurements) -> Section:
    sets = measurements.sets
    metrics = [within_limit(limit, sets) for limit in MOTION_LIMITS]
    metrics += [_ratio(*ratio, sets) for ratio in RATIOS]
    metrics.append(_motion_distance(sets))
    outside = _outside(measurements.synthetic)
    tables = [Table("Hearts outside a limit", ("heart", "metric", "value", "limit"), outside)] if outside else []
    lv = STRUCTURES.index(Label.LV)
    train, held_out, generated = ([c for c in _values(s, "curves")[:, lv] if np.isfinite(c).all()] for s in sets)
    real = [*train, *held_out]
    caption = f"LV volume over the cycle, from ED on, of {len(generated)} generated hearts"
    caption += f" and {len(real)} real hearts" if real else "; no real heart has an LV curve of a whole cycle"
    figures = [Figure(caption, cycle_plot(generated, real))] if generated else []
    counts = [
        f"{int((_values(s, 'whole') > 0).sum())} of {len(s)} {s.title}"
        f" ({int((_values(s, 'known') > 0).sum())} with the LV at every frame)"
        for s in sets
    ]
    notes = (
        f"Whole cycles: {', '.join(counts)}.",
        "The column 'real' is of held-out whole cycles, or of train where there are none.",
    )
    return Section(TITLE, QUESTION, metrics, tables, figures, notes)


def _values(measured: Measured, quantity: str) -> Values:
    return np.asarray(measured[f"motion.{quantity}"], dtype=np.float64)


def within_limit(limit: MotionLimit, sets: Sequence[Measured]) -> Metric:
    """The median of the generated hearts, judged by how many are outside the limit; ``sets`` are train, held-out and
    generated hearts with their `MOTION`."""
    *real, synthetic = sets
    hearts = limit.applicable(synthetic)
    values = _values(synthetic, limit.quantity)[hearts]
    finite = known(values)
    if not len(finite):
        for need, why in NOT_APPLICABLE.items():
            if need in ("whole", limit.needs) and not (_values(synthetic, need) > 0).any():
                return Metric.unknown(limit.name, why, unit=limit.unit, detail=limit.why)
        # hearts that lost their LV, or do not move, fail
        why = "nothing moves in any generated heart" if limit.needs == "whole" else "no generated heart has an LV"
        return Metric.unknown(limit.name, why, limit=limit.words, judgement="fail", detail=limit.why)
    outside = limit.outside(values)
    low, high = bootstrap_interval(np.median, finite, resamples=1000) or (None, None)
    beside = [r for s in reversed(real) if len(r := known(_values(s, limit.quantity)[limit.applicable(s)]))]
    floor = float(np.median(beside[0])) if beside else None
    judgement = judge_value(float(outside.mean()), WARN_SHARE, FAIL_SHARE)
    detail = f"median; {outside.sum()} of {len(hearts)} hearts outside; {limit.why}"
    name, value, unit, rule = limit.name, float(np.median(finite)), limit.unit, limit.words
    return Metric(name, value, unit, len(hearts), low, high, floor, rule, judgement, detail=detail)


def _ratio(name: str, quantity: str, over: str, sets: Sequence[Measured]) -> Metric:
    positive = [v[np.isfinite(v) & (v > 0)] for v in (_values(s, quantity) for s in sets)]
    values, counts = np.concatenate(positive), Comparison(*map(len, positive))
    if counts.missing:
        return Metric.unknown(name, counts.missing + NOT_WHOLE, detail=over)

    def ratio(x: Indices, y: Indices) -> float:
        return float(values[x].mean() / values[y].mean())

    return counts.metric(name, ratio, "both", unit="times", detail=f"{over}; {counts.describe()}")


def _motion_distance(sets: Sequence[Measured]) -> Metric:
    """Frechet distance of motion: volume curves and the path of the LV's centre, of whole annotated cycles."""
    curves = [_values(s, "curves") for s in sets]  # N S PHASES
    paths = [_values(s, "path").reshape(len(s), -1) for s in sets]
    # the structures that some heart of every set has at all frames
    shared = [i for i in range(len(STRUCTURES)) if all(np.isfinite(c[:, i]).any() for c in curves)]
    rows = [np.hstack([c[:, shared].reshape(len(c), -1), p]) for c, p in zip(curves, paths, strict=True)]
    complete = [row[np.isfinite(row).all(axis=1)] for row in rows]
    points, counts = np.concatenate(complete), Comparison(*map(len, complete))
    if counts.missing:
        return Metric.unknown("fd-motion", counts.missing + NOT_WHOLE)
    detail = (
        f"volume curves of {', '.join(STRUCTURES[i].name for i in shared)} over those at ED, and the path of the LV's "
        f"centre in cm, at {PHASES} times: {points.shape[1]} features; {counts.describe()}"
    )
    return counts.metric("fd-motion", lambda x, y: frechet(points[x], points[y]), "high", detail=detail)


def _outside(synthetic: Measured, max_rows: int = 20) -> list[tuple[object, ...]]:
    """The first hearts outside a limit."""
    rows: list[tuple[object, ...]] = []
    for limit in MOTION_LIMITS:
        hearts, values = limit.applicable(synthetic), _values(synthetic, limit.quantity)
        if np.isfinite(values[hearts]).any():
            for i in hearts[limit.outside(values[hearts])]:
                value = float(values[i]) if math.isfinite(values[i]) else "no LV"
                rows.append((synthetic.names[i], limit.name, value, limit.words.split(" in every")[0]))
    return rows[:max_rows]
