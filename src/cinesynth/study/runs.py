"""The training runs of a study: one segmenter for each number of labelled subjects, arm and seed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cinesynth
from cinesynth.cases.schema import GENERATED
from cinesynth.data.dataset_table import DatasetTable, SubjectRow
from cinesynth.study.generation import digest, hearts_of
from cinesynth.study.spec import StudySpec
from cinesynth.study.subjects import Subjects

BASELINE = "real"


@dataclass(frozen=True)
class Arm:
    """An arm of the study: a kind of training data."""

    name: str
    title: str
    real: bool = True
    augment: bool = True
    ratio: float = 0.0
    """Generated hearts per labelled subject."""

    @property
    def generated(self) -> bool:
        """Whether the arm contains generated hearts."""
        return self.ratio > 0


@dataclass(frozen=True)
class TrainingRun:
    """The training of one segmenter."""

    n_labelled: int | str
    arm: Arm
    seed: int

    @property
    def name(self) -> str:
        """The name of its folder, without the digest."""
        return f"{self.n_labelled}-{self.arm.name}-{self.seed}"


@dataclass(frozen=True)
class SegmenterTask:
    """What an engine trains, in ``folder``, on ``rows`` of ``dataset``, and the file of its ``scores``."""

    folder: Path
    scores: Path
    dataset: Path
    rows: tuple[SubjectRow, ...]
    augment: bool
    seed: int
    real_fraction: float | None = None
    """Fraction of real frames, in runs with generated hearts; None samples all cases equally often."""


def arms_of(spec: StudySpec) -> list[Arm]:
    """The arms, the baseline first."""
    arms = [Arm(BASELINE, "real")]
    if spec.plain:
        arms.append(Arm("plain", "real, without augmentation", augment=False))
    arms += [Arm(f"x{ratio:g}", f"real + {ratio:g} x generated", ratio=ratio) for ratio in spec.ratios]
    if spec.synthetic_only:
        arms.append(Arm("generated", f"{max(spec.ratios):g} x generated only", real=False, ratio=max(spec.ratios)))
    return arms


def training_runs(spec: StudySpec) -> Iterator[TrainingRun]:
    """All runs, the first seed of every arm before the second, so that a first result is there early."""
    for seed in spec.seeds:
        for n_labelled in spec.n_labelled:
            for arm in arms_of(spec):
                yield TrainingRun(n_labelled, arm, seed)


def task_of(spec: StudySpec, subjects: Subjects, run: TrainingRun, dataset: Path, folder: Path) -> SegmenterTask:
    """What the segmenter of ``run`` learns from.

    The digest in its folder's name covers everything the segmenter depends on: subjects, hearts, engine and code. The
    digest in its scores' name covers the test subjects: changing them reuses the segmenter.
    """
    manifest = DatasetTable.read(dataset)
    real = [row for row in manifest if row.dataset != GENERATED]
    hearts = [row for row in manifest if row.dataset == GENERATED]
    count = hearts_of(run.arm.ratio, len(real)) if run.arm.generated else 0
    chosen = [*(real if run.arm.real else []), *hearts[:count]]
    tested = {name: [row.sha256 for row in rows] for name, rows in subjects.tests.items()}
    real_fraction = spec.mix.real_fraction if run.arm.real and run.arm.generated else None
    key = digest(
        subjects.data_hash,
        [row.sha256 for row in chosen],
        [run.arm.augment, run.seed, real_fraction],
        spec.engine.resolved(),
        code_digest(),
    )
    own = folder / f"{run.name}-{key}"
    scores = own / f"scores-{digest(tested)}.json"
    return SegmenterTask(own, scores, dataset, tuple(chosen), run.arm.augment, run.seed, real_fraction)


@cache
def code_digest() -> str:
    """Digest of the package's source: any change of the code starts new runs."""
    root = Path(cinesynth.__file__).parent
    files = sorted(root.rglob("*.py"))
    lines = [f"{file.relative_to(root).as_posix()} {hashlib.sha256(file.read_bytes()).hexdigest()}" for file in files]
    return digest(lines)
