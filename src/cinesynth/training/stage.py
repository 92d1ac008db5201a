"""What a stage is to the trainer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from torch import Tensor, nn

from cinesynth.config import OptimConfig


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
