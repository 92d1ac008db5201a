"""The codec's figures over frames: of everybody, and of each dataset's and each vendor's people by themselves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from cinesynth.evaluation.codec import QUANTITIES, FrameScore
from cinesynth.types import STRUCTURES

UNKNOWN = "unknown"
"""The vendor of people of whom no vendor is known."""


@dataclass(frozen=True)
class Figure:
    """One quantity over ``count`` frames; None where nobody has it."""

    name: str
    unit: str
    count: int
    mean: float | None = None
    median: float | None = None
    sd: float | None = None


@dataclass(frozen=True)
class Group:
    """Some people at ED and ES."""

    people: int
    frames: int
    figures: tuple[Figure, ...]

    def to_json(self) -> dict[str, Any]:
        """Figures by their name."""
        figures = {figure.name: asdict(figure) for figure in self.figures}
        return {"people": self.people, "frames": self.frames, "figures": figures}


@dataclass(frozen=True)
class CodecScores:
    """Everybody, and each group; the frames of the datasets add up to all, and so do those of the vendors."""

    all: Group
    datasets: dict[str, Group]
    vendors: dict[str, Group]

    @classmethod
    def of(cls, frames: Sequence[FrameScore]) -> CodecScores:
        """Figures of these frames."""
        return cls(
            group(frames), _by(frames, lambda f: f.dataset or UNKNOWN), _by(frames, lambda f: f.vendor or UNKNOWN)
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        groups = {name: {key: g.to_json() for key, g in vars(self)[name].items()} for name in ("datasets", "vendors")}
        return {"all": self.all.to_json(), **groups}


def group(frames: Sequence[FrameScore]) -> Group:
    """The figures of some frames."""
    figures = tuple(_figure(name, unit, _values(frames, key, place)) for name, unit, key, place in QUANTITIES)
    return Group(len({(f.dataset, f.subject) for f in frames}), len(frames), figures)


def _by(frames: Sequence[FrameScore], key: Callable[[FrameScore], str]) -> dict[str, Group]:
    names = sorted({key(f) for f in frames})
    return {name: group([f for f in frames if key(f) == name]) for name in names}


def _values(frames: Sequence[FrameScore], key: str, structure: int | None) -> list[float]:
    """A quantity of the frames that have it; errors without their sign."""
    if key == "lv_error_percent":
        return [abs(f.lv_error_percent) for f in frames if f.lv_ml > 0]
    if structure is None:
        return [getattr(f, key) for f in frames]
    name = STRUCTURES[structure].name
    return [found[name] for f in frames if name in (found := getattr(f, key))]


def _figure(name: str, unit: str, values: list[float]) -> Figure:
    if not values:
        return Figure(name, unit, 0)
    array = np.array(values)
    return Figure(name, unit, len(array), float(array.mean()), float(np.median(array)), float(array.std()))
