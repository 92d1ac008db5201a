"""Does a generated heart beat like a heart: one smooth contraction, on time, that ends where it began.

Two kinds of yardsticks. Limits that any human heart keeps judge every whole cycle, also where no real one is at hand.
Where real whole cycles are at hand the same numbers are compared with people's; the change from ED to ES always is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cinesynth.evaluation.comparison import Comparison
from cinesynth.evaluation.distances import Indices, frechet
from cinesynth.evaluation.limits import LIMITS, Limit, verdict
from cinesynth.evaluation.measure import Measured
from cinesynth.evaluation.motion import PHASES, draw_curves, motion
from cinesynth.evaluation.section import Evidence, Listing, Measure, Picture, Question, Section
from cinesynth.types import STRUCTURES

TITLE = "Motion over time"
QUESTION = "Does a generated heart beat like a heart: one smooth contraction, on time, that ends where it began?"
RESAMPLINGS = 1000
LISTED = 20
Values = NDArray[np.float64]

NOBODY = {
    "whole": "no generated heart is a whole cycle",
    "around": "nothing was imaged around any generated heart",
    "known": "the LV is not annotated at every frame of any generated heart",
    "timed": "the time between frames is not known",
}
"""Why a limit has nobody to speak of."""
RATIOS = (
    ("frame-to-frame change beside people", "step", "in the heart, whole cycles"),
    ("change outside the heart beside people", "boiling", "temporal SD, whole cycles"),
    ("ED-to-ES change in the heart beside people", "pair_inside", "ED and ES of everyone"),
    ("ED-to-ES change outside the heart beside people", "pair_outside", "ED and ES of everyone"),
)
"""Compared with real people: name, quantity, and over what."""


def question() -> Question:
    """Motion over time; needs nothing but the hearts."""
    return Question(TITLE, [motion()], _answer)


def _answer(evidence: Evidence) -> Section:
    sets = (evidence.train, evidence.held_out, evidence.synthetic)
    measures = [kept(limit, sets) for limit in LIMITS]
    measures += [_ratio(*ratio, sets) for ratio in RATIOS]
    measures.append(_motion_distance(sets))
    outside = _outside(evidence.synthetic)
    listings = [Listing("Hearts outside a limit", ("heart", "measure", "value", "limit"), outside)] if outside else []
    return Section(TITLE, QUESTION, measures, listings, _pictures(sets), _notes(sets))


def _values(measured: Measured, quantity: str) -> Values:
    return np.asarray(measured[f"motion.{quantity}"], dtype=np.float64)


def _judged(limit: Limit, measured: Measured) -> NDArray[np.intp]:
    """Hearts that the limit speaks of."""
    return np.flatnonzero(_values(measured, limit.needs) > 0)


def kept(limit: Limit, sets: Sequence[Measured]) -> Measure:
    """The median of the generated hearts, judged by how many are outside the limit; ``sets`` are train, held-out and
    generated hearts with their `motion`."""
    train, held_out, synthetic = sets
    hearts = _judged(limit, synthetic)
    values = _values(synthetic, limit.quantity)[hearts]
    known = values[np.isfinite(values)]
    if not len(known):
        return _none(limit, synthetic)
    broken = limit.broken(values)
    low, high = _interval(known)
    real = next((r for r in (_known_of(limit, s) for s in (held_out, train)) if len(r)), None)
    return Measure(
        limit.name,
        float(np.median(known)),
        limit.unit,
        len(hearts),
        low,
        high,
        None if real is None else float(np.median(real)),
        limit.words,
        verdict(float(broken.mean())),
        detail=f"median; {broken.sum()} of {len(hearts)} hearts outside; {limit.why}",
    )


def _known_of(limit: Limit, measured: Measured) -> Values:
    values = _values(measured, limit.quantity)[_judged(limit, measured)]
    return values[np.isfinite(values)]


def _none(limit: Limit, synthetic: Measured) -> Measure:
    """Why no heart has the number; hearts that lost their LV, or do not move, fail."""
    for need, why in NOBODY.items():
        if need in ("whole", limit.needs) and not (_values(synthetic, need) > 0).any():
            return Measure.unknown(limit.name, why, unit=limit.unit, detail=limit.why)
    lost = "nothing moves in any generated heart" if limit.needs == "whole" else "no generated heart has an LV"
    return Measure.unknown(limit.name, lost, limit=limit.words, judgement="fail", detail=limit.why)


def _interval(values: Values) -> tuple[float, float]:
    """Bootstrap interval of 95 % of the median."""
    drawn = np.random.default_rng(0).choice(values, (RESAMPLINGS, len(values)))
    low, high = np.percentile(np.median(drawn, axis=1), (2.5, 97.5))
    return float(low), float(high)


def _ratio(name: str, quantity: str, over: str, sets: Sequence[Measured]) -> Measure:
    """Mean of the generated hearts over the mean of people."""
    known = [v[np.isfinite(v) & (v > 0)] for v in (_values(s, quantity) for s in sets)]
    values, counts = np.concatenate(known), Comparison(*map(len, known))
    if counts.missing:
        return Measure.unknown(name, _why_not_compared(counts), detail=over)

    def ratio(x: Indices, y: Indices) -> float:
        return float(values[x].mean() / values[y].mean())

    return counts.measure(name, ratio, "both", unit="times", detail=f"{over}; {counts.describe()}")


def _why_not_compared(counts: Comparison) -> str:
    return f"{counts.missing}: the others are no whole cycles, or are not annotated at every frame"


def _motion_distance(sets: Sequence[Measured]) -> Measure:
    """Frechet distance of motion: volume curves and the path of the LV's centre, of whole annotated cycles."""
    features, structures = _features(sets)
    known = [f[np.isfinite(f).all(axis=1)] for f in features]
    points, counts = np.concatenate(known), Comparison(*map(len, known))
    if counts.missing:
        return Measure.unknown("fd-motion", _why_not_compared(counts))
    detail = (
        f"volume curves of {', '.join(structures)} as shares of those at ED, and the path of the LV's centre in cm, "
        f"at {PHASES} times: {points.shape[1]} features"
    )
    return counts.measure(
        "fd-motion", lambda x, y: frechet(points[x], points[y]), "high", detail=f"{detail}; {counts.describe()}"
    )


