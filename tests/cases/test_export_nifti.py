"""NIfTI out and in again: the source's own voxels and axes, and coverage that is not lost on the way."""

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cinesynth.cases.export_items import case_items, chosen_items, dataset_items
from cinesynth.cases.export_nifti import export_nifti
from cinesynth.data.dataset_table import DatasetTable
from cinesynth.data.ingest import ingest
from cinesynth.data.orientation import invert, oriented, reorient
from cinesynth.data.packed import load_study
from cinesynth.data.sources.layout import load_layout
from cinesynth.data.sources.nifti import read_nifti
from cinesynth.errors import DataError, InputError, OutputError
from cinesynth.types import SAME_ORIENTATION, Diagnosis, Label, PhasesFrom, Study, full_coverage
from tests.cases.exports import as_item, generated, save_generated, scanned, small
from tests.limits import files_below

MakeStudy = Callable[..., Study]


def again(out: Path, dataset: str, kind: str = "cycles") -> dict[str, Study]:
    """The studies that the export's own layout reads, by subject."""
    source = read_nifti(out / dataset, load_layout(out / dataset / f"{kind}.yaml"))
    return {study.subject: study for study in source}


def same(back: Study, study: Study) -> None:
    """Voxels, coverage, cycle and geometry are those that were exported (NIfTI keeps affines as 32-bit floats)."""
    for name in ("image", "label", "coverage", "frame_index"):
        assert np.array_equal(getattr(back, name), getattr(study, name)), name
    np.testing.assert_allclose(back.affine, study.affine, rtol=1e-5, atol=1e-5)
    for name in ("frames_in_cycle", "ed_index", "es_index", "vendor", "diagnosis", "to_source"):
        assert getattr(back, name) == getattr(study, name), name


def test_a_cycle_is_one_file_with_its_frame_time(tmp_path: Path) -> None:
    """Also defect 14: the spacing in time and the ED and ES frames are kept."""
    study = small()
    done = export_nifti([as_item(study)], tmp_path / "out")
    image = nib.load(tmp_path / "out/drawn/subject1/subject1_4d.nii.gz")
    assert image.header.get_zooms() == pytest.approx((3.0, 2.5, 9.7, 38.5))
    assert image.header.get_xyzt_units() == ("mm", "msec")
    assert image.get_data_dtype() == study.image.dtype
    assert np.array_equal(np.moveaxis(np.asarray(image.dataobj), -1, 0), study.image)
    assert (done.studies, len(done.layouts), done.without_layout) == (1, 1, ())
    back = again(tmp_path / "out", "drawn")["subject1"]
    same(back, study)
    assert back.frame_time_ms == 38.5


def test_an_unknown_frame_time_stays_unknown(tmp_path: Path) -> None:
    export_nifti([as_item(small(frame_time_ms=None))], tmp_path / "out")
    image = nib.load(tmp_path / "out/drawn/subject1/subject1_4d.nii.gz")
    assert image.header.get_xyzt_units()[1] == "unknown"
    assert again(tmp_path / "out", "drawn")["subject1"].frame_time_ms is None


@pytest.mark.parametrize(
    "way",
    [SAME_ORIENTATION, ((0, 1), (1, 1), (2, -1)), ((1, -1), (0, 1), (2, 1)), ((1, 1), (0, -1), (2, -1))],
)
def test_voxels_go_back_to_the_sources_order(tmp_path: Path, way: tuple[tuple[int, int], ...]) -> None:
    source = small()
    stored = reorient(source, way)
    assert stored.to_source == invert(way)
    export_nifti([as_item(stored)], tmp_path / "out")
    folder = tmp_path / "out/drawn/subject1"
    for kind, true in (("", source.image), ("_label", source.label)):
        file = nib.load(folder / f"subject1_4d{kind}.nii.gz")
        assert np.array_equal(np.moveaxis(np.asarray(file.dataobj), -1, 0), true)
        np.testing.assert_allclose(file.affine, source.affine, atol=1e-5)


def test_an_apex_first_source_comes_back_base_first(tmp_path: Path) -> None:
    source = replace(reorient(small(), ((0, 1), (1, 1), (2, -1))), to_source=SAME_ORIENTATION)
    stored = oriented(source)
    assert stored.to_source == ((0, 1), (1, 1), (2, -1))
    export_nifti([as_item(stored)], tmp_path / "out")
    same(again(tmp_path / "out", "drawn")["subject1"], stored)


