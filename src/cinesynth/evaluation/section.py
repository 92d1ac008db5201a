"""What an evaluation says: sections of measures, each a number with its count, its yardstick and a verdict."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from cinesynth.evaluation.cases import CaseSet
from cinesynth.evaluation.measure import Measured, Measurer

Judgement = Literal["pass", "warn", "fail"]


@dataclass(frozen=True)
class Measure:
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
    """The rule of the verdict, in words: ``at most 1.5 x floor``."""
    judgement: Judgement | None = None
    missing: str = ""
    detail: str = ""
    """Extractor, dimension, kernel: whatever makes the number comparable."""

    def __post_init__(self) -> None:
        for name in ("value", "low", "high", "floor"):
            number = getattr(self, name)
            if number is not None and not math.isfinite(number):
                raise ValueError(f"{self.name}: {name} is {number}; say what is missing instead")
        if (self.value is None) == (not self.missing):
            raise ValueError(f"{self.name}: a measure has a value, or a reason why it has none")

    @classmethod
    def unknown(cls, name: str, why: str, **rest: Any) -> Measure:
        """A measure that cannot be made, and why."""
        return cls(name, None, missing=why, **rest)


@dataclass(frozen=True)
class Picture:
    """A figure as PNG, with what it shows."""

    caption: str
    png: bytes


@dataclass(frozen=True)
class Listing:
    """A table for people: columns and rows of text and numbers."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[object]]


@dataclass(frozen=True)
class Section:
    """One question of the report, answered."""

    title: str
    question: str
    measures: Sequence[Measure]
    listings: Sequence[Listing] = ()
    pictures: Sequence[Picture] = ()
    notes: Sequence[str] = field(default_factory=tuple)

    @property
    def judgement(self) -> Judgement | None:
        """The worst of its measures."""
        found = [m.judgement for m in self.measures if m.judgement]
        return max(found, key=("pass", "warn", "fail").index) if found else None

    def to_json(self) -> dict[str, Any]:
        """Everything but the pictures."""
        return {
            "title": self.title,
            "question": self.question,
            "judgement": self.judgement,
            "measures": [asdict(m) for m in self.measures],
            "listings": [
                {"caption": x.caption, "columns": list(x.columns), "rows": [list(r) for r in x.rows]}
                for x in self.listings
            ],
            "notes": list(self.notes),
        }


# --- A question of the evaluation ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Evidence:
    """Hearts and their numbers. Patients of ``train`` and of ``held_out`` are other people."""

    synthetic: Measured
    train: Measured
    held_out: Measured
    synthetic_cases: CaseSet
    train_cases: CaseSet
    held_out_cases: CaseSet
    """The voxels, for pictures of a few hearts."""


@dataclass(frozen=True)
class Question:
    """Asked by one module of the evaluation, answered as one section of the report."""

    title: str
    measurers: Sequence[Measurer]
    answer: Callable[[Evidence], Section]
