"""Rules by which generated hearts are compared with real ones.

Two questions are asked of a number that every heart has. *Is it worse?* (one side: the edges under a mask): how often
a generated heart is worse than a real one, by Mann and Whitney's test. *Is it different?* (two sides: the thickness of
a wall): how far the distributions lie apart (Wasserstein), by a permutation test. Both must be significant *and*
large, so that neither a lucky small cohort nor a harmless difference of a large one decides.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from cinesynth.evaluation.section import Judgement, Measure

Numbers = NDArray[np.float32] | NDArray[np.float64]

WARN_P, FAIL_P = 0.05, 0.01
"""Chances of a verdict against real hearts, divided by the number of comparisons a section makes (Bonferroni)."""
WARN_SHARE, FAIL_SHARE = 0.7, 0.9
"""Share of pairs in which the generated heart is the worse one; 0.5 is no difference."""
WARN_SD, FAIL_SD = 0.5, 1.0
"""Wasserstein distance in standard deviations of the real hearts."""
FEWEST = 4
"""Hearts below which nothing is judged."""
RESAMPLES = 999
SUBSAMPLES = 20


def known(values: Numbers) -> NDArray[np.float64]:
    """The hearts that have a number."""
    return np.asarray(values[np.isfinite(values)], dtype=np.float64)


def mean_known(values: Numbers, axis: int) -> NDArray[np.float64]:
    """Mean along an axis of what is known; NaN where nothing is."""
    finite = np.isfinite(values)
    total = np.where(finite, values, 0.0).sum(axis=axis, dtype=np.float64)
    return np.asarray(np.where(finite.any(axis=axis), total / np.maximum(finite.sum(axis=axis), 1), np.nan))


def interval(values: Numbers, seed: int = 0) -> tuple[float, float]:
    """95 % bootstrap interval of the mean."""
    means = _resampled(known(values), seed).mean(axis=1)
    low, high = np.percentile(means, (2.5, 97.5))
    return float(low), float(high)


def _resampled(values: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    picks = np.random.default_rng(seed).integers(0, len(values), (RESAMPLES, len(values)))
    return np.asarray(values[picks])


@dataclass(frozen=True)
class Yardstick:
    """``comparisons`` is how many numbers of a section are judged alike: the more, the stricter each."""

    comparisons: int = 1

    def worse(
        self, name: str, synthetic: Numbers, real: Numbers, held_out: Numbers, *, high_is_bad: bool, unit: str = ""
    ) -> Measure:
        """Mean over generated hearts, judged by how often they are worse than ``real``; floor: mean of ``held_out``."""
        ours, theirs, floor = known(synthetic), known(real), known(held_out)
        if reason := too_few(ours, theirs):
            return Measure.unknown(name, reason, unit=unit)
        statistic, p = stats.mannwhitneyu(ours, theirs, alternative="greater" if high_is_bad else "less")
        share = float(statistic) / (len(ours) * len(theirs))
        share = share if high_is_bad else 1.0 - share
        low, high = interval(ours)
        return Measure(
            name,
            float(ours.mean()),
            unit,
            len(ours),
            low,
            high,
            float(floor.mean()) if len(floor) else None,
            f"worse than a real heart in less than {WARN_SHARE:.0%} of pairs (fail: {FAIL_SHARE:.0%}), or by chance",
            self._verdict(share, WARN_SHARE, FAIL_SHARE, float(p)),
            detail=f"worse in {share:.0%} of pairs with {len(theirs)} real hearts, p = {p:.2g} (Mann-Whitney)",
        )

    def unlike(self, name: str, synthetic: Numbers, train: Numbers, held_out: Numbers, unit: str = "") -> Measure:
        """Wasserstein distance of generated hearts from ``train``; floor: that of ``held_out``, of equal counts."""
        ours, theirs, floor = known(synthetic), known(train), known(held_out)
        if reason := too_few(ours, theirs):
            return Measure.unknown(name, reason, unit=unit)
        distance, p = separation(ours, theirs)
        spread = max(float(theirs.std()), 1e-9)
        count = min(len(ours), len(floor)) if len(floor) else len(ours)
        return Measure(
            name,
            subsampled(ours, theirs, count),
            unit,
            count,
            floor=subsampled(floor, theirs, count) if len(floor) else None,
            limit=f"at most {WARN_SD:g} SD of real hearts (fail: {FAIL_SD:g}), or by chance",
            judgement=self._verdict(distance / spread, WARN_SD, FAIL_SD, p),
            detail=f"means {ours.mean():.3g} and {theirs.mean():.3g} {unit}; {len(ours)} hearts against {len(theirs)}: "
            f"{distance / spread:.2f} SD, p = {p:.2g} (permutation)",
        )

    def _verdict(self, size: float, warn: float, fail: float, p: float) -> Judgement:
        if size >= fail and p < FAIL_P / self.comparisons:
            return "fail"
        return "warn" if size >= warn and p < WARN_P / self.comparisons else "pass"


def too_few(ours: Numbers, theirs: Numbers) -> str:
    """Why there is nothing to compare, empty if there is."""
    if len(ours) < FEWEST:
        return f"only {len(ours)} generated hearts have it, {FEWEST} are needed"
    return f"only {len(theirs)} real hearts have it, {FEWEST} are needed" if len(theirs) < FEWEST else ""


def separation(a: NDArray[np.float64], b: NDArray[np.float64], seed: int = 0) -> tuple[float, float]:
    """Wasserstein distance of two samples, and the chance of one as large if they are of one kind (permutation)."""
    distance = float(stats.wasserstein_distance(a, b))
    pooled, rng = np.concatenate([a, b]), np.random.default_rng(seed)
    shuffled = (rng.permutation(pooled) for _ in range(RESAMPLES))
    larger = sum(stats.wasserstein_distance(s[: len(a)], s[len(a) :]) >= distance - 1e-12 for s in shuffled)
    return distance, (1 + larger) / (1 + RESAMPLES)


def subsampled(values: NDArray[np.float64], reference: NDArray[np.float64], count: int) -> float:
    """Mean Wasserstein distance of ``count`` of the values from the reference, over several draws."""
    if count == len(values):
        return float(stats.wasserstein_distance(values, reference))
    rng = np.random.default_rng(0)
    draws = (rng.choice(values, count, replace=False) for _ in range(SUBSAMPLES))
    return float(np.mean([stats.wasserstein_distance(draw, reference) for draw in draws]))
