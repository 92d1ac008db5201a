"""How well segmenters perform: Dice, HD95 and ASSD of a subject in the scanner's voxels, and means over a study."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cinesynth.errors import DataError
from cinesynth.evaluation.overlap import Overlap, overlap
from cinesynth.evaluation.statistics import crossed_interval, mean_known
from cinesynth.io.files import write_json
from cinesynth.study.runs import TrainingRun
from cinesynth.types import STRUCTURES, LabelArray, Study

METRICS = Overlap._fields


def ed_es_frames(study: Study) -> Study:
    """``study`` with its ED and ES frames only, the frames that are tested.

    `DataError` if neither of them is annotated.
    """
    is_ed_es = np.isin(study.frame_index, (study.ed_index, study.es_index))
    if not (study.labelled & is_ed_es).any():
        raise DataError(
            f"{study.dataset} {study.subject} is annotated neither at ED nor at ES",
            hint="exclude this subject from the test groups",
        )
    kept = np.flatnonzero(is_ed_es)
    return replace(
        study,
        image=study.image[kept],
        label=study.label[kept],
        coverage=study.coverage[kept],
        frame_index=study.frame_index[kept],
    )


def segmentation_scores(predicted: LabelArray, study: Study) -> dict[str, NDArray[np.float64]]:
    """Each of `METRICS` by structure (``S``), mean over the frames of ``study``; NaN where nothing is annotated.

    ``predicted`` (``T X Y Z``) is compared in annotated slices, by the rule of `overlap` for a missed structure.
    """
    by_frame = overlap(predicted, study.label, study.coverage, study.spacing_mm)
    return {metric: mean_known(values, axis=0) for metric, values in zip(METRICS, by_frame, strict=True)}


# --- Results of a study ----------------------------------------------------------------------------------------------


MEAN = "mean"
"""Column of the mean over the structures that are annotated in a subject."""
COLUMNS = (*(structure.name for structure in STRUCTURES), MEAN)
Scores = dict[str, NDArray[np.float64]]
"""By metric, ``subjects COLUMNS``."""


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds and subjects, or a difference of two, with its 95 % interval."""

    value: float
    low: float
    high: float
    subjects: int
    seeds: int

    def to_json(self) -> dict[str, float | int]:
        """Plain numbers."""
        return asdict(self)


def write_scores(path: Path, metadata: Mapping[str, Any], groups: Mapping[str, Sequence[Scores]]) -> None:
    """Write the scores of a segmenter, one entry per subject of each group, to JSON; ``metadata`` describes the run."""
    by_group = {
        group: {metric: [_plain(subject[metric]) for subject in subjects] for metric in METRICS}
        for group, subjects in groups.items()
    }
    write_json(path, {**metadata, "structures": [s.name for s in STRUCTURES], "groups": by_group})


def read_scores(path: Path) -> dict[str, Scores] | None:
    """The scores of a run by group; None if the run is not finished."""
    if not path.is_file():
        return None
    try:
        groups = json.loads(path.read_text(encoding="utf-8"))["groups"]
        return {name: {metric: _with_mean(group[metric]) for metric in METRICS} for name, group in groups.items()}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path} is damaged: {error!r}", hint="delete the file; the same command scores the run again"
        ) from None


@dataclass(frozen=True)
class Results:
    """The scores of all finished runs, by group."""

    scores: Mapping[TrainingRun, Mapping[str, Scores]]

    def seeds(self, n_labelled: int | str, arms: Iterable[str]) -> list[int]:
        """The seeds with a finished run in each of the ``arms``."""
        by_arm = [{r.seed for r in self.scores if r.n_labelled == n_labelled and r.arm.name == arm} for arm in arms]
        return sorted(set.intersection(*by_arm)) if by_arm else []

    def values(
        self, group: str, n_labelled: int | str, arm: str, metric: str, seeds: Sequence[int]
    ) -> NDArray[np.float64]:
        """``seeds subjects COLUMNS``."""
        runs = {(run.n_labelled, run.arm.name, run.seed): scores for run, scores in self.scores.items()}
        return np.stack([runs[n_labelled, arm, seed][group][metric] for seed in seeds])

    def mean(self, group: str, n_labelled: int | str, arm: str, metric: str) -> dict[str, Estimate]:
        """The mean of an arm by column; empty without finished runs."""
        seeds = self.seeds(n_labelled, [arm])
        return _estimates(self.values(group, n_labelled, arm, metric, seeds)) if seeds else {}

    def gain(self, group: str, n_labelled: int | str, arm: str, baseline: str, metric: str) -> dict[str, Estimate]:
        """The difference of an arm and the baseline by column, paired by subject and seed; empty without both."""
        seeds = self.seeds(n_labelled, [arm, baseline])
        if not seeds:
            return {}
        ours, theirs = (self.values(group, n_labelled, name, metric, seeds) for name in (arm, baseline))
        return _estimates(ours - theirs)


def _estimates(values: NDArray[np.float64]) -> dict[str, Estimate]:
    return {column: estimate(values[..., i]) for i, column in enumerate(COLUMNS) if np.isfinite(values[..., i]).any()}


def estimate(values: NDArray[np.float64]) -> Estimate:
    """The mean of ``seeds subjects`` values with a bootstrap interval over both; NaN marks an unknown value."""
    known = values[:, np.isfinite(values).all(axis=0)]
    if not known.size:
        return Estimate(float("nan"), float("nan"), float("nan"), 0, len(values))
    seeds, subjects = known.shape
    return Estimate(float(known.mean()), *crossed_interval(known), subjects, seeds)


def _with_mean(rows: Sequence[Sequence[float | None]]) -> NDArray[np.float64]:
    values = np.array(rows, dtype=np.float64)
    return np.concatenate([values, mean_known(values, axis=1)[:, None]], axis=1)


def _plain(values: NDArray[np.float64]) -> list[float | None]:
    return [float(value) if np.isfinite(value) else None for value in values]
