"""The cells of a study: one segmenter each, of so many labelled people, an arm and a seed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cinesynth
from cinesynth.cases.schema import GENERATED
from cinesynth.data.dataset_table import DatasetTable, SubjectRow
from cinesynth.study.datasets import digest
from cinesynth.study.generator import hearts_of
from cinesynth.study.spec import StudySpec
from cinesynth.study.subjects import People

BASELINE = "real"


@dataclass(frozen=True)
class Arm:
    """What a segmenter is shown."""

    name: str
    title: str
    real: bool = True
    augment: bool = True
    ratio: float = 0.0
    """Generated hearts a labelled person."""

    @property
    def generated(self) -> bool:
        """Whether there are generated hearts in it."""
        return self.ratio > 0


@dataclass(frozen=True)
class Cell:
    """One segmenter."""

    people: int | str
    arm: Arm
    seed: int

    @property
    def name(self) -> str:
        """Of its folder, before the digest."""
        return f"{self.people}-{self.arm.name}-{self.seed}"


@dataclass(frozen=True)
class Task:
    """What an engine is to train: ``rows`` of the dataset ``pool``, in ``folder``; and where its scores are kept."""

    folder: Path
    scores: Path
    pool: Path
    rows: tuple[SubjectRow, ...]
    augment: bool
    seed: int
    people_share: float | None = None
    """Of the frames, where generated hearts are among the rows; none: everybody is drawn as often."""


def arms_of(spec: StudySpec) -> list[Arm]:
    """The arms, the one that the others are compared with first."""
    arms = [Arm(BASELINE, "real")]
    if spec.plain:
        arms.append(Arm("plain", "real, not augmented", augment=False))
    arms += [Arm(f"x{ratio:g}", f"real + {ratio:g} x generated", ratio=ratio) for ratio in spec.ratios]
    if spec.synthetic_only:
        arms.append(Arm("generated", f"{max(spec.ratios):g} x generated alone", real=False, ratio=max(spec.ratios)))
    return arms


def cells_of(spec: StudySpec) -> Iterator[Cell]:
    """All cells: every arm of the first seed before the next, so that a first answer is there soon."""
    for seed in spec.seeds:
        for people in spec.people:
            for arm in arms_of(spec):
                yield Cell(people, arm, seed)


def task_of(spec: StudySpec, people: People, cell: Cell, pool: Path, folder: Path) -> Task:
    """What the segmenter of ``cell`` learns from.

    Its folder is named by all that the segmenter depends on: the people, the hearts, the engine, the code; its scores
    by who is tested, so that another test needs no other segmenter.
    """
    manifest = DatasetTable.read(pool)
    real = [row for row in manifest if row.dataset != GENERATED]
    hearts = [row for row in manifest if row.dataset == GENERATED]
    chosen = [*(real if cell.arm.real else []), *hearts[: _hearts(cell, len(real))]]
    tested = {name: [row.sha256 for row in rows] for name, rows in people.tests.items()}
    share = spec.mix.people_share if cell.arm.real and cell.arm.generated else None
    key = digest(
        people.data_hash,
        [row.sha256 for row in chosen],
        [cell.arm.augment, cell.seed, share],
        spec.engine.resolved(),
        code_digest(),
    )
    own = folder / f"{cell.name}-{key}"
    return Task(own, own / f"scores-{digest(tested)}.json", pool, tuple(chosen), cell.arm.augment, cell.seed, share)


def _hearts(cell: Cell, labelled: int) -> int:
    return hearts_of(cell.arm.ratio, labelled) if cell.arm.generated else 0


@cache
def code_digest() -> str:
    """Of every line of this package's code: other code makes new cells."""
    root = Path(cinesynth.__file__).parent
    files = sorted(root.rglob("*.py"))
    lines = [f"{file.relative_to(root).as_posix()} {hashlib.sha256(file.read_bytes()).hexdigest()}" for file in files]
    return digest(lines)
