"""A run in pieces: it stops when its minutes are over, where the same command goes on."""

from __future__ import annotations

import time

from cinesynth.errors import InputError


class OutOfTime(Exception):
    """Training stopped at ``done`` of ``total`` steps (or cached latents) of ``stage``; nothing is lost."""

    def __init__(self, stage: str, done: int, total: int, seconds_each: float) -> None:
        super().__init__(stage, done, total)
        self.stage, self.done, self.total, self.seconds_each = stage, done, total, seconds_each

    def __str__(self) -> str:
        left = self.total - self.done
        minutes = f"about {left * self.seconds_each / 60:.1f} minutes at this pace"
        return f"{self.stage} stopped at {self.done} of {self.total}: {left} left, {minutes}; the same command goes on"


class Clock:
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
