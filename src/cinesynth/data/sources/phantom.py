"""The analytic heart as a dataset: labelled at every frame, free of licences, the same on every machine."""

from __future__ import annotations

from cinesynth.data.phantom import phantom_study
from cinesynth.data.sources import Source
from cinesynth.errors import InputError
from cinesynth.types import Study

DIAGNOSES = 5


def read_phantoms(count: int, *, frames: int | None = None) -> Source:
    """Studies of seeds 0 to ``count - 1``: five consecutive seeds run through the five diagnoses.

    ``frames`` of the cycle default to the phantom's own 20-30. `InputError` if ``count`` is below 1.
    """
    if count < 1:
        raise InputError(f"{count} phantoms", hint=f"ask for a multiple of {DIAGNOSES}, one of each diagnosis")
    seeds = {f"phantom{seed:05d}": seed for seed in range(count)}

    def read(name: str) -> Study:
        return phantom_study(seeds[name], frames=frames).study

    return Source(tuple(seeds), read)
