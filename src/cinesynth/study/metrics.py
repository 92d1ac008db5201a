"""What a segmenter is worth on a person: Dice, HD95 and mean surface distance, in the scanner's voxels."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cinesynth.data.heart import label_bounds
from cinesynth.errors import DataError
from cinesynth.evaluation.surfaces import dice, surface_distances_mm
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

    A structure that is not found at all, or found where there is none, is as far off as the annotated stack is long
    from corner to corner: leaving it out would favour segmenters that find nothing.
    """
    found = np.full((len(METRICS), len(label), len(STRUCTURES)), np.nan)
    for t in range(len(label)):
        for i, structure in enumerate(STRUCTURES):
            covered = study.coverage[t, :, i]
            a, b = label[t][..., covered] == structure, study.label[t][..., covered] == structure
            if a.any() and b.any():
                found[:, t, i] = dice(a, b), *surface_distances_mm(a, b, study.spacing_mm)
            elif a.any() or b.any():
                found[:, t, i] = 0.0, *[_diagonal_mm(b.shape, study)] * 2
    known = np.isfinite(found)
    mean = np.where(known, found, 0.0).sum(axis=1) / np.where(known.any(axis=1), known.sum(axis=1), np.nan)
    return dict(zip(METRICS, mean, strict=True))


def _diagonal_mm(shape: tuple[int, ...], study: Study) -> float:
    """Of the box around everything that is annotated in the plane, and the ``shape``'s slices."""
    (left, right), (top, bottom) = label_bounds(study)
    x, y = right - left + 1, bottom - top + 1
    return float(np.linalg.norm(np.array([x, y, shape[2]]) * np.array(study.spacing_mm)))


# --- What the cells of a study found ---------------------------------------------------------------------------------


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
