"""What a stage is to the trainer."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from torch import Tensor, nn

from cinesynth.config import OptimConfig
from cinesynth.errors import InputError


@dataclass(frozen=True)
class Loss:
    """A value to minimise by stepping the optimiser of one module."""

    module: str
    value: Tensor
    logs: dict[str, float] = field(default_factory=dict)


class Stage(Protocol):
    """A stage owns its modules and says what they should minimise; everything else is the trainer's.

    ``modules["model"]`` is what the stage is about: it is averaged, scored on validation subjects and kept.
    """

    name: str
    modules: dict[str, nn.Module]

    @property
    def settings(self) -> OptimConfig:
        """How the stage is trained."""

    def losses(self, step: int, cases: range) -> Iterator[Loss]:
        """The losses of one step over these cases of the global batch, one optimiser step after each."""

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Scores of ``model`` on validation subjects; ``score`` decides what is kept, lower is better."""

    def preview(self, model: nn.Module, path: Path) -> None:
        """A PNG of what ``model`` does on validation subjects."""


# --- A run in pieces -------------------------------------------------------------------------------------------------


class TimeLimitReached(Exception):
    """Training stopped at ``done`` of ``total`` steps (or cached latents) of ``stage``; nothing is lost."""

    def __init__(self, stage: str, done: int, total: int, seconds_each: float) -> None:
        super().__init__(stage, done, total)
        self.stage, self.done, self.total, self.seconds_each = stage, done, total, seconds_each

    def __str__(self) -> str:
        left = self.total - self.done
        minutes = f"about {left * self.seconds_each / 60:.1f} minutes at this pace"
        return f"{self.stage} stopped at {self.done} of {self.total}: {left} left, {minutes}; the same command goes on"


class Deadline:
    """The time that is left of ``minutes``, counted from its making; without them it never ends."""

    def __init__(self, minutes: float | None = None) -> None:
        if minutes is not None and not minutes > 0:
            raise InputError(f"--minutes {minutes:g} is no time to train in", hint="give a number above 0")
        self.limited = minutes is not None
        self._end = float("inf") if minutes is None else time.monotonic() + 60.0 * minutes

    @property
    def over(self) -> bool:
        """Whether the minutes are over."""
        return time.monotonic() >= self._end
