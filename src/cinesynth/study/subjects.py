"""Who is learned from and who is tested; nobody is both."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cinesynth.data.dataset_table import DatasetTable, SubjectRow, data_hash
from cinesynth.data.duplicates import group_by_person, sketch
from cinesynth.data.geometry import Grid, place
from cinesynth.data.packed import load_study
from cinesynth.errors import DataError, InputError
from cinesynth.io.seeds import shuffle_key
from cinesynth.study.spec import StudySpec


@dataclass(frozen=True)
class People:
    """The rows of the dataset that a study uses."""

    data: Path
    data_hash: str
    train: tuple[SubjectRow, ...]
    """Who may be learned from, in the order in which more and more of them are labelled."""
    tests: dict[str, tuple[SubjectRow, ...]]

    def labelled(self, people: int | str) -> tuple[SubjectRow, ...]:
        """The first ``people`` of them, or all."""
        return self.train if people == "all" else self.train[: int(people)]


def name_of(row: SubjectRow) -> str:
    """A person of a study."""
    return f"{row.dataset}_{row.subject}"


def people_of(spec: StudySpec) -> People:
    """The people of a study. `InputError` where a group is empty, or too few are there to be labelled; `DataError`
    where somebody, under whatever name, is learned from and tested, or a vendor that is called unseen is not."""
    manifest = DatasetTable.read(spec.data)
    annotated = [row for row in manifest if row.labelled_frames > 0]
    train = in_turn(spec.train.among(annotated))
    tests = {name: tuple(group.among(annotated)) for name, group in spec.tests.items()}
    for name, rows in {"train": train, **tests}.items():
        if not rows:
            raise InputError(f"nobody in {spec.data} with labels belongs to {name}", hint="see its dataset.csv")
    for count in spec.people:
        if count != "all" and count > len(train):
            raise InputError(
                f"{count} people are to be labelled, the training group has {len(train)}", hint="ask for fewer"
            )
    known = {row.vendor for row in train}
    for name, group in spec.tests.items():
        if group.unseen and (seen := sorted(known & {row.vendor for row in tests[name]})):
            raise DataError(
                f"{name} is called unseen, but {', '.join(seen)} is learned from", hint="leave it out of train"
            )
    _check_apart(spec.data, train, [row for rows in tests.values() for row in rows])
    return People(spec.data, data_hash(spec.data), tuple(train), tests)


def check_fit(people: People, grids: Iterable[Grid]) -> None:
    """`DataError` where somebody who may be learned from does not fit one of the ``grids``: before any training."""
    for row in people.train:
        study = load_study(people.data, row)
        for grid in grids:
            place(study, grid)


def in_turn(rows: Sequence[SubjectRow]) -> list[SubjectRow]:
    """The rows so that every beginning of the list has the strata (vendor and group) in proportion."""
    strata: dict[str, list[SubjectRow]] = {}
    for row in sorted(rows, key=_shuffled):
        strata.setdefault(row.stratum, []).append(row)
    places = {name_of(r): (i + 0.5) / len(stratum) for stratum in strata.values() for i, r in enumerate(stratum)}
    return sorted(rows, key=lambda row: (places[name_of(row)], _shuffled(row)))


def _shuffled(row: SubjectRow) -> str:
    return shuffle_key(name_of(row))


def _check_apart(data: Path, train: Sequence[SubjectRow], tested: Sequence[SubjectRow]) -> None:
    rows = [*train, *{name_of(row): row for row in tested}.values()]
    persons = group_by_person([sketch(load_study(data, row)) for row in rows])
    owners = {person: row for person, row in zip(persons[: len(train)], train, strict=True)}
    for person, row in zip(persons[len(train) :], rows[len(train) :], strict=True):
        if person in owners:
            raise DataError(
                f"{name_of(row)} is tested and learned from (as {name_of(owners[person])})",
                hint="let the groups differ in vendors, datasets or splits",
            )
