"""Generated hearts against real ones: three tests, each giving a `Metric` with a judgement.

* `one_sided_test`: is a number *worse* than in real hearts (the edges under a mask)? How often a generated heart is
  worse than a real one, by Mann and Whitney's test.
* `two_sided_test`: is a number *different* (the thickness of a wall)? How far the distributions lie apart
  (Wasserstein), by a permutation test.
* `Comparison`: is any statistic of a whole set larger than between real subjects? Real subjects are divided at random,
  again and again, into a small and a large group. How far such groups lie apart is what "as good as real" means at
  these counts.

The first two need both a significant and a large difference: neither a lucky small cohort nor a harmless difference of
a large one decides.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from cinesynth.evaluation.section import Judgement, Metric
from cinesynth.evaluation.statistics import (
    Indices,
    Numbers,
    Tail,
    known,
    mean_interval,
    mean_known,
    p_value,
    permutations,
)

Statistic = Callable[[Indices, Indices], float]
"""A function of a group and its reference. Both are indices into arrays of train, held-out and synthetic hearts, in
this order."""
SetName = Literal["held_out", "synthetic"]


@dataclass(frozen=True)
class Thresholds:
    """When a difference is a warning and when a failure."""

    warn_p: float = 0.05
    """Largest p-value, divided by the number of comparisons a section makes (Bonferroni)."""
    fail_p: float = 0.01
    warn_share: float = 0.7
    """Share of pairs in which the generated heart is the worse one; 0.5 is no difference."""
    fail_share: float = 0.9
    warn_sd: float = 0.5
    """Wasserstein distance in standard deviations of the real hearts."""
    fail_sd: float = 1.0
    warn_p_set: float = 0.01
    """Largest p-value of a `Comparison`."""
    fail_p_set: float = 0.002
    """At most two of 1,000: farther apart than all of 999 random divisions but one."""
    min_hearts: int = 4
    """Fewest hearts in each set; with fewer nothing is compared."""
    subsamples: int = 20
    """Subsamples that are averaged where a set has more hearts than are compared."""


THRESHOLDS = Thresholds()


def judge_value(value: float, pass_at: float, warn_at: float) -> Judgement:
    """The judgement of a number that should be small."""
    return "pass" if value <= pass_at else "warn" if value <= warn_at else "fail"


# --- Numbers of single hearts ----------------------------------------------------------------------------------------


def mean_of_frames(name: str, values: Numbers, missing: str, *, unit: str = "", detail: str = "") -> Metric:
    """Mean over the frames of ``values`` (``N 2``, ED and ES), with its interval over subjects; not judged.

    ``missing`` says why no frame has a value; ``detail`` may contain ``{median}``.
    """
    frames = known(values)
    if not len(frames):
        return Metric.unknown(name, missing, unit=unit)
    low, high = mean_interval(mean_known(values, axis=1))
    detail = detail.format(median=np.median(frames))
    return Metric(name, float(frames.mean()), unit, len(frames), low, high, detail=detail)


def one_sided_test(
    name: str,
    synthetic: Numbers,
    real: Numbers,
    held_out: Numbers,
    *,
    high_is_bad: bool,
    unit: str = "",
    comparisons: int = 1,
) -> Metric:
    """Mean over generated hearts, judged by how often they are worse than ``real``; floor: mean of ``held_out``.

    ``comparisons`` is how many numbers of a section are judged alike: the more, the stricter each.
    """
    ours, theirs, floor = known(synthetic), known(real), known(held_out)
    if reason := too_few(ours, theirs):
        return Metric.unknown(name, reason, unit=unit)
    statistic, p = stats.mannwhitneyu(ours, theirs, alternative="greater" if high_is_bad else "less")
    share = float(statistic) / (len(ours) * len(theirs))
    share = share if high_is_bad else 1.0 - share
    low, high = mean_interval(ours)
    best = float(floor.mean()) if len(floor) else None
    warn, fail = THRESHOLDS.warn_share, THRESHOLDS.fail_share
    limit = f"worse than a real heart in less than {warn:.0%} of pairs (fail: {fail:.0%}), or not significant"
    judgement = _judge(share, warn, fail, float(p), comparisons)
    detail = f"worse in {share:.0%} of pairs with {len(theirs)} real hearts, p = {p:.2g} (Mann-Whitney)"
    return Metric(name, float(ours.mean()), unit, len(ours), low, high, best, limit, judgement, detail=detail)


def two_sided_test(
    name: str, synthetic: Numbers, train: Numbers, held_out: Numbers, *, unit: str = "", comparisons: int = 1
) -> Metric:
    """Wasserstein distance of generated hearts from ``train``; floor: that of ``held_out``, of equal counts."""
    ours, theirs, floor = known(synthetic), known(train), known(held_out)
    if reason := too_few(ours, theirs):
        return Metric.unknown(name, reason, unit=unit)
    distance, p = separation(ours, theirs)
    sd = max(float(theirs.std()), 1e-9)
    count = min(len(ours), len(floor)) if len(floor) else len(ours)
    warn, fail = THRESHOLDS.warn_sd, THRESHOLDS.fail_sd
    value = _subsampled_distance(ours, theirs, count)
    best = _subsampled_distance(floor, theirs, count) if len(floor) else None
    limit = f"at most {warn:g} SD of real hearts (fail: {fail:g}), or not significant"
    judgement = _judge(distance / sd, warn, fail, p, comparisons)
    detail = f"means {ours.mean():.3g} and {theirs.mean():.3g} {unit}; {len(ours)} hearts against {len(theirs)}: "
    detail += f"{distance / sd:.2f} SD, p = {p:.2g} (permutation)"
    return Metric(name, value, unit, count, floor=best, limit=limit, judgement=judgement, detail=detail)


def _judge(size: float, warn: float, fail: float, p: float, comparisons: int) -> Judgement:
    if size >= fail and p < THRESHOLDS.fail_p / comparisons:
        return "fail"
    return "warn" if size >= warn and p < THRESHOLDS.warn_p / comparisons else "pass"


def separation(a: NDArray[np.float64], b: NDArray[np.float64]) -> tuple[float, float]:
    """Wasserstein distance of two samples, and the chance of one as large if both are of one distribution."""
    distance, pooled = float(stats.wasserstein_distance(a, b)), np.concatenate([a, b])
    shuffled = (pooled[order] for order in permutations(len(pooled)))
    null = np.array([stats.wasserstein_distance(s[: len(a)], s[len(a) :]) for s in shuffled])
    return distance, p_value(distance, null, "high")


def too_few(ours: Numbers, theirs: Numbers) -> str:
    """Why there is nothing to compare, empty if there is."""
    for numbers, kind in ((ours, "generated"), (theirs, "real")):
        if len(numbers) < THRESHOLDS.min_hearts:
            return f"only {len(numbers)} {kind} hearts have it, {THRESHOLDS.min_hearts} are needed"
    return ""


def _subsampled_distance(values: NDArray[np.float64], reference: NDArray[np.float64], count: int) -> float:
    if count == len(values):
        return float(stats.wasserstein_distance(values, reference))
    rng = np.random.default_rng(0)
    chosen = (rng.choice(values, count, replace=False) for _ in range(THRESHOLDS.subsamples))
    return float(np.mean([stats.wasserstein_distance(part, reference) for part in chosen]))


# --- Statistics of whole sets ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Comparison:
    """Compares n generated and n held-out hearts with all of `train`; n is the size of the smaller set."""

    train: int
    held_out: int
    synthetic: int

    @property
    def count(self) -> int:
        """Hearts of the group that is compared with `train`."""
        return min(self.held_out, self.synthetic)

    @property
    def real(self) -> int:
        """Real hearts of both splits."""
        return self.train + self.held_out

    @property
    def missing(self) -> str:
        """Why there is nothing to compare, empty if there is."""
        counts = {"train": self.train, "held-out": self.held_out, "generated": self.synthetic}
        short = [f"{number} {name}" for name, number in counts.items() if number < THRESHOLDS.min_hearts]
        return f"only {' and '.join(short)} hearts have it; {THRESHOLDS.min_hearts} are needed" if short else ""

    @cached_property
    def divisions(self) -> list[tuple[Indices, Indices]]:
        """Random divisions of all real hearts into `count` and as many as `train` has."""
        orders = permutations(self.real)
        return [(order[: self.count], order[self.count : self.count + self.train]) for order in orders]

    def groups(self, of: SetName) -> list[Indices]:
        """Subsamples of `count` hearts of a set; if it has exactly `count`, the set itself."""
        first, size = (self.train, self.held_out) if of == "held_out" else (self.real, self.synthetic)
        rng = np.random.default_rng(1)  # other numbers than those of `divisions`
        number = THRESHOLDS.subsamples if size > self.count else 1
        return [first + np.sort(rng.permutation(size)[: self.count]) for _ in range(number)]

    def against_train(self, statistic: Statistic, of: SetName) -> float:
        """Mean of ``statistic`` over the subsamples of a set."""
        reference = np.arange(self.train)
        return float(np.mean([statistic(group, reference) for group in self.groups(of)]))

    def metric(self, name: str, statistic: Statistic, tail: Tail, **rest: Any) -> Metric:
        """``statistic`` of the generated hearts, judged by the `divisions`; floor: that of held-out hearts."""
        if self.missing:
            return Metric.unknown(name, self.missing, detail=rest.get("detail", ""))
        null = np.array([statistic(x, y) for x, y in self.divisions])
        value = self.against_train(statistic, "synthetic")
        p = p_value(value, null, tail)
        ends: Sequence[float] = {"high": (99.0,), "low": (1.0,), "both": (0.5, 99.5)}[tail]
        edges = " to ".join(f"{edge:.3g}" for edge in np.percentile(null, ends))
        words = {"high": "at most", "low": "at least", "both": "within"}[tail]
        limit = f"{words} {edges}: 99 % of {len(null)} random divisions of real subjects"
        judged: Judgement = "warn" if p <= THRESHOLDS.warn_p_set else "pass"
        judgement = "fail" if p <= THRESHOLDS.fail_p_set else judged
        floor = self.against_train(statistic, "held_out")
        return Metric(name, value, count=self.count, floor=floor, limit=limit, judgement=judgement, **rest)

    def describe(self) -> str:
        """The counts in words."""
        averaged = f"; mean of {THRESHOLDS.subsamples} subsamples" if self.synthetic != self.held_out else ""
        small = f"{self.count} of {self.synthetic} generated and {self.count} of {self.held_out} held-out"
        return f"{small} against {self.train} train{averaged}"
