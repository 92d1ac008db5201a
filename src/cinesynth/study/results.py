"""What the cells of a study found: of each person and structure, and how arms differ, with intervals."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cinesynth.atomic import write_json
from cinesynth.errors import DataError
from cinesynth.study.cells import Cell
from cinesynth.study.judge import METRICS
from cinesynth.types import STRUCTURES

MEAN = "mean"
"""Of the structures that were annotated of a person."""
COLUMNS = (*(structure.name for structure in STRUCTURES), MEAN)
RESAMPLES = 5000
Scores = dict[str, NDArray[np.float64]]
"""``P C`` by metric: persons, and the `COLUMNS`."""


@dataclass(frozen=True)
class Effect:
    """A mean over seeds and persons, or a difference of two, with its interval of 95 %."""

    value: float
    low: float
    high: float
    persons: int
    seeds: int

    def to_json(self) -> dict[str, float | int]:
        """Plain numbers."""
        return {**self.__dict__}


def write_scores(path: Path, about: Mapping[str, Any], persons: Mapping[str, Sequence[Scores]]) -> None:
    """Keep in a JSON what a segmenter is worth on the persons of each group: ``about`` says which segmenter."""
    groups = {
        group: {metric: [_plain(one[metric]) for one in found] for metric in METRICS}
        for group, found in persons.items()
    }
    write_json(path, {**about, "structures": [s.name for s in STRUCTURES], "groups": groups})


def read_scores(path: Path) -> dict[str, Scores] | None:
    """The scores of a finished cell by group; None where it is not finished."""
    if not path.is_file():
        return None
    try:
        groups = json.loads(path.read_text(encoding="utf-8"))["groups"]
        return {name: {metric: _with_mean(found[metric]) for metric in METRICS} for name, found in groups.items()}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path} is damaged: {error!r}", hint="delete it: the same command scores the cell again"
        ) from None


@dataclass(frozen=True)
class Results:
    """All finished cells."""

    found: Mapping[Cell, Mapping[str, Scores]]

    def seeds(self, people: int | str, arms: Iterable[str]) -> list[int]:
        """The seeds of which all ``arms`` are there."""
        by_arm = [{c.seed for c in self.found if c.people == people and c.arm.name == arm} for arm in arms]
        return sorted(set.intersection(*by_arm)) if by_arm else []

    def values(self, group: str, people: int | str, arm: str, metric: str, seeds: Sequence[int]) -> NDArray[np.float64]:
        """``seeds persons COLUMNS``."""
        cells = {(c.people, c.arm.name, c.seed): scores for c, scores in self.found.items()}
        return np.stack([cells[people, arm, seed][group][metric] for seed in seeds])

    def mean(self, group: str, people: int | str, arm: str, metric: str) -> dict[str, Effect]:
        """What an arm reaches, by column."""
        seeds = self.seeds(people, [arm])
        return _effects(self.values(group, people, arm, metric, seeds)) if seeds else {}

    def gain(self, group: str, people: int | str, arm: str, baseline: str, metric: str) -> dict[str, Effect]:
        """What an arm has more than the baseline, on the same persons with the same seeds, by column."""
        seeds = self.seeds(people, [arm, baseline])
        if not seeds:
            return {}
        ours, theirs = (self.values(group, people, name, metric, seeds) for name in (arm, baseline))
        return _effects(ours - theirs)


def _effects(values: NDArray[np.float64]) -> dict[str, Effect]:
    return {column: effect(values[..., i]) for i, column in enumerate(COLUMNS) if np.isfinite(values[..., i]).any()}


def effect(values: NDArray[np.float64]) -> Effect:
    """The mean of ``seeds persons`` (NaN: not known) with a bootstrap interval over both.

    Each resample draws persons and, apart from them, seeds with replacement: another lab would have other people and
    other first weights.
    """
    known = values[:, np.isfinite(values).all(axis=0)]
    if not known.size:
        return Effect(float("nan"), float("nan"), float("nan"), 0, len(values))
    seeds, persons = known.shape
    rng = np.random.default_rng(0)
    rows = _counts(rng, seeds) / seeds
    columns = _counts(rng, persons) / persons
    drawn = np.einsum("rs,sp,rp->r", rows, known, columns)
    low, high = np.percentile(drawn, (2.5, 97.5))
    return Effect(float(known.mean()), float(low), float(high), persons, seeds)


def _counts(rng: np.random.Generator, count: int) -> NDArray[np.float64]:
    """How often each of ``count`` is drawn, ``RESAMPLES count``."""
    return rng.multinomial(count, np.full(count, 1.0 / count), size=RESAMPLES).astype(np.float64)


def _with_mean(rows: Sequence[Sequence[float | None]]) -> NDArray[np.float64]:
    values = np.array(rows, dtype=np.float64)
    known = np.isfinite(values)
    mean = np.where(known, values, 0.0).sum(axis=1) / np.where(known.any(axis=1), known.sum(axis=1), np.nan)
    return np.concatenate([values, mean[:, None]], axis=1)


def _plain(values: NDArray[np.float64]) -> list[float | None]:
    return [float(value) if np.isfinite(value) else None for value in values]
