"""Who is learned from and who is tested: groups that grow, and nobody on both sides."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cinesynth.data.dataset_table import DatasetTable, SubjectRow
from cinesynth.data.ingest import ingest
from cinesynth.data.packed import load_study
from cinesynth.data.phantom import read_phantoms
from cinesynth.errors import DataError, InputError
from cinesynth.study.datasets import pool, regime
from cinesynth.study.generator import train_generator
from cinesynth.study.run import StudyRun
from cinesynth.study.spec import GeneratorSpec, StudySpec, UNetSpec, read_spec
from cinesynth.study.subjects import in_turn, people_of
from cinesynth.types import Diagnosis

EXAMPLES = Path(__file__).parents[2] / "examples"
STUDY = """
data: people
train: {vendors: [phantom-A, phantom-B], splits: [train]}
tests:
  home: {vendors: [phantom-A, phantom-B], splits: [validation, test]}
  away: {vendors: [phantom-C], unseen: true}
people: [4, all]
"""


def spec_of(data: Path, text: str = STUDY) -> StudySpec:
    path = data.parent / "study.yaml"
    path.write_text(text)
    return read_spec(path)


@pytest.mark.parametrize("name", ["study", "study-pilot"])
def test_the_examples_can_be_read(name: str) -> None:
    spec = read_spec(EXAMPLES / f"{name}.yaml")
    assert spec.generator.config.grid.size[2] >= 15  # M&Ms has hearts of 15 slices
    assert spec.data == EXAMPLES / "../hearts"


def test_smaller_groups_are_part_of_larger_ones_and_nobody_is_on_both_sides(twenty: Path) -> None:
    people = people_of(spec_of(twenty))
    few, everybody = people.labelled(4), people.labelled("all")
    assert everybody[:4] == few
    assert {row.vendor for row in everybody} == {"phantom-A", "phantom-B"}
    assert not {row.sha256 for row in everybody} & {row.sha256 for rows in people.tests.values() for row in rows}
    assert {row.vendor for row in people.tests["away"]} == {"phantom-C"}


def test_every_beginning_has_the_strata_in_proportion(twenty: Path) -> None:
    rows = [
        replace(row, vendor="A" if i % 4 else "B", group="") for i, row in enumerate(DatasetTable.read(twenty).rows)
    ]
    ordered = in_turn([replace(row, diagnosis=Diagnosis.UNKNOWN) for row in rows])
    for count in (4, 8, 12, 20):
        assert sum(row.vendor == "B" for row in ordered[:count]) in (count // 4, count // 4 + (count % 4 > 0)), count


def test_one_person_under_two_names_is_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    source = read_phantoms(6, frames=6)
    studies = [replace(source.read(name), dataset="people", subject=f"p{i}") for i, name in enumerate(source.names)]
    studies = [
        replace(s, image=s.image + rng.normal(0, 1, s.image.shape), vendor="V" if i < 4 else "W")
        for i, s in enumerate(studies)
    ]
    studies.append(replace(studies[0], subject="again", vendor="W"))
    ingest(studies, tmp_path / "people")
    text = STUDY.replace("phantom-A, phantom-B", "V").replace("phantom-C", "W").replace(", splits: [train]", "")
    text = text.replace("  home: {vendors: [V], splits: [validation, test]}\n", "").replace("people: [4, all]", "")
    with pytest.raises(DataError, match="people_again is tested and learned from"):
        people_of(spec_of(tmp_path / "people", text))


def test_a_vendor_that_is_called_unseen_must_be(twenty: Path) -> None:
    with pytest.raises(DataError, match="home is called unseen, but phantom-A, phantom-B is learned from"):
        people_of(spec_of(twenty, STUDY.replace("test]}", "test], unseen: true}")))


def test_hearts_that_fit_no_grid_are_told_before_anything_is_trained(twenty: Path, tmp_path: Path) -> None:
    spec = spec_of(twenty, STUDY)
    small = spec.model_copy(update={"engine": UNetSpec(preset="smoke", set=("grid.size=[64, 64, 4]",))})
    with pytest.raises(DataError, match="96x96x4 voxels"):
        StudyRun(small, tmp_path, lambda *_: None).pool("all")
    assert not any((tmp_path / made).exists() for made in ("regimes", "generators"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("people: [4, all]", "people: [400]"), "400 people are to be labelled, the training group has"),
        (("phantom-C", "nobody"), "nobody in .* with labels belongs to away"),
        (("people: [4, all]", "people: [4, 4]"), "each once"),
        (("people: [4, all]", "judged_ratio: 3"), "judged_ratio 3 is none of the ratios"),
        (("tests:", "test:"), "tests: Field required"),
        (("away:", "a/b:"), "'a/b' is no name of a group"),
        (("data: people", "- x"), "cannot be read|holds no settings"),
    ],
)
def test_what_cannot_be_studied_is_refused(twenty: Path, change: tuple[str, str], said: str) -> None:
    with pytest.raises(InputError, match=said):
        people_of(spec_of(twenty, STUDY.replace(*change)))


def test_a_generator_sees_labels_of_the_labelled_alone(twenty: Path, tmp_path: Path) -> None:
    people = people_of(spec_of(twenty))
    few = people.labelled(4)
    data = regime(people, few, GeneratorSpec(), tmp_path / "4")
    rows = DatasetTable.read(data).rows
    assert {row.subject for row in rows} == {row.subject for row in people.train}
    assert {row.split for row in rows} == {"train", "validation"}
    known = {row.subject for row in few}
    for row in rows:
        study, before = load_study(data, row), load_study(twenty, _named(people.train, row.subject))
        assert np.array_equal(study.image, before.image)
        assert bool(study.label.any()) == (row.subject in known)
        assert bool(study.coverage.any()) == (row.subject in known)
        assert (study.diagnosis is Diagnosis.UNKNOWN) == (row.subject not in known)
        assert row.split == "train" or row.subject in known  # nobody without labels validates
    beside = DatasetTable.read(regime(people, few, GeneratorSpec(phantoms=5), tmp_path / "phantoms")).rows
    assert [(row.dataset, row.split) for row in beside[len(rows) :]] == [("phantom", "train")] * 5
    alone = DatasetTable.read(regime(people, few, GeneratorSpec(unlabelled=False), tmp_path / "alone")).rows
    assert {row.subject for row in alone} == known
    assert regime(people, few, GeneratorSpec(), tmp_path / "4") == data  # there already
    assert regime(people, people.labelled("all"), GeneratorSpec(), tmp_path / "4") != data


def test_a_generator_starts_from_nobodys_heart(twenty: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot start from small: it has learned from acdc"):
        train_generator(GeneratorSpec(initial="small"), twenty, tmp_path / "4", lambda *_: None)
    assert GeneratorSpec(initial="phantom").resolved() != GeneratorSpec().resolved()


def test_segmenters_learn_from_the_labelled_and_the_generated(twenty: Path, tmp_path: Path) -> None:
    people = people_of(spec_of(twenty))
    made = pool(people, people.labelled(4), [], tmp_path / "4")
    assert [row.subject for row in DatasetTable.read(made)] == [row.subject for row in people.labelled(4)]


def test_two_units_may_make_one_dataset_at_once(twenty: Path, tmp_path: Path) -> None:
    people, faster = people_of(spec_of(twenty)), []

    def meanwhile(done: int, total: int, name: str) -> None:
        if done == total:
            faster.append(pool(people, people.labelled(4), [], tmp_path / "4"))

    made = pool(people, people.labelled(4), [], tmp_path / "4", meanwhile)
    assert faster == [made]
    assert len(DatasetTable.read(made).rows) == 4
    assert [path.name for path in tmp_path.iterdir()] == [made.name]


def _named(rows: Sequence[SubjectRow], subject: str) -> SubjectRow:
    (row,) = [row for row in rows if row.subject == subject]
    return row
