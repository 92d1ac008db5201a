"""What an evaluation consists of: sections of metrics, each a number with its count, its reference and a judgement."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:  # a report is read without the libraries that measure
    from cinesynth.evaluation.cases import CaseSet
    from cinesynth.evaluation.measure import Measured, Measurer

Judgement = Literal["pass", "warn", "fail"]


def worst(judgements: Iterable[Judgement | None]) -> Judgement | None:
    """The worst of several judgements, None where nothing was judged."""
    found = [judgement for judgement in judgements if judgement]
    return max(found, key=("pass", "warn", "fail").index) if found else None


@dataclass(frozen=True)
class Metric:
    """One number of a report. Where it cannot be known ``value`` is None and ``missing`` says why; it is never NaN.

    ``low`` and ``high`` are a bootstrap interval of 95 %; ``floor`` is what real hearts give against other real
    hearts, the best that can be expected; ``judgement`` is None where there is nothing to judge by.
    """

    name: str
    value: float | None
    unit: str = ""
    count: int = 0
    """Hearts (or pairs, or frames: the name says it) behind the number."""
    low: float | None = None
    high: float | None = None
    floor: float | None = None
    limit: str = ""
    """The rule of the judgement, in words: ``at most 1.5 x floor``."""
    judgement: Judgement | None = None
    missing: str = ""
    detail: str = ""
    """Extractor, dimension, kernel: whatever makes the number comparable."""

    def __post_init__(self) -> None:
        for name in ("value", "low", "high", "floor"):
            number = getattr(self, name)
            if number is not None and not math.isfinite(number):
                raise ValueError(f"{self.name}: {name} is {number}; pass None and the reason as `missing`")
        if (self.value is None) == (not self.missing):
            raise ValueError(f"{self.name}: a metric has either a value or a reason why it has none")

    @classmethod
    def unknown(cls, name: str, why: str, **rest: Any) -> Metric:
        """A metric without a value, and why."""
        return cls(name, None, missing=why, **rest)


@dataclass(frozen=True)
class Figure:
    """A plot as PNG, with what it shows."""

    caption: str
    png: bytes


@dataclass(frozen=True)
class Table:
    """Columns, and rows of text and numbers."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[object]]


@dataclass(frozen=True)
class Section:
    """One question of the report and its answer."""

    title: str
    question: str
    metrics: Sequence[Metric]
    tables: Sequence[Table] = ()
    figures: Sequence[Figure] = ()
    notes: Sequence[str] = ()

    @property
    def judgement(self) -> Judgement | None:
        """The worst of its metrics."""
        return worst(m.judgement for m in self.metrics)

    def to_json(self) -> dict[str, Any]:
        """Everything but the figures."""
        return {
            "title": self.title,
            "question": self.question,
            "judgement": self.judgement,
            "metrics": [asdict(m) for m in self.metrics],
            "tables": [asdict(t) for t in self.tables],
            "notes": list(self.notes),
        }


# --- What the evaluation asks of a section ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Measurements:
    """What was measured of three sets of hearts. No subject is in both ``train`` and ``held_out``."""

    synthetic: Measured
    train: Measured
    held_out: Measured
    synthetic_cases: CaseSet
    train_cases: CaseSet
    held_out_cases: CaseSet
    """The voxels, for figures of a few hearts."""

    @property
    def sets(self) -> tuple[Measured, Measured, Measured]:
        """Train, held-out and generated hearts: the order of `Comparison`."""
        return self.train, self.held_out, self.synthetic


@dataclass(frozen=True)
class SectionSpec:
    """A section to be made: what it measures of every heart, and how it compares the three sets."""

    title: str
    measurers: Sequence[Measurer]
    evaluate: Callable[[Measurements], Section]
