"""Generated hearts against real people, judged by how real people differ from other real people.

The people of `train` and `held_out` are divided at random again and again into a small and a large group. How far such
groups lie apart by any statistic is what "as good as real" means at these counts; a generated group that lies farther
than (nearly) all of them is told apart from people.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cinesynth.evaluation.distances import Indices
from cinesynth.evaluation.section import Judgement, Measure

Statistic = Callable[[Indices, Indices], float]
"""Of a group and its reference, places in arrays that hold train, held-out and synthetic hearts in this order."""
Tail = Literal["high", "low", "both"]

DIVISIONS = 999
SUBSAMPLES = 20
"""Subsamples that are averaged where there are more hearts than are compared."""
FAIL_P, WARN_P = 0.002, 0.01
"""Of 999 divisions, 0.002 is: farther than all but one."""
FEWEST = 4
"""Hearts on a side without which nothing is compared."""


@dataclass(frozen=True)
class Comparison:
    """Equal counts: as many generated as held-out hearts, the smaller set decides, against all of `train`."""

    train: int
    held_out: int
    synthetic: int
    seed: int = 0

    @property
    def count(self) -> int:
        """Hearts of the group that is compared with `train`."""
        return min(self.held_out, self.synthetic)

    @property
    def missing(self) -> str:
        """Why there is nothing to compare, if so."""
        found = {"train": self.train, "held-out": self.held_out, "generated": self.synthetic}
        short = [f"{number} {name}" for name, number in found.items() if number < FEWEST]
        return f"only {' and '.join(short)} hearts have it; {FEWEST} are needed" if short else ""

    @property
    def people(self) -> int:
        """All real hearts."""
        return self.train + self.held_out

    @cached_property
    def divisions(self) -> list[tuple[Indices, Indices]]:
        """Random divisions of all people into `count` and as many as `train` has."""
        rng = np.random.default_rng(self.seed)
        orders = (rng.permutation(self.people) for _ in range(DIVISIONS))
        return [(order[: self.count], order[self.count : self.count + self.train]) for order in orders]

    def groups(self, of: Literal["held_out", "synthetic"]) -> list[Indices]:
        """Subsamples of `count` hearts; the one set itself where it has no more."""
        first, size = (self.train, self.held_out) if of == "held_out" else (self.people, self.synthetic)
        rng = np.random.default_rng(self.seed + 1)
        chosen = [rng.permutation(size)[: self.count] for _ in range(SUBSAMPLES if size > self.count else 1)]
        return [first + np.sort(places) for places in chosen]

    def against_train(self, statistic: Statistic, of: Literal["held_out", "synthetic"]) -> float:
        """Mean of ``statistic`` over the subsamples of a set."""
        reference = np.arange(self.train)
        return float(np.mean([statistic(group, reference) for group in self.groups(of)]))

    def measure(self, name: str, statistic: Statistic, tail: Tail, **rest: Any) -> Measure:
        """``statistic`` of the generated hearts beside that of held-out people, judged by `DIVISIONS` of people."""
        if self.missing:
            return Measure.unknown(name, self.missing, detail=rest.get("detail", ""))
        real = np.array([statistic(x, y) for x, y in self.divisions])
        value = self.against_train(statistic, "synthetic")
        return Measure(
            name,
            value,
            count=self.count,
            floor=self.against_train(statistic, "held_out"),
            limit=_limit(real, tail),
            judgement=judge(p_value(value, real, tail)),
            **rest,
        )

    def describe(self) -> str:
        """The counts in words."""
        drawn = f"; mean of {SUBSAMPLES} subsamples where there are more" if self.synthetic != self.held_out else ""
        small = f"{self.count} of {self.synthetic} generated and {self.count} of {self.held_out} held-out"
        return f"{small} against {self.train} train{drawn}"


def p_value(value: float, real: NDArray[np.float64], tail: Tail) -> float:
    """Share of divisions at least as extreme as ``value``, itself counted; the smaller tail twice for ``both``."""
    slack = 1e-9 * max(1.0, abs(value))
    above, below = (
        (1 + (real >= value - slack).sum()) / (1 + len(real)),
        (1 + (real <= value + slack).sum()) / (1 + len(real)),
    )
    return float({"high": above, "low": below, "both": min(1.0, 2 * min(above, below))}[tail])


def judge(p: float) -> Judgement:
    """The verdict of a p-value."""
    return "fail" if p <= FAIL_P else "warn" if p <= WARN_P else "pass"


def _limit(real: NDArray[np.float64], tail: Tail) -> str:
    ends: Sequence[float] = {"high": (99.0,), "low": (1.0,), "both": (0.5, 99.5)}[tail]
    edges = " to ".join(f"{edge:.3g}" for edge in np.percentile(real, ends))
    words = {"high": "at most", "low": "at least", "both": "within"}[tail]
    return f"{words} {edges}: 99 % of {len(real)} random divisions of real people"
