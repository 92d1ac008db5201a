"""What the trainer expects of a stage, and the time limit that all stages share."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar

from torch import nn

from cinesynth.config.training import OptimConfig
from cinesynth.errors import InputError
from cinesynth.types import Scalar

Item = TypeVar("Item")


@dataclass(frozen=True)
class Loss:
    """A value to minimise by a step of the optimiser of one module."""

    module: str
    value: Scalar
    logs: dict[str, float] = field(default_factory=dict)


class Stage(Protocol):
    """A stage owns its modules and computes their losses; the trainer does everything else.

    ``modules["model"]`` is the result of the stage: it is averaged, scored on validation subjects and saved.
    """

    name: str
    modules: dict[str, nn.Module]

    @property
    def settings(self) -> OptimConfig:
        """How the stage is trained."""

    def losses(self, step: int, cases: range) -> Iterator[Loss]:
        """The losses of one step over these cases of the global batch; an optimiser step follows each."""

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Scores of ``model`` on validation subjects; the weights with the lowest ``score`` are kept."""

    def preview(self, model: nn.Module, path: Path) -> None:
        """Write a PNG of what ``model`` does on validation subjects."""


def evenly_spaced(items: Sequence[Item], count: int) -> Sequence[Item]:
    """At most ``count`` of the items, evenly spaced: a validation set of limited size."""
    return items[:: max(1, len(items) // count)][:count]


# --- Time limits -----------------------------------------------------------------------------------------------------


class TimeLimitReached(Exception):
    """Training stopped after ``done`` of ``total`` steps (or cached latents) of ``stage``; nothing is lost."""

    def __init__(self, stage: str, done: int, total: int, seconds_each: float) -> None:
        super().__init__(stage, done, total)
        self.stage, self.done, self.total, self.seconds_each = stage, done, total, seconds_each

    def __str__(self) -> str:
        left = self.total - self.done
        minutes = f"about {left * self.seconds_each / 60:.1f} minutes at this pace"
        return f"{self.stage} stopped at {self.done} of {self.total}: {left} left, {minutes}; the same command goes on"


class Deadline:
    """A limit of ``minutes`` from now on; None for no limit."""

    def __init__(self, minutes: float | None = None) -> None:
        if minutes is not None and not minutes > 0:
            raise InputError(f"--minutes must be positive, got {minutes:g}", hint="give a number above 0")
        self.limited = minutes is not None
        self._end = float("inf") if minutes is None else time.monotonic() + 60.0 * minutes

    @property
    def over(self) -> bool:
        """Whether the time is over."""
        return time.monotonic() >= self._end
