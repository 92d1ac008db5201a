"""Ingestion: all studies or none, the same data the same hash, and nobody in two splits."""

import errno
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cinesynth.data.dataset_table import FRACTIONS, SPLITS, DatasetTable, data_hash
from cinesynth.data.ingest import ingest
from cinesynth.data.phantom import read_phantoms
from cinesynth.data.sources import Source
from cinesynth.data.sources.acdc import read_acdc
from cinesynth.data.store import read_study
from cinesynth.errors import DataError, InputError, OutputError
from cinesynth.types import Diagnosis, Study
from tests.limits import files_below
from tests.real_subjects import acdc_patients

MakeStudy = Callable[..., Study]


def contents(folder: Path) -> list[str]:
    """Everything below ``folder``, hidden files too."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_a_dataset_of_two_sources(acdc_folder: Path, make_study: MakeStudy, tmp_path: Path) -> None:
    out, seen = tmp_path / "data", []
    first = ingest(read_acdc(acdc_folder), out, progress=lambda *step: seen.append(step))
    assert seen == [("ingest", 1, 2, {}), ("ingest", 2, 2, {})]
    second = ingest([make_study("other1")], out)
    assert (first.total, second.total) == (2, 3)
    rows = DatasetTable.read(out).rows
    assert rows[:2] == first.added
    assert contents(out) == sorted(["dataset.json", "dataset.csv", "studies", *(row.file for row in rows)])
    for row, study in zip(rows[:2], read_acdc(acdc_folder), strict=True):
        stored = read_study(out / row.file)
        assert (stored.image == study.image).all()
        assert (stored.affine == study.affine).all()
    assert first.counts()["acdc", "Siemens", "DCM"].total() == 1
    assert first.file_bytes == sum((out / row.file).stat().st_size for row in first.added)


def test_the_same_data_have_the_same_hash(acdc_folder: Path, tmp_path: Path) -> None:
    for name in "ab":
        ingest(read_acdc(acdc_folder), tmp_path / name)
    assert data_hash(tmp_path / "a") == data_hash(tmp_path / "b")
    ingest(read_acdc(acdc_folder), tmp_path / "c", seed=5, fractions=(0.0, 0.0, 1.0))
    assert data_hash(tmp_path / "a") != data_hash(tmp_path / "c")


def test_splits_are_stratified_and_stay(make_study: MakeStudy, tmp_path: Path) -> None:
    groups = [d for d in Diagnosis if d is not Diagnosis.UNKNOWN]
    studies = [make_study(f"s{i:02d}", groups[i % 5], (32, 32, 3), (5.0, 5.0, 10.0), 2) for i in range(30)]
    ingest(studies[:20], tmp_path / "data")
    before = {row.subject: row.split for row in DatasetTable.read(tmp_path / "data")}
    ingest(studies[20:], tmp_path / "data")
    after = {row.subject: row.split for row in DatasetTable.read(tmp_path / "data")}
    assert before.items() <= after.items()
    assert Counter(after.values()) == {"train": 21, "validation": 3, "test": 6}


def test_a_bad_study_leaves_nothing(acdc_folder: Path, tmp_path: Path) -> None:
    (acdc_folder / "training/patient002/patient002_frame03_gt.nii.gz").unlink()
    with pytest.raises(DataError, match="patient002_frame03_gt"):
        ingest(read_acdc(acdc_folder), tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_a_bad_study_can_be_skipped(acdc_folder: Path, tmp_path: Path) -> None:
    (acdc_folder / "training/patient002/Info.cfg").unlink()
    summary = ingest(read_acdc(acdc_folder), tmp_path / "data", on_error="skip")
    assert [row.subject for row in summary.added] == ["patient001"]
    (each,) = summary.skipped
    assert each.name == "patient002"
    assert "Info.cfg is missing" in each.reason


def test_a_subject_twice_is_refused_and_the_dataset_stays(acdc_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "data"
    ingest(read_acdc(acdc_folder), out)
    before = contents(out), data_hash(out)
    with pytest.raises(DataError, match="patient001 is in the dataset already"):
        ingest(read_acdc(acdc_folder), out)
    assert (contents(out), data_hash(out)) == before


@pytest.mark.parametrize("failure", [KeyboardInterrupt, OutputError("disk full")])
def test_interruption_while_reading_leaves_nothing(
    make_study: MakeStudy, tmp_path: Path, failure: BaseException | type[BaseException]
) -> None:
    out = tmp_path / "data"
    ingest([make_study("first")], out)
    before = contents(out), data_hash(out)

    def read(name: str) -> Study:
        if name == "b":
            raise failure
        return make_study(name)

    with pytest.raises((KeyboardInterrupt, OutputError)):
        ingest(Source(("a", "b"), read), out, on_error="skip")
    assert (contents(out), data_hash(out)) == before


def test_failure_of_the_last_step_takes_the_studies_back(
    make_study: MakeStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_space(*_: Any) -> None:
        raise OutputError("dataset.csv could not be written", hint="free some space")

    monkeypatch.setattr(DatasetTable, "write", no_space)
    with pytest.raises(OutputError):
        ingest([make_study()], tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_full_disk(make_study: MakeStudy, tmp_path: Path) -> None:
    with files_below(20_000), pytest.raises(OutputError) as caught:
        ingest([make_study()], tmp_path / "data")
    assert caught.value.hint
    assert not (tmp_path / "data").exists()


def test_folder_that_cannot_be_made(make_study: MakeStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_only(*_: Any, **__: Any) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "mkdir", read_only)
    with pytest.raises(OutputError, match="Read-only") as caught:
        ingest([make_study()], tmp_path / "data")
    assert "read-only" in caught.value.hint


def test_a_folder_of_other_things_is_left_alone(make_study: MakeStudy, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(OutputError, match="holds other files"):
        ingest([make_study()], tmp_path)
    assert contents(tmp_path) == ["thesis.tex"]


def test_no_studies_and_odd_names(make_study: MakeStudy, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no study"):
        ingest([], tmp_path / "data")
    with pytest.raises(DataError, match="file name"):
        ingest([make_study("../up")], tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_phantoms_run_through_the_diagnoses() -> None:
    source = read_phantoms(10, frames=6)
    assert len(source) == 10
    assert source.names[0] == "phantom00000"
    study = source.read(source.names[1])
    again = read_phantoms(2, frames=6).read("phantom00001")
    assert study.subject == "phantom00001"
    assert (study.image == again.image).all()
    with pytest.raises(InputError):
        read_phantoms(0)


def test_labels_survive_ingestion_bit_for_bit(make_study: MakeStudy, tmp_path: Path) -> None:
    study = replace(make_study(spacing=(1.36719, 1.36719, 5.0)), frame_time_ms=31.25)
    row = ingest([study], tmp_path / "data").added[0]
    stored = read_study(tmp_path / "data" / row.file)
    assert np.array_equal(stored.label, study.label)
    assert stored.frame_time_ms == 31.25
    assert (row.spacing_x_mm, row.spacing_z_mm) == (1.36719, 5.0)


@pytest.mark.slow
def test_all_of_acdc(acdc_root: Path, tmp_path: Path) -> None:
    """The five groups are of one size; group means lie within the published spread."""
    summary, patients = ingest(read_acdc(acdc_root), tmp_path / "data"), acdc_patients(acdc_root.parent)
    assert [row.subject for row in summary.added] == patients
    # One person more in a split than its share: patient074 and patient076 are one, and go together.
    for split, share in zip(SPLITS, FRACTIONS, strict=True):
        assert sum(row.split == split for row in summary.added) == pytest.approx(share * len(patients), abs=1)
    groups = Counter(row.diagnosis for row in summary.added)
    assert groups == dict.fromkeys(set(Diagnosis) - {Diagnosis.UNKNOWN}, len(patients) // 5)
    for group, edv, ef in (("NOR", 129.5, 62.5), ("HCM", 131.9, 69.9), ("DCM", 283.1, 19.7), ("MINF", 180.7, 30.9)):
        rows = [row for row in summary.added if row.diagnosis.value == group]
        assert np.mean([row.lv_edv_ml for row in rows]) == pytest.approx(edv, rel=0.12)
        assert np.mean([row.ef_percent for row in rows]) == pytest.approx(ef, abs=4.0)
