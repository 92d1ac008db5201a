"""Training and test subjects: groups that grow, and nobody in both."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cinesynth.data.dataset_table import DatasetTable, SubjectRow
from cinesynth.data.ingest import ingest
from cinesynth.data.packed import load_study
from cinesynth.data.phantom import read_phantoms
from cinesynth.errors import DataError, InputError
from cinesynth.io.tasks import no_progress
from cinesynth.study.generation import generator_dataset, segmenter_dataset, train_generator
from cinesynth.study.plan import stratified_order, subjects_of
from cinesynth.study.run import StudyRun
from cinesynth.study.spec import CohortSpec, GeneratorSpec, MixSpec, StudySpec, UNetSpec, read_spec
from cinesynth.types import Diagnosis

EXAMPLES = Path(__file__).parents[2] / "examples"
STUDY = """
data: people
train: {vendors: [phantom-A, phantom-B], splits: [train]}
tests:
  home: {vendors: [phantom-A, phantom-B], splits: [validation, test]}
  away: {vendors: [phantom-C], unseen: true}
n_labelled: [4, all]
"""


def spec_of(data: Path, text: str = STUDY) -> StudySpec:
    path = data.parent / "study.yaml"
    path.write_text(text)
    return read_spec(path)


OLD_EXAMPLE = """
# Do generated hearts help on scanners that nobody learned from? cinesynth study examples/study.yaml --out study
data: ../hearts # of cinesynth ingest: ACDC, M&Ms and Sunnybrook in one dataset
train: {datasets: [acdc, mnms_edes], vendors: [Siemens], splits: [train]}
tests:
  Siemens: {datasets: [acdc, mnms_edes], vendors: [Siemens], splits: [test]}
  Philips: {vendors: [Philips], unseen: true}
  GE: {datasets: [scd_edes], vendors: [GE], unseen: true}
