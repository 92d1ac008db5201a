"""What a segmenter is worth on a person: Dice, HD95 and mean surface distance, in the scanner's voxels."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cinesynth.errors import DataError
from cinesynth.evaluation.overlap import overlap
from cinesynth.evaluation.statistics import crossed_interval, mean_known
from cinesynth.io.files import write_json
from cinesynth.study.runs import Cell
from cinesynth.types import STRUCTURES, LabelArray, Study

METRICS = ("dice", "hd95_mm", "assd_mm")


def judged(study: Study) -> Study:
    """``study`` with those of its stored frames alone that people are judged at: ED and ES where they are annotated.

    `DataError` where neither is.
    """
    frames = study.labelled & np.isin(study.frame_index, (study.ed_index, study.es_index))
    if not frames.any():
        raise DataError(
            f"{study.dataset} {study.subject} is annotated neither at ED nor at ES", hint="leave it out of the tests"
        )
    kept = np.flatnonzero(np.isin(study.frame_index, (study.ed_index, study.es_index)))
    return replace(
        study,
        image=study.image[kept],
        label=study.label[kept],
        coverage=study.coverage[kept],
        frame_index=study.frame_index[kept],
    )


def scores(label: LabelArray, study: Study) -> dict[str, NDArray[np.float64]]:
    """Each of `METRICS` by structure (``S``), mean over the frames of a `judged` study; NaN where not annotated.

    A structure that only one of the two labels has counts by the rule of `evaluation.overlap`.
    """
    found = overlap(label, study.label, study.coverage, study.spacing_mm)
    return {metric: mean_known(getattr(found, metric), axis=0) for metric in METRICS}


# --- What the cells of a study found ---------------------------------------------------------------------------------


MEAN = "mean"
"""Of the structures that were annotated of a person."""
COLUMNS = (*(structure.name for structure in STRUCTURES), MEAN)
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
    low, high = crossed_interval(known)
    return Effect(float(known.mean()), low, high, persons, seeds)


def _with_mean(rows: Sequence[Sequence[float | None]]) -> NDArray[np.float64]:
    values = np.array(rows, dtype=np.float64)
    return np.concatenate([values, mean_known(values, axis=1)[:, None]], axis=1)


def _plain(values: NDArray[np.float64]) -> list[float | None]:
    return [float(value) if np.isfinite(value) else None for value in values]
