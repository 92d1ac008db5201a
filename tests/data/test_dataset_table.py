"""The table of a dataset: exact cells, unknown as unknown, and splits that never mix."""

import csv
import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import get_args

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cinesynth.data.dataset_table import (
    COLUMNS,
    FIRST_COLUMNS,
    OLD_TABLE_FILE,
    SPLITS,
    TABLE_FILE,
    DatasetTable,
    SubjectRow,
    assign_splits,
    data_hash,
    describe,
    is_dataset,
)
from cinesynth.data.ingest import ingest
from cinesynth.data.store import check_study, read_study, write_study
from cinesynth.errors import DataError
from cinesynth.types import STRUCTURES, Diagnosis, Label, PhasesFrom, SlicesFrom, Study, covered_label

MakeStudy = Callable[..., Study]
STRATA = st.dictionaries(st.text("abcdef", min_size=1, max_size=4), st.sampled_from("NDH"), max_size=60)


def test_volumes_are_native_voxels_times_voxel_volume(make_study: MakeStudy) -> None:
    study = make_study(spacing=(1.5, 1.7, 8.0))
    row = describe(study, "train", "studies/a.h5", "0")
    for frame, column in ((0, row.lv_edv_ml), (2, row.lv_esv_ml)):
        assert column == pytest.approx((study.label[frame] == 3).sum() * 1.5 * 1.7 * 8.0 / 1000, abs=1e-3)
    assert row.ef_percent == pytest.approx(100 * (1 - row.lv_esv_ml / row.lv_edv_ml), abs=1e-3)
    assert (row.labels, row.labelled_frames, row.stored_frames, row.slices) == ("RV MYO LV", 2, 4, 6)


def test_what_is_not_labelled_is_unknown_and_not_zero(make_study: MakeStudy, tmp_path: Path) -> None:
    study = make_study()
    coverage = study.coverage & (np.array(STRUCTURES) != Label.RV)
    label = covered_label(study.label, coverage)
    study = replace(study, label=label, coverage=coverage, frame_time_ms=None)
    DatasetTable((describe(study, "test", "studies/a.h5", "0"),)).write(tmp_path)
    cells = dict(zip(*(line.split(",") for line in (tmp_path / TABLE_FILE).read_text().splitlines()), strict=True))
    assert cells["rv_edv_ml"] == cells["rv_esv_ml"] == cells["frame_time_ms"] == ""
    assert cells["coverage"] == "RV -; MYO ED 6/6 ES 6/6; LV ED 6/6 ES 6/6"
    assert DatasetTable.read(tmp_path).rows[0].rv_edv_ml is None


def test_where_a_study_comes_from_is_in_its_row(make_study: MakeStudy, tmp_path: Path) -> None:
    study = make_study()
    coverage = study.coverage.copy()
    coverage[:, :2, 2] = False  # the LV at the base
    coverage[2, :, 1] = False  # the myocardium at ES
    study = replace(
        study,
        label=covered_label(study.label, coverage),
        coverage=coverage,
        diagnosis=Diagnosis.UNKNOWN,
        group="LV_noncompaction",
        phases_from="labels",
        slices_from="header",
        to_source=((1, 1), (0, -1), (2, -1)),
    )
    DatasetTable((describe(study, "test", "studies/a.h5", "0"),)).write(tmp_path)
    (row,) = DatasetTable.read(tmp_path).rows
    assert (row.diagnosis, row.group, row.stratum) == (
        Diagnosis.UNKNOWN,
        "LV_noncompaction",
        "Siemens LV_noncompaction",
    )
    assert (row.phases_from, row.slices_from, row.to_source) == ("labels", "header", "1+ 0- 2-")
    assert row.coverage == "RV ED 6/6 ES 6/6; MYO ED 6/6; LV ED 4/6 ES 4/6"


def test_a_gap_between_annotated_slices_leaves_the_volume_unknown(make_study: MakeStudy) -> None:
    study = make_study()
    coverage = study.coverage.copy()
    coverage[0, 3, 2] = False
    row = describe(replace(study, label=covered_label(study.label, coverage), coverage=coverage), "train", "a.h5", "0")
    assert row.lv_edv_ml is row.ef_percent is None
    assert row.lv_esv_ml == describe(study, "train", "a.h5", "0").lv_esv_ml


