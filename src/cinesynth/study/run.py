"""A study, unit by unit: the generator and the hearts of each number of people, then each cell, then the report.

Each unit goes on where it was stopped and is left alone when it is finished, so that units may run one after another,
on several machines, or again.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from cinesynth.data.dataset_table import DatasetTable, SubjectRow
from cinesynth.data.geometry import Grid
from cinesynth.data.packed import load_study
from cinesynth.errors import InputError
from cinesynth.io.files import atomic_path, make_folder, write_text
from cinesynth.io.progress import ProgressCallback
from cinesynth.study.datasets import digest, pool, regime
from cinesynth.study.generator import make_hearts, needed_hearts, train_generator
from cinesynth.study.metrics import Results, judged, read_scores, scores, write_scores
from cinesynth.study.runs import Cell, Task, arms_of, cells_of, code_digest, task_of
from cinesynth.study.spec import NnunetSpec, StudySpec, UNetSpec
from cinesynth.study.subjects import People, check_fit, name_of, people_of
from cinesynth.types import LabelArray

if TYPE_CHECKING:
    from collections.abc import Sequence

HEARTS, LABELS = "hearts", "labels"


@dataclass(frozen=True)
class Unit:
    """A part of a study that is done at once, and the one that must be done before."""

    name: str
    after: str | None = None


@dataclass(frozen=True)
class StudyRun:
    """A study in a folder."""

    spec: StudySpec
    out: Path
    report: ProgressCallback

    @cached_property
    def people(self) -> People:
        """Who is learned from and who is tested."""
        return people_of(self.spec)

    @cached_property
    def engine(self) -> Engine:
        """What trains segmenters."""
        return engine_of(self.spec)

    def units(self) -> list[Unit]:
        """All units, in an order in which they can be done."""
        hearts = [Unit(f"{HEARTS}-{people}") for people in self.spec.people]
        cells = [Unit(c.name, f"{HEARTS}-{c.people}" if c.arm.generated else None) for c in cells_of(self.spec)]
        return [*hearts, *cells]

    def unit(self, name: str) -> None:
        """Do one unit; `InputError` where there is no such one."""
        hearts = {f"{HEARTS}-{people}": people for people in self.spec.people}
        cells = {cell.name: cell for cell in cells_of(self.spec)}
        if name in hearts:
            self.pool(hearts[name])
        elif name in cells:
            self.cell(cells[name])
        else:
            raise InputError(f"the study has no unit {name!r}", hint="cinesynth study --list names them")

    def finished(self) -> set[str]:
        """The units that are done."""
        hearts = {f"{HEARTS}-{people}" for people in self.spec.people if self.known_pool(people) is not None}
        return hearts | {cell.name for cell in self.results().found}

    def pool(self, people: int | str, generated: bool = True) -> Path:
        """The dataset that segmenters of so many labelled people learn from.

        Generator and hearts are made for it, unless it is that of the arms without ``generated`` hearts, which wait
        for nothing.
        """
        known = self.known_pool(people, generated)
        if known is not None:
            return known
        check_fit(self.people, self._grids())
        labelled = self.people.labelled(people)
        hearts = self._hearts(people, labelled) if generated else []
        around = generated and self.spec.mix.surroundings
        made = pool(self.people, labelled, hearts, self._beside("pools", people), self._step, around)
        write_text(self._note(people, generated), made.name)
        return made

    def known_pool(self, people: int | str, generated: bool = True) -> Path | None:
        """The same, if it is there already."""
        note = self._note(people, generated)
        return self.out / "pools" / note.read_text() if note.is_file() else None

    def _hearts(self, people: int | str, labelled: Sequence[SubjectRow]) -> list[Path]:
        """Folders of the hearts that a generator of ``labelled`` people made, and that are kept."""
        beside = self._beside
        data = regime(self.people, labelled, self.spec.generator, beside("regimes", people), self._step)
        weights = train_generator(self.spec.generator, data, beside("generators", people), self.report)
        count = needed_hearts(self.spec.ratios, len(labelled))
        share = self.spec.mix.agreeing
        made = make_hearts(self.spec.cohort, weights, beside("hearts", people), math.ceil(count / share), self.report)
        return made if share == 1.0 else self._agreeing(people, made, count)

    def _agreeing(self, people: int | str, cases: Sequence[Path], count: int) -> list[Path]:
        """The ``count`` of the cases, in their order, in whose images the segmenter of the labelled people alone, of
        the first seed, sees the most of their masks: mean Dice of the structures at ED and ES."""
        judge = self.task(Cell(people, arms_of(self.spec)[0], self.spec.seeds[0]))
        self.engine.train(judge, self.report)
        candidates = pool(self.people, [], cases, self._beside("candidates", people), self._step)
        rows = {row.subject: row for row in DatasetTable.read(candidates)}
        chosen = [rows[case.name] for case in cases]
        seen = self.engine.labels(judge, candidates, chosen)
        dice = [
            np.nanmean(scores(label, judged(load_study(candidates, row)))["dice"])
            for row, label in zip(chosen, seen, strict=True)
        ]
        best = sorted(np.argsort(dice, kind="stable")[::-1][:count])
        return [cases[i] for i in best]

    def _step(self, task: str, done: int, total: int, metrics: Mapping[str, float]) -> None:
        self.report("data", done, total, {})

    def _grids(self) -> list[Grid]:
        """Of the generator, and of the engine where it has one."""
        configs = [self.spec.generator.config]
        if isinstance(self.spec.engine, UNetSpec):
            configs.append(self.spec.engine.config)
        return [Grid.from_config(config.grid) for config in configs]

    def _note(self, people: int | str, generated: bool) -> Path:
        """Where it is written down which pool belongs to these settings."""
        spec = self.spec
        hearts = [spec.generator.resolved(), spec.cohort.model_dump(mode="json"), max(spec.ratios)]
        hearts += [spec.mix.surroundings, spec.mix.agreeing]
        hearts += [spec.engine.resolved(), spec.seeds[0], code_digest()] if spec.mix.agreeing < 1.0 else []
        key = digest(self.people.data_hash, [row.file for row in self.people.train], *(hearts if generated else []))
        return self._beside("pools", people).with_name(f"{people}-{key}.txt")

    def task(self, cell: Cell) -> Task:
        """What the engine is to train for ``cell``; its pool is made where it is not there."""
        pool = self.pool(cell.people, cell.arm.generated)
        return task_of(self.spec, self.people, cell, pool, make_folder(self.out / "cells"))

    def cell(self, cell: Cell) -> None:
        """Train the segmenter of ``cell`` and score it on everybody who is tested."""
        task = self.task(cell)
        if read_scores(task.scores) is not None:
            return
        self.engine.train(task, self.report)
        found = {}
        for group, rows in self.people.tests.items():
            found[group] = [
                scores(label, judged(load_study(self.people.data, row)))
                for row, label in self._labels(task, group, rows)
            ]
        about = {
            "people": cell.people,
            "arm": cell.arm.name,
            "seed": cell.seed,
            "learned_from": [name_of(row) for row in task.rows],
            "tested": {group: [name_of(row) for row in rows] for group, rows in self.people.tests.items()},
            "data_hash": self.people.data_hash,
            "code": code_digest(),
        }
        write_scores(task.scores, about, found)

    def _labels(self, task: Task, group: str, rows: Sequence[SubjectRow]) -> Iterator[tuple[SubjectRow, LabelArray]]:
        """Label the people of a group, and keep the labels."""
        for number, (row, label) in enumerate(
            zip(rows, self.engine.labels(task, self.people.data, rows), strict=True), start=1
        ):
            with atomic_path(task.folder / LABELS / f"{group}_{name_of(row)}.npz") as path:
                np.savez_compressed(path, label=label)
            self.report(f"test {group}", number, len(rows), {})
            yield row, label

    def results(self) -> Results:
        """What the finished cells found."""
        found = {}
        for cell in cells_of(self.spec):
            known = self.known_pool(cell.people, cell.arm.generated)
            scored = None if known is None else read_scores(self.task(cell).scores)
            if scored is not None:
                found[cell] = scored
        return Results(found)

    def _beside(self, kind: str, people: int | str) -> Path:
        return make_folder(self.out / kind) / str(people)


# --- The units of a study on a cluster -------------------------------------------------------------------------------


LOGS = "jobs"


def submit(run: StudyRun, spec: Path, options: dict[str, Any]) -> dict[str, str]:
    """Hand every unit that is not finished to Slurm; the job of each by its name.

    ``options`` are Slurm's, without dashes: ``partition``, ``gres``, ``time`` and the like. A job is the same command
    with ``--unit``: it may be submitted again, and what is finished is not done again.
    """
    import submitit

    jobs: dict[str, str] = {}
    finished = run.finished()
    for unit in [unit for unit in run.units() if unit.name not in finished]:
        given = dict(options)
        if unit.after in jobs:
            given["dependency"] = f"afterok:{jobs[unit.after]}"
        executor = submitit.AutoExecutor(folder=run.out / LOGS / unit.name, cluster="slurm")
        executor.update_parameters(name=f"cinesynth-{unit.name}", **_as_submitit(given))
        job = executor.submit(submitit.helpers.CommandFunction(command(spec, run.out, unit.name)))
        jobs[unit.name] = str(job.job_id)
    return jobs


def command(spec: Path, out: Path, unit: str) -> list[str]:
    """The command line of one unit."""
    return [sys.executable, "-m", "cinesynth", "study", str(spec), "--out", str(out), "--unit", unit]


def parse_options(texts: Sequence[str]) -> dict[str, Any]:
    """``KEY=VALUE`` each; `InputError` where one is not."""
    options: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key.replace("_", "").isalpha():
            raise InputError(f"--slurm {text!r} is not of the form KEY=VALUE", hint="for example --slurm partition=gpu")
        options[key] = int(value) if value.isdigit() else value
    return options


def _as_submitit(options: dict[str, Any]) -> dict[str, Any]:
    """submitit has a name of its own for the time; the rest is Slurm's."""
    minutes = {"timeout_min": options.pop("timeout_min")} if "timeout_min" in options else {}
    return {**minutes, "slurm_additional_parameters": options}


# --- What trains segmenters ------------------------------------------------------------------------------------------


class Engine(Protocol):
    """Trains the segmenter of a cell, and labels people with it."""

    def train(self, task: Task, report: ProgressCallback) -> None:
        """Train it in the task's folder, or go on with it; a finished one is left alone."""

    def labels(self, task: Task, data: Path, people: Sequence[SubjectRow]) -> Iterator[LabelArray]:
        """Labels of each of the people of the dataset ``data``, at the frames that are `judged`: ``T X Y Z``."""


def engine_of(spec: StudySpec) -> Engine:
    """The engine that a study names."""
    if isinstance(spec.engine, NnunetSpec):
        from cinesynth.study.nnunet import Nnunet

        return Nnunet(spec.engine)
    from cinesynth.study.unet import UNet

    return UNet(spec.engine)