def test_scanner_coordinates_survive(tmp_path: Path) -> None:
    """Without labels no layout can tell ED from ES but the table's numbers do."""
    study = scanned()
    export_nifti([as_item(study)], tmp_path / "out")
    image = nib.load(tmp_path / "out/drawn/scanned1/scanned1_4d.nii.gz")
    assert int(image.header["sform_code"]) == int(image.header["qform_code"]) == 1
    np.testing.assert_allclose(image.get_qform(), image.affine, atol=1e-4)
    back = again(tmp_path / "out", "drawn")["scanned1"]
    same(back, study)
    assert back.slices_from == "header"


@pytest.mark.parametrize("origin", ["metadata", "labels", "model", "assumed"])
def test_who_said_ed_and_es_and_what_was_reported_come_back(tmp_path: Path, origin: PhasesFrom) -> None:
    study = replace(small(), phases_from=origin, reported_lv_edv_ml=141.5)
    export_nifti([as_item(study)], tmp_path / "out")
    back = again(tmp_path / "out", "drawn")["subject1"]
    assert (back.phases_from, back.reported_lv_edv_ml, back.reported_lv_esv_ml) == (origin, 141.5, None)


def test_frames_without_a_cycle_are_files_of_their_own(tmp_path: Path) -> None:
    study = small()
    pair = replace(
        study,
        image=study.image[[0, 2]],
        label=study.label[[0, 2]],
        coverage=study.coverage[[0, 2]],
        frame_index=np.array([3, 11]),
        frames_in_cycle=25,
        ed_index=3,
        es_index=11,
        frame_time_ms=None,
    )
    export_nifti([as_item(pair), as_item(small("whole"))], tmp_path / "out")
    names = sorted(path.name for path in (tmp_path / "out/drawn/subject1").iterdir())
    assert names == [f"subject1_frame{n}{kind}.nii.gz" for n in ("04", "12") for kind in ("", "_label")]
    same(again(tmp_path / "out", "drawn", "frames")["subject1"], pair)
    same(again(tmp_path / "out", "drawn")["whole"], small("whole"))


def partly(study: Study, *, myo_es: bool, rv: bool, whole_slices: bool) -> Study:
    """``study`` as Sunnybrook annotates: some structures at some phases, perhaps only where there are any."""
    coverage = study.coverage.copy()
    coverage[..., 0] &= rv
    coverage[study.es_index, :, 1] &= myo_es
    label = study.label.copy()
    label[..., -1] = 0
    if not whole_slices:
        coverage[:, -1] = False
    for i, structure in enumerate((Label.RV, Label.MYO, Label.LV)):
        label[(label == structure) & ~coverage[:, None, None, :, i]] = 0
    return replace(study, label=label, coverage=coverage)


@pytest.mark.parametrize("myo_es", [True, False])
@pytest.mark.parametrize("rv", [True, False])
@pytest.mark.parametrize("whole_slices", [True, False])
def test_partial_labels_come_back_as_partial(tmp_path: Path, myo_es: bool, rv: bool, whole_slices: bool) -> None:
    study = partly(small(), myo_es=myo_es, rv=rv, whole_slices=whole_slices)
    done = export_nifti([as_item(study)], tmp_path / "out")
    assert done.without_layout == ()
    same(again(tmp_path / "out", "drawn")["subject1"], study)


def test_what_no_layout_can_tell_gets_none(tmp_path: Path) -> None:
    """Slice 1 lacks the RV's annotation, not its whole frame."""
    study = small()
    coverage, label = study.coverage.copy(), study.label.copy()
    coverage[0, 1, 0] = False
    label[0, ..., 1][label[0, ..., 1] == Label.RV] = 0
    done = export_nifti([as_item(replace(study, coverage=coverage, label=label))], tmp_path / "out")
    assert (done.layouts, done.without_layout) == ((), ("drawn",))
    assert not list((tmp_path / "out/drawn").glob("*.yaml"))
    (row,) = csv.DictReader((tmp_path / "out/drawn/studies.csv").open())
    assert row["coverage"].startswith("RV ED 3/4")


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**16))
def test_a_layout_is_written_only_if_it_tells_the_truth(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    """Random coverage: either it comes back exactly, or there is no layout."""
    rng, study = np.random.default_rng(seed), small()
    coverage = full_coverage(np.ones(4, dtype=np.bool_), 4)
    for axis in rng.permutation(3)[: rng.integers(0, 3)]:
        kept = rng.random(coverage.shape[axis]) < 0.7
        coverage &= np.expand_dims(kept, tuple(i for i in range(3) if i != axis))
    label = np.stack([study.label[0]] * 4)
    for i, structure in enumerate((Label.RV, Label.MYO, Label.LV)):
        label[(label == structure) & ~coverage[:, None, None, :, i]] = 0
    study, out = replace(study, label=label, coverage=coverage), tmp_path_factory.mktemp("export") / "out"
    if export_nifti([as_item(study)], out).layouts:
        assert np.array_equal(again(out, "drawn")["subject1"].coverage, coverage)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.float32, np.float64, np.int64, np.float16])