def test_a_table_of_before_partial_labels_is_read(make_study: MakeStudy, tmp_path: Path) -> None:
    DatasetTable((describe(make_study(), "test", "studies/a.h5", "0"),)).write(tmp_path)
    path = tmp_path / TABLE_FILE
    lines = list(csv.reader(path.read_text().splitlines()))
    path.write_text("".join(",".join(cells[: len(FIRST_COLUMNS)]) + "\n" for cells in lines))
    (row,) = DatasetTable.read(tmp_path).rows
    assert (row.phases_from, row.slices_from, row.to_source, row.coverage) == ("metadata", "declared", "0+ 1+ 2+", "")
    assert row.lv_edv_ml == describe(make_study(), "test", "studies/a.h5", "0").lv_edv_ml


@pytest.mark.parametrize("last", ["sha256", "group", "coverage", "reported_lv_edv_ml", "notes"])
def test_a_table_that_ends_earlier_is_read(make_study: MakeStudy, tmp_path: Path, last: str) -> None:
    """Columns were added at the end only; what is not there has its default."""
    study = replace(make_study(), group="G", reported_lv_edv_ml=150.0, reported_lv_esv_ml=61.5, notes=("a", "b, c"))
    DatasetTable((describe(study, "test", "studies/a.h5", "0"),)).write(tmp_path)
    path, count = tmp_path / TABLE_FILE, COLUMNS.index(last) + 1
    lines = [cells[:count] for cells in csv.reader(path.read_text().splitlines())]
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(lines)
    (row,) = DatasetTable.read(tmp_path).rows
    whole = {"group": "G", "reported_lv_edv_ml": 150.0, "reported_lv_esv_ml": 61.5, "notes": "a; b, c"}
    missing = {"group": "", "reported_lv_edv_ml": None, "reported_lv_esv_ml": None, "notes": ""}
    for name, value in whole.items():
        assert getattr(row, name) == (value if name in COLUMNS[:count] else missing[name])


def test_a_dataset_under_the_old_name_is_read_and_goes_on(make_study: MakeStudy, tmp_path: Path) -> None:
    ingest([make_study("a")], tmp_path)
    before = data_hash(tmp_path)
    (tmp_path / TABLE_FILE).rename(tmp_path / OLD_TABLE_FILE)
    assert is_dataset(tmp_path)
    assert data_hash(tmp_path) == before
    assert [row.subject for row in DatasetTable.read(tmp_path)] == ["a"]
    assert ingest([make_study("b")], tmp_path).total == 2
    assert not (tmp_path / OLD_TABLE_FILE).exists()
    assert [row.subject for row in DatasetTable.read(tmp_path)] == ["a", "b"]


def test_the_new_name_wins(make_study: MakeStudy, tmp_path: Path) -> None:
    ingest([make_study("a")], tmp_path)
    (tmp_path / OLD_TABLE_FILE).write_text("subject,damaged\n")
    assert [row.subject for row in DatasetTable.read(tmp_path)] == ["a"]


def test_a_cohort_is_not_a_dataset_and_keeps_its_table(make_study: MakeStudy, tmp_path: Path) -> None:
    (tmp_path / OLD_TABLE_FILE).write_text("case,seed\ncase_0000,1\n")
    assert not is_dataset(tmp_path)
    assert not is_dataset(tmp_path / "absent")
    with pytest.raises(DataError, match="does not have the columns of a dataset"):
        ingest([make_study("a")], tmp_path)
    DatasetTable(()).write(tmp_path)
    assert (tmp_path / OLD_TABLE_FILE).read_text().startswith("case,")


@pytest.mark.parametrize("harm", [lambda c: c[: len(FIRST_COLUMNS) - 1], lambda c: [*c, "more"], lambda c: c[::-1]])
def test_other_columns_are_told(make_study: MakeStudy, tmp_path: Path, harm: Callable[..., list[str]]) -> None:
    (tmp_path / TABLE_FILE).write_text(",".join(harm(list(COLUMNS))) + "\n")
    with pytest.raises(DataError, match="does not have the columns of a dataset"):
        DatasetTable.read(tmp_path)


def test_an_origin_that_is_none_is_told(make_study: MakeStudy, tmp_path: Path) -> None:
    DatasetTable((describe(make_study(), "test", "studies/a.h5", "0"),)).write(tmp_path)
    path = tmp_path / TABLE_FILE
    path.write_text(path.read_text().replace(",metadata,", ",guessed,"))
    with pytest.raises(DataError, match="phases_from 'guessed'"):
        DatasetTable.read(tmp_path)