people: [10, 20, 40, all]
ratios: [0.5, 1, 2, 4]
judged_ratio: 1
seeds: [0, 1, 2]
engine: {name: unet, preset: compact}
# engine: {name: nnunet, configuration: 2d, epochs: 100, device: cuda}
generator: {preset: compact, unlabelled: true}
cohort: {frames: 12}
"""


def test_study_files_of_an_earlier_release_are_read(tmp_path: Path) -> None:
    today = read_spec(EXAMPLES / "study.yaml")
    assert spec_of(tmp_path / "x", OLD_EXAMPLE).model_copy(update={"data": today.data}) == today
    more = OLD_EXAMPLE.replace("{frames: 12}", "{control: false, tries: 1}")
    more += "mix: {agreeing: 0.25, surroundings: true, people_share: 0.5}"
    spec = spec_of(tmp_path / "x", more)
    assert spec.cohort == CohortSpec(match_volumes=False, max_attempts=1)
    assert spec.mix == MixSpec(keep_best_fraction=0.25, paste_on_real_background=True, real_fraction=0.5)


def test_a_key_under_both_names_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="people: Extra inputs are not permitted"):
        spec_of(tmp_path / "x", OLD_EXAMPLE + "n_labelled: [10]")


@pytest.mark.parametrize("name", ["study", "study-pilot"])
def test_the_examples_can_be_read(name: str) -> None:
    spec = read_spec(EXAMPLES / f"{name}.yaml")
    assert spec.generator.config.grid.size[2] >= 15  # M&Ms has hearts of 15 slices
    assert spec.data == EXAMPLES / "../hearts"


def test_smaller_groups_are_subsets_and_nobody_is_in_training_and_test(twenty: Path) -> None:
    subjects = subjects_of(spec_of(twenty))
    few, everybody = subjects.labelled(4), subjects.labelled("all")
    assert everybody[:4] == few
    assert {row.vendor for row in everybody} == {"phantom-A", "phantom-B"}
    assert not {row.sha256 for row in everybody} & {row.sha256 for rows in subjects.tests.values() for row in rows}
    assert {row.vendor for row in subjects.tests["away"]} == {"phantom-C"}


def test_every_prefix_has_the_strata_in_proportion(twenty: Path) -> None:
    rows = [
        replace(row, vendor="A" if i % 4 else "B", group="") for i, row in enumerate(DatasetTable.read(twenty).rows)
    ]
    ordered = stratified_order([replace(row, diagnosis=Diagnosis.UNKNOWN) for row in rows])
    for count in (4, 8, 12, 20):
        assert sum(row.vendor == "B" for row in ordered[:count]) in (count // 4, count // 4 + (count % 4 > 0)), count


def test_one_person_under_two_names_is_found(tmp_path: Path) -> None:
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
    text = text.replace("  home: {vendors: [V], splits: [validation, test]}\n", "").replace("n_labelled: [4, all]", "")
    with pytest.raises(DataError, match="test subject people_again is also in the training group"):
        subjects_of(spec_of(tmp_path / "people", text))


def test_an_unseen_vendor_must_not_be_in_the_training_group(twenty: Path) -> None:
    with pytest.raises(
        DataError, match="test group home is marked unseen, but phantom-A, phantom-B is in the training group"
    ):
        subjects_of(spec_of(twenty, STUDY.replace("test]}", "test], unseen: true}")))


def test_hearts_that_do_not_fit_the_grid_are_reported_before_training(twenty: Path, tmp_path: Path) -> None:
    spec = spec_of(twenty, STUDY)
    small = spec.model_copy(update={"engine": UNetSpec(preset="smoke", set=("grid.size=[64, 64, 4]",))})
    with pytest.raises(DataError, match="96x96x4 voxels"):
        StudyRun(small, tmp_path, no_progress).segmenter_dataset("all")
    assert not any((tmp_path / made).exists() for made in ("generator-datasets", "generators"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("n_labelled: [4, all]", "n_labelled: [400]"), "n_labelled asks for 400 subjects, but the training group has"),
        (("phantom-C", "nobody"), "no labelled subject in .* matches away"),
        (("n_labelled: [4, all]", "n_labelled: [4, 4]"), "each value once"),
        (("n_labelled: [4, all]", "primary_ratio: 3"), "primary_ratio 3 must be one of the ratios"),
        (("tests:", "test:"), "tests: Field required"),
        (("away:", "a/b:"), "'a/b' is not a valid group name"),
        (("data: people", "- x"), "cannot be read|holds no settings"),
    ],
)
def test_invalid_studies_are_rejected(twenty: Path, change: tuple[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        subjects_of(spec_of(twenty, STUDY.replace(*change)))


def test_a_generator_sees_labels_of_the_labelled_subjects_only(twenty: Path, tmp_path: Path) -> None:
    subjects = subjects_of(spec_of(twenty))
    few = subjects.labelled(4)
    data = generator_dataset(subjects, few, GeneratorSpec(), tmp_path / "4")
    rows = DatasetTable.read(data).rows
    assert {row.subject for row in rows} == {row.subject for row in subjects.train}
    assert {row.split for row in rows} == {"train", "validation"}
    known = {row.subject for row in few}
    for row in rows:
        study, before = load_study(data, row), load_study(twenty, _named(subjects.train, row.subject))
        assert np.array_equal(study.image, before.image)
        assert bool(study.label.any()) == (row.subject in known)
        assert bool(study.coverage.any()) == (row.subject in known)
        assert (study.diagnosis is Diagnosis.UNKNOWN) == (row.subject not in known)
        assert row.split == "train" or row.subject in known  # subjects without labels are never in validation
    beside = DatasetTable.read(generator_dataset(subjects, few, GeneratorSpec(phantoms=5), tmp_path / "phantoms")).rows
    assert [(row.dataset, row.split) for row in beside[len(rows) :]] == [("phantom", "train")] * 5
    alone = DatasetTable.read(
        generator_dataset(subjects, few, GeneratorSpec(unlabelled=False), tmp_path / "alone")
    ).rows
    assert {row.subject for row in alone} == known
    assert generator_dataset(subjects, few, GeneratorSpec(), tmp_path / "4") == data  # exists already
    assert generator_dataset(subjects, subjects.labelled("all"), GeneratorSpec(), tmp_path / "4") != data


def test_a_generator_may_start_from_phantoms_only(twenty: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot start from small, which was trained on acdc"):
        train_generator(GeneratorSpec(initial="small"), twenty, tmp_path / "4", no_progress)
    assert GeneratorSpec(initial="phantom").resolved() != GeneratorSpec().resolved()


def test_segmenters_learn_from_labelled_subjects_and_generated_hearts(twenty: Path, tmp_path: Path) -> None:
    subjects = subjects_of(spec_of(twenty))
    made = segmenter_dataset(subjects, subjects.labelled(4), [], tmp_path / "4")
    assert [row.subject for row in DatasetTable.read(made)] == [row.subject for row in subjects.labelled(4)]


def test_two_units_may_write_one_dataset_at_once(twenty: Path, tmp_path: Path) -> None:
    subjects, faster = subjects_of(spec_of(twenty)), []

    def meanwhile(task: str, done: int, total: int, metrics: Mapping[str, float]) -> None:
        if done == total:
            faster.append(segmenter_dataset(subjects, subjects.labelled(4), [], tmp_path / "4"))

    made = segmenter_dataset(subjects, subjects.labelled(4), [], tmp_path / "4", meanwhile)
    assert faster == [made]
    assert len(DatasetTable.read(made).rows) == 4
    assert [path.name for path in tmp_path.iterdir()] == [made.name]


def _named(rows: Sequence[SubjectRow], subject: str) -> SubjectRow:
    (row,) = [row for row in rows if row.subject == subject]
    return row
