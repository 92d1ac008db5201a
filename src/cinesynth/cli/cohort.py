"""Cohorts of ``cinesynth generate``: what their file asks for, the share of this process, and how far it is."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cinesynth.cli import console
from cinesynth.errors import InputError

if TYPE_CHECKING:
    from cinesynth.synthesis.cohort import Share
    from cinesynth.synthesis.pipeline import CinePipeline
    from cinesynth.synthesis.request import Request

QUIET_S = 30.0
"""Between two lines of a log, where nobody watches a terminal."""


def requests_of_file(path: Path) -> Callable[[CinePipeline, int, int | None, dict[str, Any]], list[Request]]:
    """Read a cohort's file; what is returned makes its requests with weights, a seed, a count and further settings."""
    from cinesynth.synthesis.cohort_file import read_cohort
    from cinesynth.synthesis.groups import requests_of

    groups = read_cohort(path)
    return lambda pipe, seed, count, settings: requests_of(groups, pipe, seed=seed, count=count, **settings)


def make_cohort(pipe: CinePipeline, requests: list[Request], out: Path, pictures: bool) -> None:
    """Generate this process' share of a cohort, and say what came out of all that is there."""
    from cinesynth.synthesis.cohort import generate_cohort

    share = share_of_process()
    with console.progress() as step:
        rows = generate_cohort(pipe, requests, out, share=share, pictures=pictures, progress=_progress(step))
    accepted = sum(bool(row["accepted"]) for row in rows)
    console.out.print(
        f"{len(rows)} cases in {out}, {accepted} accepted; requested and achieved: {out / 'manifest.csv'}"
    )


def share_of_process() -> Share:
    """As ``torchrun``, ``accelerate launch`` and the like say it: ``RANK`` of ``WORLD_SIZE``; alone, everything."""
    from cinesynth.synthesis.cohort import Share

    numbers = []
    for name, alone in (("RANK", "0"), ("WORLD_SIZE", "1")):
        text = os.environ.get(name, alone)
        if not (text.isascii() and text.isdigit() and len(text) < 10):
            raise InputError(
                f"the environment variable {name} is {text[:40]!r}", hint="give a whole number, or unset it"
            )
        numbers.append(int(text))
    return Share(*numbers)


def _progress(step: console.Step) -> Callable[[int, int], None]:
    """A bar; in a log, now and then a line with the time that is left."""
    begun_s = told_s = time.monotonic()
    first: int | None = None

    def tell(done: int, total: int) -> None:
        nonlocal told_s, first
        step("generate", done, total, {})
        now_s = time.monotonic()
        first = done if first is None else first
        if console.err.is_terminal or done == first or (now_s < told_s + QUIET_S and done < total):
            return
        told_s = now_s
        left_s = (now_s - begun_s) / (done - first) * (total - done)
        console.err.print(f"generate {done}/{total}, {timedelta(seconds=round(left_s))} left")

    return tell