VOLUMES = st.none() | st.floats(0.1, 600.0)


@given(
    st.builds(
        SubjectRow,
        subject=st.text("ab,\"' é", min_size=1),
        diagnosis=st.sampled_from(Diagnosis),
        split=st.sampled_from(SPLITS),
        lv_edv_ml=VOLUMES,
        lv_esv_ml=VOLUMES,
        ef_percent=VOLUMES,
        rv_edv_ml=VOLUMES,
        rv_esv_ml=VOLUMES,
        myo_ed_ml=VOLUMES,
        myo_es_ml=VOLUMES,
        frame_time_ms=VOLUMES,
        spacing_x_mm=st.floats(0.1, 20.0),
        spacing_y_mm=st.floats(0.1, 20.0),
        spacing_z_mm=st.floats(0.1, 20.0),
        dataset=st.just("acdc"),
        vendor=st.just("Siemens"),
        labels=st.just("RV MYO LV"),
        file=st.just("studies/a.h5"),
        sha256=st.just("0"),
        group=st.text("AHVR-_ é,"),
        phases_from=st.sampled_from(get_args(PhasesFrom)),
        slices_from=st.sampled_from(get_args(SlicesFrom)),
        to_source=st.just("0+ 1- 2+"),
        coverage=st.just("RV -; MYO ED 7/12; LV ED 7/12 ES 5/12"),
        reported_lv_edv_ml=VOLUMES,
        reported_lv_esv_ml=VOLUMES,
        notes=st.text("ab;,\"' é"),
    )
)
def test_rows_come_back_exactly(tmp_path_factory: pytest.TempPathFactory, row: SubjectRow) -> None:
    folder = tmp_path_factory.mktemp("dataset")
    DatasetTable((row,)).write(folder)
    assert DatasetTable.read(folder).rows == (row,)
    assert data_hash(folder) == hashlib.sha256((folder / TABLE_FILE).read_bytes()).hexdigest()


def test_a_subject_has_one_row_and_so_one_split(make_study: MakeStudy) -> None:
    row = describe(make_study("patient007"), "train", "studies/a.h5", "0")
    with pytest.raises(DataError, match="patient007 is in the dataset twice"):
        DatasetTable((row, replace(row, split="test")))
    with pytest.raises(DataError, match="split 'holdout'"):
        DatasetTable((replace(row, split="holdout"),))


@pytest.mark.parametrize("text", ["", "subject,split\na,train\n", None])
def test_a_damaged_table_is_told(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / TABLE_FILE).write_text(text)
    with pytest.raises(DataError) as caught:
        DatasetTable.read(tmp_path)
    assert caught.value.hint


@given(STRATA, st.integers(0, 5))
def test_everybody_is_in_one_split_in_any_order(strata: dict[str, str], seed: int) -> None:
    splits = assign_splits(strata, seed=seed)
    assert splits.keys() == strata.keys()
    backwards = dict(reversed(strata.items()))
    assert assign_splits(backwards, seed=seed) == splits


@given(STRATA)
def test_the_whole_and_every_stratum_keep_their_shares(strata: dict[str, str]) -> None:
    splits = assign_splits(strata)
    for name in (None, "N", "D", "H"):
        members = [split for subject, split in splits.items() if name in (None, strata[subject])]
        counts = Counter(members)
        for split, share in zip(SPLITS, (0.7, 0.1, 0.2), strict=True):
            assert abs(counts[split] - share * len(members)) <= (1.0 if name is None else 2.0)


def test_acdc_shares() -> None:
    strata = {f"patient{i:03d}": "NDHMR"[i % 5] for i in range(80)}
    assert Counter(assign_splits(strata).values()) == {"train": 56, "validation": 8, "test": 16}
    assert assign_splits(strata) != assign_splits(strata, seed=1)


def test_subjects_added_later_fill_what_is_behind() -> None:
    assert set(assign_splits({"late": "N"}, taken={"train": 9, "test": 0, "validation": 1}).values()) == {"test"}


@pytest.mark.parametrize("fractions", [(0.7, 0.1, 0.1), (1.2, -0.2, 0.0)])
def test_fractions_must_be_shares(fractions: tuple[float, float, float]) -> None:
    with pytest.raises(DataError, match="add up to 1"):
        assign_splits({"a": "N"}, fractions)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.float32, np.float64])
