"""The training and test subjects of a study, and the check that nobody is in both."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cinesynth.data.dataset_table import DatasetTable, SubjectRow, data_hash
from cinesynth.data.duplicates import group_by_person, sketch
from cinesynth.data.geometry import Grid, place
from cinesynth.data.packed import load_study
from cinesynth.errors import DataError, InputError
from cinesynth.study.spec import StudySpec


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
    manifest = DatasetTable.read(spec.data)
    annotated = [row for row in manifest if row.labelled_frames > 0]
    train = stratified_order(spec.train.select(annotated))
    tests = {name: tuple(group.select(annotated)) for name, group in spec.tests.items()}
    for name, rows in {"train": train, **tests}.items():
        if not rows:
            raise InputError(
                f"no labelled subject in {spec.data} matches {name}",
                hint="compare its datasets, vendors and splits with the table of the dataset",
            )
    for count in spec.n_labelled:
        if count != "all" and count > len(train):
            raise InputError(
                f"n_labelled asks for {count} subjects, but the training group has {len(train)}",
                hint=f"ask for at most {len(train)}, or widen train",
            )
    _check_unseen(spec, train, tests)
    _check_disjoint(spec.data, train, [row for rows in tests.values() for row in rows])
    return Subjects(spec.data, data_hash(spec.data), tuple(train), tests)


def check_fit(subjects: Subjects, grids: Iterable[Grid]) -> None:
    """`DataError` if a training subject does not fit one of the ``grids``; call it before any training."""
    for row in subjects.train:
        study = load_study(subjects.data, row)
        for grid in grids:
            place(study, grid)


def stratified_order(rows: Sequence[SubjectRow]) -> list[SubjectRow]:
    """The rows in an order in which every prefix has the strata (vendor and group) in proportion."""
    strata: dict[str, list[SubjectRow]] = {}
    for row in sorted(rows, key=_shuffle_key):
        strata.setdefault(row.stratum, []).append(row)
    quantiles = {
        subject_name(row): (i + 0.5) / len(stratum) for stratum in strata.values() for i, row in enumerate(stratum)
    }
    return sorted(rows, key=lambda row: (quantiles[subject_name(row)], _shuffle_key(row)))


def _shuffle_key(row: SubjectRow) -> str:
    return hashlib.sha256(subject_name(row).encode()).hexdigest()


def _check_unseen(spec: StudySpec, train: Sequence[SubjectRow], tests: dict[str, tuple[SubjectRow, ...]]) -> None:
    known = {row.vendor for row in train}
    for name, group in spec.tests.items():
        if group.unseen and (seen := sorted(known & {row.vendor for row in tests[name]})):
            raise DataError(
                f"test group {name} is marked unseen, but {', '.join(seen)} is in the training group",
                hint="exclude these vendors from train or from the group",
            )


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
