"""The plan of a study: its training and test subjects, its arms, and one training run for each of them and seed."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cinesynth
from cinesynth.data.dataset_table import GENERATED, DatasetTable, SubjectRow, data_hash
from cinesynth.data.duplicates import group_by_person, sketch
from cinesynth.data.packed import load_study
from cinesynth.errors import DataError, InputError
from cinesynth.io.reproducibility import shuffle_key
from cinesynth.study.spec import StudySpec

BASELINE = "real"


def digest(*parts: object) -> str:
    """A name of ten hexadecimal digits for whatever depends on ``parts``."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:10]


# --- Subjects, nobody of whom is in both training and test -----------------------------------------------------------


@dataclass(frozen=True)
class Subjects:
    """The rows of the dataset that a study uses."""

    data: Path
    data_hash: str
    train: tuple[SubjectRow, ...]
    """The training group, in the order in which subjects join the labelled ones."""
    tests: dict[str, tuple[SubjectRow, ...]]

    def labelled(self, n_labelled: int | str) -> tuple[SubjectRow, ...]:
        """The first ``n_labelled`` subjects of the training group, or all of them."""
        return self.train if n_labelled == "all" else self.train[: int(n_labelled)]


def subject_name(row: SubjectRow) -> str:
    """A name that is unique in a dataset: ``DATASET_SUBJECT``."""
    return f"{row.dataset}_{row.subject}"


def subjects_of(spec: StudySpec) -> Subjects:
    """The subjects of a study.

    `InputError` if a group is empty or the training group too small. `DataError` if one person, under whatever names,
    is in training and test, or if a vendor of an ``unseen`` group is in the training group.
    """
    annotated = [row for row in DatasetTable.read(spec.data) if row.labelled_frames > 0]
    train = stratified_order(spec.train.select(annotated))
    tests = {name: tuple(group.select(annotated)) for name, group in spec.tests.items()}
    for name, rows in {"train": train, **tests}.items():
        if not rows:
            hint = "compare its datasets, vendors and splits with the table of the dataset"
            raise InputError(f"no labelled subject in {spec.data} matches {name}", hint=hint)
    for count in spec.n_labelled:
        if count != "all" and count > len(train):
            raise InputError(
                f"n_labelled asks for {count} subjects, but the training group has {len(train)}",
                hint=f"ask for at most {len(train)}, or widen train",
            )
    known = {row.vendor for row in train}
    for name, group in spec.tests.items():
        if group.unseen and (seen := sorted(known & {row.vendor for row in tests[name]})):
            raise DataError(
                f"test group {name} is marked unseen, but {', '.join(seen)} is in the training group",
                hint="exclude these vendors from train or from the group",
            )
    _check_disjoint(spec.data, train, [row for rows in tests.values() for row in rows])
    return Subjects(spec.data, data_hash(spec.data), tuple(train), tests)


def stratified_order(rows: Sequence[SubjectRow]) -> list[SubjectRow]:
    """The rows in an order in which every prefix has the strata (vendor and group) in proportion."""
    shuffled = sorted(rows, key=lambda row: shuffle_key(subject_name(row)))
    strata: dict[str, list[SubjectRow]] = {}
    for row in shuffled:
        strata.setdefault(row.stratum, []).append(row)
    quantiles = {
        subject_name(row): (i + 0.5) / len(stratum) for stratum in strata.values() for i, row in enumerate(stratum)
    }
    return sorted(shuffled, key=lambda row: quantiles[subject_name(row)])


def _check_disjoint(data: Path, train: Sequence[SubjectRow], tested: Sequence[SubjectRow]) -> None:
    rows = [*train, *{subject_name(row): row for row in tested}.values()]
    persons = group_by_person([sketch(load_study(data, row)) for row in rows])
    owners = {person: row for person, row in zip(persons[: len(train)], train, strict=True)}
    for person, row in zip(persons[len(train) :], rows[len(train) :], strict=True):
        if person in owners:
            raise DataError(
                f"test subject {subject_name(row)} is also in the training group (as {subject_name(owners[person])})",
                hint="choose training and test groups that differ in vendors, datasets or splits",
            )


# --- Arms and training runs ------------------------------------------------------------------------------------------


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

    def label_file(self, group: str, row: SubjectRow) -> Path:
        """The file of the predicted labels of a test subject."""
        return self.folder / "labels" / f"{group}_{subject_name(row)}.npz"


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


def hearts_of(ratio: float, labelled: int) -> int:
    """Number of generated hearts for ``labelled`` subjects at a ratio, rounded half up; at least one."""
    return max(1, math.floor(ratio * labelled + 0.5))


def task_of(spec: StudySpec, subjects: Subjects, run: TrainingRun, dataset: Path, folder: Path) -> SegmenterTask:
    """What the segmenter of ``run`` learns from.

    The digest in its folder's name covers everything the segmenter depends on: subjects, hearts, engine and code. The
    name of the scores file has a digest of the test subjects: if only these change, the segmenter is tested again.
    """
    rows = DatasetTable.read(dataset).rows
    real = [row for row in rows if row.dataset != GENERATED]
    hearts = [row for row in rows if row.dataset == GENERATED]
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
