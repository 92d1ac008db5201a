"""One way to report progress, for the command line, training and the app."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class ProgressCallback(Protocol):
    """Called whenever a step of a long task has ended.

    ``task`` names what is being done ("ingest", "vae", "generate"), ``done`` of ``total`` steps have ended, and
    ``metrics`` holds figures of the last step, by name; it may be empty. A callback that raises stops the task.
    """

    def __call__(self, task: str, done: int, total: int, metrics: Mapping[str, float], /) -> None:
        """Report that a step has ended."""


def no_progress(task: str, done: int, total: int, metrics: Mapping[str, float], /) -> None:
    """Ignore progress."""
