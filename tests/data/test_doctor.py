"""The doctor: a sound dataset passes, and each thing that can be wrong with one is found and named."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cinesynth.cli import main
from cinesynth.data.dataset_table import DatasetTable, describe
from cinesynth.data.doctor import Checkup, examine
from cinesynth.data.duplicates import find_duplicates, sketch
from cinesynth.data.findings import Finding
from cinesynth.data.geometry import Grid
from cinesynth.data.ingest import ingest
from cinesynth.data.store import write_study
from cinesynth.errors import DataError
from cinesynth.types import Label, Study
from tests.cases.exports import small

GRID = Grid((64, 64, 8), (2.5, 2.5, 10.0))


def person(subject: str, seed: int, **changes: object) -> Study:
    """A drawn heart in a chest of its own: coarse random structure that is unlike any other's."""
    study = small(subject)
    chest = np.random.default_rng(seed).normal(size=(8, 8, 4))
    coarse = np.kron(chest, np.ones((5, 5, 1)))[:40, :38]
    return replace(study, image=(2 * study.image + 150 * (coarse + 4)).astype(np.int16), **changes)


def dataset_of(folder: Path, studies: list[Study], splits: list[str] | None = None) -> Path:
    """A dataset of ``studies``, put into splits by hand."""
    ingest(studies, folder)
    if splits:
        rows = DatasetTable.read(folder).rows
        DatasetTable(tuple(replace(r, split=s) for r, s in zip(rows, splits, strict=True))).write(folder)
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Twelve persons in three splits."""
    return dataset_of(tmp_path / "data", [person(f"s{i:02d}", i) for i in range(12)])


def found(checkup: Checkup, *, serious: bool) -> list[tuple[str, str]]:
    return [(f.about, f.text) for f in beyond_measures(checkup) if f.serious is serious]


def beyond_measures(checkup: Checkup) -> list[Finding]:
    """The findings but for measures outside of their limits: drawn hearts are small and have few frames."""
    return [finding for finding in checkup.findings if "(expected" not in finding.text]


def rewrite(folder: Path, number: int, study: Study) -> None:
    """Replace a study and its row, as an ingestion would have written them."""
    rows = list(DatasetTable.read(folder).rows)
    old = rows[number]
    digest = write_study(folder / old.file, study)
    rows[number] = describe(study, old.split, old.file, digest)
    DatasetTable(tuple(rows)).write(folder)


def test_a_sound_dataset_has_no_findings(data: Path) -> None:
    seen: list[tuple[int, int, str]] = []
    checkup = examine(data, GRID, lambda *step: seen.append(step))
    assert beyond_measures(checkup) == []
    assert seen[-1] == ("doctor", 12, 12, {})
    train = checkup.tallies["train", "drawn"]
    assert train.subjects == train.whole_cycles == sum(row.split == "train" for row in DatasetTable.read(data))
    assert (train.frames, train.labelled_frames) == (4 * train.subjects, 2 * train.subjects)
    assert [train.coverage_percent(structure) for structure in (Label.RV, Label.MYO, Label.LV)] == [100.0] * 3
    assert train.known == {name: train.subjects for name in ("edv", "ef", "diagnosis", "frame time")}
    assert checkup.origins["drawn"] == {"ED, ES: metadata": 12, "slices: declared": 12}


def test_notes_and_reported_volumes_are_told(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    noted = person("s99", 99, reported_lv_edv_ml=150.0, notes=("left out 8 images (a copy)", "[b]more"))
    ingest([noted], data)
    checkup = examine(data, GRID)
    assert beyond_measures(checkup) == []
    assert checkup.notes == {"drawn s99": ("left out 8 images (a copy)", "[b]more")}
    assert sum(tally.known["reported edv"] for tally in checkup.tallies.values()) == 1
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr("sys.argv", ["cinesynth", "doctor", str(data)])
    assert exit_code() == 0
    assert "left out 8 images (a copy); [b]more" in capsys.readouterr().out


def test_partial_labels_are_counted(data: Path) -> None:
    study = person("s00", 0)
    coverage, label = study.coverage.copy(), study.label.copy()
    coverage[..., 0] = False
    label[label == Label.RV] = 0
    coverage[study.es_index, :2, 1] = False
    label[study.es_index, ..., :2][label[study.es_index, ..., :2] == Label.MYO] = 0
    rewrite(data, 0, replace(study, coverage=coverage, label=label))
    tally = examine(dataset_of(data.parent / "one", [replace(study, coverage=coverage, label=label)]), GRID).tallies
    (one,) = tally.values()
    assert [one.coverage_percent(structure) for structure in (Label.RV, Label.MYO, Label.LV)] == [0.0, 75.0, 100.0]
    assert examine(data, GRID).serious == []


def test_damage_is_found_subject_by_subject(data: Path) -> None:
    rows = DatasetTable.read(data).rows
    (data / rows[2].file).unlink()
    with (data / rows[5].file).open("r+b") as file:
        file.seek(5000)
        file.write(b"\xff\xff")
    (data / "studies" / "drawn_other.h5").write_bytes(b"")
    checkup = examine(data, GRID)
    (missing, altered) = found(checkup, serious=True)
    assert missing[0] == "drawn s02"
    assert "is missing" in missing[1]
    assert altered[0] == "drawn s05"
    assert "has changed since it was ingested" in altered[1]
    assert found(checkup, serious=False) == [("studies", "1 files are not listed in dataset.csv: drawn_other.h5 ...")]


def test_an_edited_table_is_found(data: Path) -> None:
    rows = list(DatasetTable.read(data).rows)
    rows[3] = replace(rows[3], lv_edv_ml=120.0, es_index=1)
    DatasetTable(tuple(rows)).write(data)
    assert found(examine(data, GRID), serious=True) == [
        ("drawn s03", "dataset.csv contradicts the study: es_index, lv_edv_ml")
    ]


@pytest.mark.parametrize("grid", [Grid((24, 24, 8), (2.0, 2.0, 10.0)), Grid((64, 64, 3), (2.5, 2.5, 10.0))])
def test_hearts_that_do_not_fit_the_grid_are_told(data: Path, grid: Grid) -> None:
    told = found(examine(data, grid), serious=True)
    assert [about for about, _ in told] == [f"drawn s{i:02d}" for i in range(12)]
    assert all("does not fit the grid" in text for _, text in told)


def test_odd_geometry_and_labels_ask_for_a_look(data: Path) -> None:
    study = person("s00", 0)
    skewed = study.affine.copy()
    skewed[0, 1] = 0.2
    label = study.label.copy()
    label[0][label[0] == Label.RV] = 0
    rewrite(data, 0, replace(study, affine=skewed, label=label))
    rewrite(data, 1, person("s01", 1, ed_index=2, es_index=0))
    checkup = examine(data, GRID)
    ((exchanged, stops),) = found(checkup, serious=True)
    assert exchanged == "drawn s01"
    assert "ED and ES are exchanged: the LV has 16.1 mL at ED (frame 2) and 38.3 mL at ES (frame 0)" in stops
    about, told = zip(*found(checkup, serious=False), strict=True)
    assert about == ("drawn s00", "drawn s00")
    assert "not perpendicular" in told[0]
    assert told[1] == "RV was annotated at ED but has no voxels"


@pytest.mark.parametrize("apart", [True, False])
def test_one_person_under_two_names_is_found(tmp_path: Path, apart: bool) -> None:
    """Rescaled, turned, cut at both ends and in another dataset: still the same images."""
    first = person("anna", 1)
    cut = {
        "image": (40 + 0.1 * first.image[:, ::-1, :, 1:]).astype(np.uint8),
        "label": first.label[:, ::-1, :, 1:],
        "coverage": first.coverage[:, 1:],
    }
    second = replace(first, subject="hannah", dataset="other", **cut)
    others = [person(f"s{i}", 10 + i) for i in range(4)]
    splits = ["train", "train", "validation", "test", "train", "test" if apart else "train"]
    checkup = examine(dataset_of(tmp_path / "data", [first, *others, second], splits), GRID)
    ((about, text),) = found(checkup, serious=apart)
    assert about == "drawn anna"
    assert "same images as other hannah" in text
    assert ("in train and in test" if apart else "both in train") in text


def test_phantoms_may_look_alike(tmp_path: Path) -> None:
    same = [replace(person(f"p{i}", 1), dataset="phantom") for i in range(3)]
    checkup = examine(dataset_of(tmp_path / "data", same, ["train", "validation", "test"]), GRID)
    assert beyond_measures(checkup) == []


def test_duplicates_by_correlation() -> None:
    sketches = [sketch(person(f"s{i}", i)) for i in range(6)]
    assert find_duplicates(sketches) == []
    assert find_duplicates(sketches[:1]) == find_duplicates([]) == []
    turned = np.ascontiguousarray(sketches[3].transpose(0, 2, 1)[::-1, :, ::-1])
    (pair,) = find_duplicates([*sketches, turned[:2]])
    assert (pair.first, pair.second) == (3, 6)
    assert pair.correlation == pytest.approx(1.0, abs=1e-5)
    flat = np.zeros_like(sketches[0])
    assert find_duplicates([flat, flat]) == []


def test_empty_splits_are_told(tmp_path: Path) -> None:
    data = dataset_of(tmp_path / "data", [person("a", 1), person("b", 2)], ["test", "test"])
    checkup = examine(data, GRID)
    assert found(checkup, serious=True) == [
        ("splits", "train has no subjects"),
        ("splits", "validation has no subjects"),
    ]
    without_test = examine(
        dataset_of(tmp_path / "more", [person("a", 1), person("b", 2)], ["train", "validation"]), GRID
    )
    assert found(without_test, serious=True) == []
    assert found(without_test, serious=False) == [("splits", "test has no subjects")]


def test_a_folder_that_is_not_a_dataset(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a dataset"):
        examine(tmp_path, GRID)


def test_the_verb(data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr("sys.argv", ["cinesynth", "doctor", str(data)])
    assert exit_code() == 0
    assert "nothing stops training; 36 findings ask for a look" in capsys.readouterr().out
    (data / DatasetTable.read(data).rows[0].file).unlink()
    assert exit_code() == 3
    told = capsys.readouterr()
    assert "is missing" in told.out
    assert "1 finding in" in told.err
    assert "hint:" in told.err


def exit_code() -> int:
    try:
        main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


@pytest.mark.slow
def test_acdc_has_one_person_twice(acdc_root: Path, tmp_path: Path) -> None:
    """patient074 and patient076 are the same images, drawn by two hands."""
    from cinesynth.data.sources.acdc import read_acdc

    ingest(read_acdc(acdc_root), tmp_path / "data")
    checkup = examine(tmp_path / "data", Grid((96, 96, 16), (2.0, 2.0, 10.0)))
    pairs = [(f.about, f.text) for f in checkup.findings if "same images" in f.text]
    assert len(pairs) == 1
    assert pairs[0][0] == "acdc patient074"
    assert "acdc patient076" in pairs[0][1]
