"""How well segmenters perform: Dice, HD95 and ASSD of a subject in the scanner's voxels, and means over a study."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cinesynth.errors import DataError
from cinesynth.evaluation.agreement import Overlap, overlap
from cinesynth.evaluation.statistics import crossed_interval, mean_known
from cinesynth.io.files import write_json
from cinesynth.study.plan import TrainingRun
from cinesynth.types import STRUCTURES, LabelArray, Study

METRICS = Overlap._fields
Scores = dict[str, NDArray[np.float64]]
"""By metric: ``S`` of one subject, ``subjects COLUMNS`` of a group."""


def ed_es_frames(study: Study) -> Study:
    """``study`` with its ED and ES frames only, which are tested; `DataError` if neither of them is annotated."""
    kept = np.isin(study.frame_index, (study.ed_index, study.es_index))
    if not (study.labelled & kept).any():
        hint = "exclude this subject from the test groups"
        raise DataError(f"{study.dataset} {study.subject} is annotated neither at ED nor at ES", hint=hint)
    by_frame = ("image", "label", "coverage", "frame_index")
    return replace(study, **{name: getattr(study, name)[kept] for name in by_frame})


def segmentation_scores(predicted: LabelArray, study: Study) -> Scores:
    """Each of `METRICS` by structure (``S``), mean over the frames of ``study``; NaN where nothing is annotated.

    ``predicted`` (``T X Y Z``) is compared in annotated slices, by the rule of `overlap` for a missed structure.
    """
    by_frame = overlap(predicted, study.label, study.coverage, study.spacing_mm)
    return {metric: mean_known(values, axis=0) for metric, values in zip(METRICS, by_frame, strict=True)}


# --- Results of a study ----------------------------------------------------------------------------------------------


MEAN = "mean"
"""Column of the mean over the structures that are annotated in a subject."""
COLUMNS = (*(structure.name for structure in STRUCTURES), MEAN)


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds and subjects, or a difference of two, with its 95 % interval."""

    value: float
    low: float
    high: float
    subjects: int
    seeds: int


def write_scores(path: Path, metadata: Mapping[str, Any], groups: Mapping[str, Sequence[Scores]]) -> None:
    """Write the scores of a segmenter, one entry per subject of each group, to JSON; ``metadata`` describes the run."""

    def plain(values: NDArray[np.float64]) -> list[float | None]:
        return [float(value) if np.isfinite(value) else None for value in values]

    by_group = {
        group: {metric: [plain(subject[metric]) for subject in subjects] for metric in METRICS}
        for group, subjects in groups.items()
    }
    write_json(path, {**metadata, "structures": [s.name for s in STRUCTURES], "groups": by_group})


def read_scores(path: Path) -> dict[str, Scores] | None:
    """The scores of a run by group; None if the run is not finished."""

    def with_mean(rows: Sequence[Sequence[float | None]]) -> NDArray[np.float64]:
        values = np.array(rows, dtype=np.float64)
        return np.concatenate([values, mean_known(values, axis=1)[:, None]], axis=1)

    if not path.is_file():
        return None
    try:
        groups = json.loads(path.read_text(encoding="utf-8"))["groups"]
        return {name: {metric: with_mean(group[metric]) for metric in METRICS} for name, group in groups.items()}
    except (OSError, ValueError, KeyError, TypeError) as error:
        hint = "delete the file; the same command scores the run again"
        raise DataError(f"{path} is damaged: {error!r}", hint=hint) from None


@dataclass(frozen=True)
class Results:
    """The scores of all finished runs, by group."""

    scores: Mapping[TrainingRun, Mapping[str, Scores]]

    def seeds(self, n_labelled: int | str, arms: Iterable[str]) -> list[int]:
        """The seeds with a finished run in each of the ``arms``."""
        by_arm = [{r.seed for r in self.scores if r.n_labelled == n_labelled and r.arm.name == arm} for arm in arms]
        return sorted(set.intersection(*by_arm))

    def estimates(self, group: str, n_labelled: int | str, metric: str, *arms: str) -> dict[str, Estimate]:
        """The mean of an arm by column or, with a second one, of its difference, paired by subject and seed.

        Seeds that some of the arms lack are left out; empty without a seed that all have.
        """
        seeds = self.seeds(n_labelled, arms)
        if not seeds:
            return {}
        runs = {(run.n_labelled, run.arm.name, run.seed): scores for run, scores in self.scores.items()}
        values, *baseline = (np.stack([runs[n_labelled, arm, seed][group][metric] for seed in seeds]) for arm in arms)
        values = values - baseline[0] if baseline else values  # seeds subjects COLUMNS
        known = [(column, values[..., i]) for i, column in enumerate(COLUMNS)]
        return {column: estimate(each) for column, each in known if np.isfinite(each).any()}


def estimate(values: NDArray[np.float64]) -> Estimate:
    """The mean of ``seeds subjects`` values with a bootstrap interval over both; NaN marks an unknown value."""
    known = values[:, np.isfinite(values).all(axis=0)]
    if not known.size:
        return Estimate(float("nan"), float("nan"), float("nan"), 0, len(values))
    seeds, subjects = known.shape
    return Estimate(float(known.mean()), *crossed_interval(known), subjects, seeds)
