"""One person under two names is found, however the copy was made, and stays in one split."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cinesynth.data.dataset_table import DatasetTable
from cinesynth.data.duplicates import find_duplicates, group_by_person, sketch
from cinesynth.data.ingest import ingest
from cinesynth.data.phantom import read_phantoms
from cinesynth.data.sources.acdc import read_acdc
from cinesynth.types import Study

MakeStudy = Callable[..., Study]
ALL_TRAIN, ALL_TEST = (1.0, 0.0, 0.0), (0.0, 0.0, 1.0)


def copy_of(study: Study, name: str) -> Study:
    """The same images as another export would hold them: turned, rescaled, and without the last slice."""
    turned = (np.ascontiguousarray(a[:, ::-1, :, :-1]) for a in (study.image, study.label))
    image, label = turned
    return replace(study, subject=name, image=3 * image + 40, label=label, coverage=study.coverage[:, :-1])


def splits_of(folder: Path) -> dict[str, str]:
    return {row.subject: row.split for row in DatasetTable.read(folder)}


def test_a_copy_of_a_copy_is_the_same_person(make_study: MakeStudy) -> None:
    anna, ben = make_study("anna"), make_study("ben")
    again = copy_of(anna, "carl")
    persons = group_by_person([sketch(s) for s in (anna, ben, again, copy_of(again, "dora"))])
    assert persons[0] == persons[2] == persons[3] != persons[1]


def test_twins_of_one_ingestion_are_in_one_split(make_study: MakeStudy, tmp_path: Path) -> None:
    people = [make_study(f"s{i}") for i in range(10)]
    copies = [copy_of(study, f"copy-{study.subject}") for study in people]
    ingest([*people, *copies], tmp_path / "data")
    splits = splits_of(tmp_path / "data")
    assert all(splits[f"copy-s{i}"] == splits[f"s{i}"] for i in range(10))
    assert set(splits.values()) == {"train", "validation", "test"}


@pytest.mark.parametrize("fractions", [ALL_TRAIN, ALL_TEST])
def test_a_late_twin_joins_whoever_was_there_first(
    make_study: MakeStudy, tmp_path: Path, fractions: tuple[float, float, float]
) -> None:
    anna = make_study("anna")
    ingest([anna], tmp_path / "data", fractions=fractions)
    ours = splits_of(tmp_path / "data")["anna"]
    other = ALL_TEST if fractions is ALL_TRAIN else ALL_TRAIN
    late = replace(copy_of(anna, "carl"), dataset="elsewhere")
    ingest([late, make_study("ben", dataset="elsewhere")], tmp_path / "data", fractions=other)
    splits = splits_of(tmp_path / "data")
    assert splits["carl"] == ours != splits["ben"]


def test_analytic_hearts_are_nobody(tmp_path: Path) -> None:
    phantoms = [replace(s, subject=f"{s.subject}-{i}") for i in range(2) for s in read_phantoms(2, frames=6)]
    assert find_duplicates([sketch(s) for s in phantoms]) == []
    assert len(set(group_by_person([sketch(s) for s in phantoms]))) == 4


def test_the_two_names_of_one_acdc_patient_are_found_and_nobody_else(cine_data: Path) -> None:
    """ACDC's patient074 and patient076 hold the same images."""
    source = read_acdc(cine_data / "acdc")
    twins = find_duplicates([sketch(study) for study in source])
    assert [(source.names[t.first], source.names[t.second]) for t in twins] == [("patient074", "patient076")]