def test_a_stored_study_comes_back_bit_for_bit(make_study: MakeStudy, tmp_path: Path, dtype: type) -> None:
    study = make_study(spacing=(1.36719, 1.36719, 9.99))
    study = replace(
        study,
        image=study.image.astype(dtype),
        coverage=study.coverage | (np.arange(3) == 0),
        group="HF-NI",
        phases_from="labels",
        slices_from="header",
        to_source=((1, 1), (0, -1), (2, -1)),
        reported_lv_edv_ml=150.25,
        reported_lv_esv_ml=None,
        notes=("left out 8 images of sax_9 (another series of the same slice)", 'a "quote", and é'),
    )
    path = tmp_path / "study.h5"
    digest = write_study(path, study)
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest()
    assert write_study(tmp_path / "again.h5", study) == digest
    back = read_study(path)
    assert back.image.dtype == dtype
    for field, value in vars(study).items():
        assert np.array_equal(getattr(back, field), value), field


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"label": np.zeros((4, 80, 76, 5), np.uint8)}, "T X Y Z"),
        ({"label": np.full((4, 80, 76, 6), 4, np.uint8)}, "0-3"),
        ({"image": np.full((4, 80, 76, 6), np.nan)}, "not finite"),
        ({"frame_index": np.array([0, 1, 1, 3])}, "twice"),
        ({"frame_index": np.array([0, 1, 2, 4])}, "outside a cycle of 4"),
        ({"es_index": 7}, "ED or ES"),
        ({"es_index": 0}, "the same frame"),
        ({"coverage": np.zeros((4, 6, 3), bool)}, "not annotated"),
        ({"coverage": np.ones((4, 6), bool)}, "T Z S"),
        ({"coverage": np.ones((4, 6, 3), np.uint8)}, "T Z S"),
        ({"frame_index": np.array([0, 1, 2])}, "differ in length"),
        ({"phases_from": "guess"}, "cannot come from 'guess'"),
        ({"slices_from": "guess"}, "cannot come from 'guess'"),
        ({"to_source": ((0, 1), (0, 1), (2, 1))}, "is not an orientation"),
        ({"to_source": ((0, 1), (1, 0), (2, 1))}, "is not an orientation"),
        ({"affine": np.zeros((4, 4))}, "spans no volume"),
        ({"frame_time_ms": float("nan")}, "frame_time_ms is not positive"),
        ({"frame_time_ms": 0.0}, "frame_time_ms is not positive"),
        ({"reported_lv_esv_ml": -3.0}, "reported_lv_esv_ml is not positive"),
    ],
)
def test_a_study_that_contradicts_itself_is_refused(
    make_study: MakeStudy, change: dict[str, object], found: str
) -> None:
    with pytest.raises(DataError, match=f"drawn patient9: .*{found}"):
        check_study(replace(make_study("patient9"), **change))


def as_format_1(path: Path) -> None:
    """Take back what a file of the first format did not have."""
    with h5py.File(path, "a") as file:
        file["labelled"] = file["coverage"][()].any(axis=(1, 2))
        del file["coverage"]
        for name in ("format", "group", "phases_from", "slices_from", "to_source"):
            del file.attrs[name]


def test_a_study_of_the_first_format_is_read(make_study: MakeStudy, tmp_path: Path) -> None:
    study = make_study()
    write_study(tmp_path / "study.h5", study)
    as_format_1(tmp_path / "study.h5")
    back = read_study(tmp_path / "study.h5")
    for field, value in vars(study).items():
        assert np.array_equal(getattr(back, field), value), field


def test_a_study_of_a_later_format_is_refused(make_study: MakeStudy, tmp_path: Path) -> None:
    write_study(tmp_path / "study.h5", make_study())
    with h5py.File(tmp_path / "study.h5", "a") as file:
        file.attrs["format"] = 99
    with pytest.raises(DataError, match="format 99") as caught:
        read_study(tmp_path / "study.h5")
    assert "update" in caught.value.hint


def test_a_file_that_is_no_study_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.h5").write_bytes(b"not HDF5")
    with pytest.raises(DataError, match=r"a\.h5 is not a study"):
        read_study(tmp_path / "a.h5")