def test_every_kind_of_number_is_kept(tmp_path: Path, dtype: type) -> None:
    study = small(image=small().image.astype(dtype))
    export_nifti([as_item(study)], tmp_path / "out")
    assert np.array_equal(again(tmp_path / "out", "drawn")["subject1"].image, study.image)


def test_a_generated_case_is_exported_and_marked(tmp_path: Path) -> None:
    cine, folder = generated(), save_generated(tmp_path / "dcm seed7 é")
    (item,) = case_items([folder])
    study = item.read()
    assert (item.name, item.split, item.synthetic) == ("generated_dcm-seed7--", "train", True)
    assert (study.diagnosis, study.frame_time_ms, study.es_index) == (Diagnosis.DCM, 31.25, 2)
    assert np.array_equal(study.label, cine.label)
    assert study.coverage.all()
    export_nifti([item], tmp_path / "out")
    image = nib.load(tmp_path / "out/generated" / study.subject / f"{study.subject}_4d.nii.gz")
    assert b"synthetic" in image.header["descrip"].item()
    (row,) = csv.DictReader((tmp_path / "out/generated/studies.csv").open())
    assert (row["synthetic"], row["es_frame_number"]) == ("yes", "3")
    same(again(tmp_path / "out", "generated")[study.subject], study)


def test_a_cohort_is_many_cases(tmp_path: Path) -> None:
    for number in range(2):
        save_generated(tmp_path / "cohort" / f"case_{number:04d}")
    (tmp_path / "cohort/cohort.csv").write_text("case\n")
    items = case_items([tmp_path / "cohort"])
    assert [item.name for item in items] == ["generated_cohort_case_0000", "generated_cohort_case_0001"]


@pytest.mark.parametrize("damage", ["label", "sidecar", "empty sidecar", "missing image"])
def test_damaged_cases_are_told(tmp_path: Path, damage: str) -> None:
    folder = save_generated(tmp_path / "case")
    if damage == "label":
        nib.save(nib.Nifti1Image(np.zeros((24, 20, 4, 6), np.uint8), generated().affine), folder / "label.nii.gz")
    elif damage == "missing image":
        (folder / "image.nii.gz").unlink()
    else:
        (folder / "case.json").write_text("[]" if damage == "sidecar" else "{}")
    with pytest.raises(DataError) as caught:
        [item.read() for item in case_items([folder])]
    assert caught.value.hint


def test_what_cannot_be_exported_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing to export"):
        chosen_items([])
    with pytest.raises(InputError, match="2 studies would get the same name"):
        chosen_items([as_item(small("a")), as_item(small("A"))])
    with pytest.raises(InputError, match="no generated case"):
        case_items([tmp_path])


def test_items_of_a_dataset(tmp_path: Path) -> None:
    data = tmp_path / "data"
    ingest([small(f"s{i}") for i in range(10)], data)
    rows = DatasetTable.read(data).rows
    items = dataset_items(data, "test")
    assert [item.name for item in items] == [f"drawn_{row.subject}" for row in rows if row.split == "test"]
    assert np.array_equal(dataset_items(data, subjects=["s3"])[0].read().image, load_study(data, rows[3]).image)
    for split, subjects, found in (("tset", (), "no split"), (None, ("s3", "s33"), "no subject s33")):
        with pytest.raises(InputError, match=found):
            dataset_items(data, split, subjects)


def test_an_altered_study_is_not_exported(tmp_path: Path) -> None:
    row = ingest([small()], tmp_path / "data").added[0]
    with (tmp_path / "data" / row.file).open("ab") as file:
        file.write(b"x")
    with pytest.raises(DataError, match="has changed since it was ingested"):
        export_nifti(dataset_items(tmp_path / "data"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_nothing_is_replaced_and_nothing_is_left_behind(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    export_nifti([as_item(small())], tmp_path / "out")
    with pytest.raises(OutputError, match="is not empty"):
        export_nifti([as_item(small())], tmp_path / "out")
    with files_below(4096), pytest.raises(OutputError) as caught:
        export_nifti([as_item(small())], tmp_path / "full")
    assert caught.value.hint
    assert "tmp-" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_exports_are_the_same_twice(tmp_path: Path) -> None:
    for name in "ab":
        export_nifti([as_item(small())], tmp_path / name)
    files = [path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file()]
    assert len(files) == 4
    assert all((tmp_path / "a" / f).read_bytes() == (tmp_path / "b" / f).read_bytes() for f in files)
