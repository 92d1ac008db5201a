"""A study, unit by unit: generator and hearts of each number of labelled subjects, then each training run.

Units resume where they were stopped and skip what is finished, so they can run in sequence, in parallel on several
machines, or again.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from cinesynth.data.dataset_table import DatasetTable
from cinesynth.data.geometry import Grid, place
from cinesynth.data.packed import load_study
from cinesynth.errors import InputError
from cinesynth.io.files import atomic_path, make_folder, write_text
from cinesynth.io.tasks import ProgressCallback
from cinesynth.study.engines import NnunetEngine, UNetEngine
from cinesynth.study.generation import generate_hearts, generator_dataset, segmenter_dataset, train_generator
from cinesynth.study.metrics import Results, Scores, ed_es_frames, read_scores, segmentation_scores, write_scores
from cinesynth.study.plan import (
    SegmenterTask,
    Subjects,
    TrainingRun,
    arms_of,
    code_digest,
    digest,
    hearts_of,
    subject_name,
    subjects_of,
    task_of,
    training_runs,
)
from cinesynth.study.spec import StudySpec, UNetSpec


@dataclass(frozen=True)
class StudyUnit:
    """A part of a study that runs as a whole, and the unit it depends on."""

    name: str
    after: str | None = None


@dataclass(frozen=True)
class StudyRun:
    """A study in the folder ``out``."""

    spec: StudySpec
    out: Path
    progress: ProgressCallback

    @cached_property
    def subjects(self) -> Subjects:
        """The training and test subjects."""
        return subjects_of(self.spec)

    @cached_property
    def engine(self) -> UNetEngine | NnunetEngine:
        """The engine that trains segmenters."""
        spec = self.spec.engine
        return UNetEngine(spec) if isinstance(spec, UNetSpec) else NnunetEngine(spec)

    # --- Units ---

    def units(self) -> list[StudyUnit]:
        """All units, each after the one it depends on."""
        hearts = [StudyUnit(_hearts_name(n)) for n in self.spec.n_labelled]
        runs = [
            StudyUnit(run.name, _hearts_name(run.n_labelled) if run.arm.generated else None)
            for run in training_runs(self.spec)
        ]
        return [*hearts, *runs]

    def unit(self, name: str) -> None:
        """Run one unit; `InputError` if the study has no unit of that name."""
        hearts = {_hearts_name(n): n for n in self.spec.n_labelled}
        runs = {run.name: run for run in training_runs(self.spec)}
        if name in hearts:
            self.segmenter_dataset(hearts[name])
        elif name in runs:
            self.train_and_score(runs[name])
        else:
            raise InputError(f"the study has no unit {name!r}", hint="list them with cinesynth study --list")

    def finished(self) -> set[str]:
        """Names of the finished units."""
        hearts = {_hearts_name(n) for n in self.spec.n_labelled if self.finished_dataset(n) is not None}
        return hearts | {run.name for run in self.results().scores}

    # --- Generated hearts ---

    def segmenter_dataset(self, n_labelled: int | str, generated: bool = True) -> Path:
        """The dataset that segmenters of ``n_labelled`` subjects learn from, made if necessary.

        With ``generated``, the generator is trained and its hearts are made first; arms of real subjects alone use the
        dataset without them and wait for nothing.
        """
        finished = self.finished_dataset(n_labelled, generated)
        if finished is not None:
            return finished
        self._check_fit()
        hearts = self._hearts(n_labelled) if generated else []
        paste = generated and self.spec.mix.paste_on_real_background
        labelled, stem = self.subjects.labelled(n_labelled), self._stem("segmenter-datasets", n_labelled)
        made = segmenter_dataset(self.subjects, labelled, hearts, stem, self.progress, paste)
        write_text(self._note(n_labelled, generated), made.name)
        return made

    def finished_dataset(self, n_labelled: int | str, generated: bool = True) -> Path | None:
        """The same dataset if it exists, else None."""
        note = self._note(n_labelled, generated)
        return note.with_name(note.read_text()) if note.is_file() else None

    def _check_fit(self) -> None:
        """`DataError` if a training subject does not fit the grid of the generator or of the 2D U-Net."""
        configs = [self.spec.generator.config]
        if isinstance(self.spec.engine, UNetSpec):
            configs.append(self.spec.engine.config)
        rows = self.subjects.train
        for number, row in enumerate(rows, start=1):
            study = load_study(self.subjects.data, row)
            for config in configs:
                place(study, Grid.from_config(config.grid))
            self.progress("fit", number, len(rows), {})

    def _hearts(self, n_labelled: int | str) -> list[Path]:
        """Folders of the hearts to learn from, made by a generator of the ``n_labelled`` subjects."""
        spec, labelled = self.spec, self.subjects.labelled(n_labelled)
        stem = self._stem("generator-datasets", n_labelled)
        dataset = generator_dataset(self.subjects, labelled, spec.generator, stem, self.progress)
        weights = train_generator(spec.generator, dataset, self._stem("generators", n_labelled), self.progress)
        count, fraction = hearts_of(max(spec.ratios), len(labelled)), spec.mix.keep_best_fraction
        candidates = math.ceil(count / fraction)
        made = generate_hearts(spec.cohort, weights, self._stem("hearts", n_labelled), candidates, self.progress)
        return made if fraction == 1.0 else self._best(n_labelled, made, count)

    def _best(self, n_labelled: int | str, cases: Sequence[Path], count: int) -> list[Path]:
        """The ``count`` cases whose masks at ED and ES the first baseline confirms best (mean Dice), in their order."""
        task = self.task(TrainingRun(n_labelled, arms_of(self.spec)[0], self.spec.seeds[0]))
        self.engine.train(task, self.progress)
        candidates = segmenter_dataset(self.subjects, [], cases, self._stem("candidates", n_labelled), self.progress)
        rows = {row.subject: row for row in DatasetTable.read(candidates)}
        ordered = [rows[case.name] for case in cases]
        predicted = self.engine.segment(task, candidates, ordered)
        dice = [
            np.nanmean(segmentation_scores(label, ed_es_frames(load_study(candidates, row)))["dice"])
            for row, label in zip(ordered, predicted, strict=True)
        ]
        best = sorted(np.argsort(dice, kind="stable")[::-1][:count])
        return [cases[i] for i in best]

    def _note(self, n_labelled: int | str, generated: bool) -> Path:
        """The file that names the dataset which these settings lead to, so that it is found without its hearts."""
        spec, mix = self.spec, self.spec.mix
        hearts = [spec.generator.resolved(), spec.cohort.model_dump(mode="json"), max(spec.ratios)]
        hearts += [mix.paste_on_real_background, mix.keep_best_fraction]
        hearts += [spec.engine.resolved(), spec.seeds[0], code_digest()] if mix.keep_best_fraction < 1.0 else []
        key = digest(self.subjects.data_hash, [row.file for row in self.subjects.train], *(hearts if generated else []))
        return self._stem("segmenter-datasets", n_labelled).with_name(f"{n_labelled}-{key}.txt")

    def _stem(self, kind: str, n_labelled: int | str) -> Path:
        return make_folder(self.out / kind) / str(n_labelled)

    # --- Training runs ---

    def task(self, run: TrainingRun) -> SegmenterTask:
        """What the engine trains for ``run``; makes its dataset if necessary."""
        dataset = self.segmenter_dataset(run.n_labelled, run.arm.generated)
        return task_of(self.spec, self.subjects, run, dataset, make_folder(self.out / "runs"))

    def train_and_score(self, run: TrainingRun) -> None:
        """Train the segmenter of ``run``, segment all test subjects, and save their labels and scores."""
        task, data = self.task(run), self.subjects.data
        if read_scores(task.scores) is not None:
            return
        self.engine.train(task, self.progress)
        scores: dict[str, list[Scores]] = {}
        for group, rows in self.subjects.tests.items():
            labels = self.engine.segment(task, data, rows)
            scores[group] = []
            for number, (row, label) in enumerate(zip(rows, labels, strict=True), start=1):
                with atomic_path(task.label_file(group, row)) as path:
                    np.savez_compressed(path, label=label)
                self.progress(f"test {group}", number, len(rows), {})
                scores[group].append(segmentation_scores(label, ed_es_frames(load_study(data, row))))
        metadata = {
            "n_labelled": run.n_labelled,
            "arm": run.arm.name,
            "seed": run.seed,
            "trained_on": [subject_name(row) for row in task.rows],
            "tested_on": {group: [subject_name(row) for row in rows] for group, rows in self.subjects.tests.items()},
            "data_hash": self.subjects.data_hash,
            "code_digest": code_digest(),
        }
        write_scores(task.scores, metadata, scores)

    def results(self) -> Results:
        """The scores of the finished runs."""
        scores = {}
        for run in training_runs(self.spec):
            if self.finished_dataset(run.n_labelled, run.arm.generated) is not None:
                scored = read_scores(self.task(run).scores)
                if scored is not None:
                    scores[run] = scored
        return Results(scores)


def _hearts_name(n_labelled: int | str) -> str:
    return f"hearts-{n_labelled}"


# --- The units of a study as Slurm jobs ------------------------------------------------------------------------------


def submit(run: StudyRun, spec: Path, options: dict[str, Any]) -> dict[str, str]:
    """Submit every unfinished unit to Slurm; returns the job IDs by unit.

    ``options`` are Slurm's, without dashes, such as ``partition``, ``gres`` and ``time``. Each job runs the same
    command with ``--unit``; it can be submitted again, and finished work is not repeated.
    """
    import submitit

    jobs: dict[str, str] = {}
    finished = run.finished()
    for unit in [unit for unit in run.units() if unit.name not in finished]:
        slurm = dict(options)
        if unit.after in jobs:
            slurm["dependency"] = f"afterok:{jobs[unit.after]}"
        # submitit has its own name for the time limit; all other options are passed to Slurm.
        own = {"timeout_min": slurm.pop("timeout_min")} if "timeout_min" in slurm else {}
        executor = submitit.AutoExecutor(folder=run.out / "jobs" / unit.name, cluster="slurm")
        executor.update_parameters(name=f"cinesynth-{unit.name}", **own, slurm_additional_parameters=slurm)
        job = executor.submit(submitit.helpers.CommandFunction(command(spec, run.out, unit.name)))
        jobs[unit.name] = str(job.job_id)
    return jobs


def command(spec: Path, out: Path, unit: str) -> list[str]:
    """The command line that runs one unit."""
    return [sys.executable, "-m", "cinesynth", "study", str(spec), "--out", str(out), "--unit", unit]


def parse_options(texts: Sequence[str]) -> dict[str, Any]:
    """Slurm options from texts ``KEY=VALUE``; `InputError` if one has another form."""
    options: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key.replace("_", "").isalpha():
            raise InputError(f"--slurm {text!r} is not of the form KEY=VALUE", hint="for example --slurm partition=gpu")
        options[key] = int(value) if value.isdigit() else value
    return options