def _features(sets: Sequence[Measured]) -> tuple[list[Values], list[str]]:
    """Motion of each heart as one row, with the structures that some heart of every set has throughout."""
    curves = [_values(s, "curves") for s in sets]  # N S PHASES
    shared = [i for i in range(len(STRUCTURES)) if all(np.isfinite(c[:, i]).any() for c in curves)]
    paths = [_values(s, "path").reshape(len(s), -1) for s in sets]
    rows = [np.hstack([c[:, shared].reshape(len(c), -1), p]) for c, p in zip(curves, paths, strict=True)]
    return rows, [STRUCTURES[i].name for i in shared]


def _outside(synthetic: Measured) -> list[tuple[object, ...]]:
    """The first hearts that do not keep a limit."""
    rows: list[tuple[object, ...]] = []
    for limit in LIMITS:
        hearts, values = _judged(limit, synthetic), _values(synthetic, limit.quantity)
        if np.isfinite(values[hearts]).any():
            for i in hearts[limit.broken(values[hearts])]:
                value = float(values[i]) if math.isfinite(values[i]) else "no LV"
                rows.append((synthetic.names[i], limit.name, value, limit.words.split(" in every")[0]))
    return rows[:LISTED]


def _pictures(sets: Sequence[Measured]) -> list[Picture]:
    train, held_out, synthetic = ([c for c in _values(s, "curves")[:, -1] if np.isfinite(c).all()] for s in sets)
    if not synthetic:
        return []
    caption = f"LV volume over the cycle, from ED on, of {len(synthetic)} generated hearts"
    people = [*train, *held_out]
    caption += f" and {len(people)} people" if people else "; no real heart has an LV curve of a whole cycle"
    return [Picture(caption, draw_curves(synthetic, people))]


def _notes(sets: Sequence[Measured]) -> list[str]:
    counts = [
        f"{int((_values(s, 'whole') > 0).sum())} of {len(s)} {s.title}"
        f" ({int((_values(s, 'known') > 0).sum())} with the LV at every frame)"
        for s in sets
    ]
    return [
        f"Whole cycles: {', '.join(counts)}.",
        "The value beside people is that of held-out whole cycles, or of train where there are none.",
    ]
