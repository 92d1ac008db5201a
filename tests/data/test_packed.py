"""The cache on the model grid: what it says of a subject, who is in it, and that it cannot go stale."""

import multiprocessing
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cinesynth.data.dataset_table import SPLITS, DatasetTable
from cinesynth.data.geometry import Grid, slice_mask
from cinesynth.data.ingest import ingest
from cinesynth.data.packed import PackedDataset, load_study, prepare, volume_errors_percent
from cinesynth.data.sources import Source
from cinesynth.data.sources.acdc import read_acdc
from cinesynth.errors import DataError, OutputError
from cinesynth.types import Diagnosis, Label, Study
from cinesynth.weights.prior_fit import fit
from tests.real_subjects import acdc_patients

MakeStudy = Callable[..., Study]
GRID = Grid((64, 64, 12), (3.0, 3.0, 10.0))


@pytest.fixture(scope="module")
def dataset(make_study: MakeStudy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten drawn subjects of 9 slices of 6 mm."""
    out = tmp_path_factory.mktemp("data") / "set"
    ingest([make_study(f"s{i}", size=(50, 48, 9), spacing=(3.1, 3.1, 6.0)) for i in range(10)], out)
    return out


@pytest.fixture(scope="module")
def packed(dataset: Path) -> PackedDataset:
    return prepare(dataset, GRID)


def test_records_tell_the_cycle(packed: PackedDataset) -> None:
    record = packed.records[0]
    assert record.phases.tolist() == [0.0, 0.5, 1.0, 1.5]
    assert (record.ed, record.es, record.es_index_from_ed, record.frames_in_cycle) == (0, 2, 2, 4)
    assert record.labelled.tolist() == [True, False, True, False]
    assert record.slices == 5  # 54 mm
    assert record.diagnosis is Diagnosis.NOR
    assert record.frame_time_ms == 38.5


def test_volumes_of_the_record_are_those_of_its_label_and_of_the_patient(dataset: Path, packed: PackedDataset) -> None:
    for i, row in enumerate(DatasetTable.read(dataset)):
        record = packed.records[i]
        counted = (packed.label(i, record.ed) == Label.LV).sum() * GRID.voxel_ml
        assert record.lv_edv_ml == pytest.approx(counted, rel=1e-6)
        assert record.lv_edv_ml == pytest.approx(row.lv_edv_ml, rel=0.01)
        assert record.lv_esv_ml == pytest.approx(row.lv_esv_ml, rel=0.01)


def test_what_a_source_reports_is_never_a_volume_of_the_record(make_study: MakeStudy, tmp_path: Path) -> None:
    """Training and priors see records: of an unlabelled study they know no volume, whatever a table says."""
    study = make_study("told", size=(50, 48, 9), spacing=(3.1, 3.1, 6.0))
    told = replace(study, reported_lv_edv_ml=321.0, reported_lv_esv_ml=123.0)
    bare = replace(told, subject="bare", label=0 * told.label, coverage=told.coverage & False)
    ingest([told, bare], tmp_path / "set")
    labelled, unlabelled = prepare(tmp_path / "set", GRID).records
    assert (unlabelled.lv_edv_ml, unlabelled.lv_esv_ml) == (None, None)
    assert labelled.lv_edv_ml == pytest.approx(DatasetTable.read(tmp_path / "set").rows[0].lv_edv_ml, rel=0.01)
    assert not 315 < labelled.lv_edv_ml < 327
    with pytest.raises(DataError, match="none of 1 training subjects"):
        fit([replace(unlabelled, split="train")])


def test_unacquired_slices_are_black_and_unlabelled(packed: PackedDataset) -> None:
    outside = ~slice_mask(packed.records[0].slices, 12)
    assert packed.images(0).shape == (4, 64, 64, 12)
    assert packed.images(0).dtype == np.uint8
    assert not packed.images(0)[..., outside].any()
    assert not packed.labels(0)[..., outside].any()
    assert packed.images(0)[..., ~outside].max() == 255
    assert (packed.images(0)[2] == packed.image(0, 2)).all()


def test_people_are_in_one_split(packed: PackedDataset) -> None:
    parts = [packed.split(name) for name in SPLITS]
    names = [record.subject for part in parts for record in part.records]
    assert sorted(names) == sorted(record.subject for record in packed.records)
    assert [len(part) for part in parts] == [7, 1, 2]
    test = packed.split("test")
    everyone = [record.subject for record in packed.records]
    for i, record in enumerate(test.records):
        assert (test.images(i) == packed.images(everyone.index(record.subject))).all()


@pytest.mark.parametrize("name", ["all", "training", "", "train+test"])
def test_unknown_splits_are_refused(packed: PackedDataset, name: str) -> None:
    with pytest.raises(DataError, match="unknown split") as caught:
        packed.split(name)
    assert "validation" in caught.value.hint


def test_pickles_and_forks(packed: PackedDataset) -> None:
    expected = packed.image(3, 1)
    assert (pickle.loads(pickle.dumps(packed)).image(3, 1) == expected).all()
    with multiprocessing.get_context("fork").Pool(2) as pool:
        for found in pool.starmap(packed.image, [(3, 1)] * 4):
            assert (found == expected).all()


def test_built_once_for_a_grid_and_the_data(dataset: Path, packed: PackedDataset, make_study: MakeStudy) -> None:
    made = packed.path.stat().st_mtime_ns
    assert prepare(dataset, GRID).path == packed.path
    assert packed.path.stat().st_mtime_ns == made
    assert prepare(dataset, Grid((48, 48, 12), (4.0, 4.0, 10.0))).path != packed.path


def test_new_subjects_make_a_new_cache(make_study: MakeStudy, tmp_path: Path) -> None:
    ingest([make_study("a")], tmp_path / "d")
    first = prepare(tmp_path / "d", GRID)
    ingest([make_study("b")], tmp_path / "d")
    seen: list[tuple[object, ...]] = []
    second = prepare(tmp_path / "d", GRID, progress=lambda *step: seen.append(step))
    assert (len(first), len(second)) == (1, 2)
    assert first.data_hash != second.data_hash
    assert seen == [("prepare", 1, 2, {}), ("prepare", 2, 2, {})]


def test_one_scale_a_sequence(make_study: MakeStudy, tmp_path: Path) -> None:
    """A frame that the scanner saw brighter is brighter in the cache."""
    study = make_study()
    study.image[1] += 60
    ingest([study], tmp_path / "d")
    images = prepare(tmp_path / "d", GRID).images(0).astype(float)
    assert images[1].mean() > 1.2 * max(images[0].mean(), images[2].mean())


def test_a_study_that_does_not_fit_names_the_preset_that_would(make_study: MakeStudy, tmp_path: Path) -> None:
    studies = [make_study("fits"), *(make_study(name, size=(80, 76, 14)) for name in ("tall", "taller", "tallest"))]
    ingest(studies, tmp_path / "d")
    with pytest.raises(
        DataError, match=r"tall does not fit .* voxels of .* mm; 2 more findings: drawn taller, drawn tallest"
    ) as caught:
        prepare(tmp_path / "d", GRID)
    assert "paper" in caught.value.hint
    assert not list((tmp_path / "d" / "grids").iterdir())


def test_altered_and_missing_studies_are_told(make_study: MakeStudy, tmp_path: Path) -> None:
    (row,) = ingest([make_study("a")], tmp_path / "d").added
    path = tmp_path / "d" / row.file
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    with pytest.raises(DataError, match="has changed since it was ingested"):
        load_study(tmp_path / "d", row)
    path.unlink()
    with pytest.raises(DataError, match="is missing"):
        prepare(tmp_path / "d", GRID)


def test_an_empty_image_names_its_subject(make_study: MakeStudy, tmp_path: Path) -> None:
    study = make_study("black")
    study.image[:] = 0
    ingest([study], tmp_path / "d")
    with pytest.raises(DataError, match=r"drawn black: .*no intensity scale"):
        prepare(tmp_path / "d", GRID)


def test_no_dataset_and_no_place_for_the_cache(make_study: MakeStudy, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a dataset") as caught:
        prepare(tmp_path, GRID)
    assert "ingest" in caught.value.hint
    ingest([make_study("a")], tmp_path / "d")
    (tmp_path / "d" / "grids").write_text("in the way")
    with pytest.raises(OutputError):
        prepare(tmp_path / "d", GRID)


def test_placement_leads_back(dataset: Path, packed: PackedDataset) -> None:
    study = load_study(dataset, DatasetTable.read(dataset).rows[0])
    back = packed.placement(0).label_to_native(packed.labels(0))
    assert back.shape == study.label.shape
    both = ((back == Label.LV) & (study.label == Label.LV)).sum()
    assert 2 * both / ((back == Label.LV).sum() + (study.label == Label.LV).sum()) > 0.9


def test_volume_errors_of_real_patients(acdc_root: Path, tmp_path: Path) -> None:
    """The 13 patients whose slices are not 10 mm apart are the hard ones; four of them, and the 4D case."""
    source = read_acdc(acdc_root)
    names = [n for n in ("patient081", "patient083", "patient090", "patient093", "patient096") if n in source.names]
    ingest(Source(tuple(names), source.read), tmp_path / "d")
    for errors in volume_errors_percent(tmp_path / "d", Grid((96, 96, 12), (2.0, 2.0, 10.0))).values():
        assert np.abs(errors).max() < 1.0
    packed = prepare(tmp_path / "d", Grid((96, 96, 12), (2.0, 2.0, 10.0)))
    cycle = packed.records[names.index("patient090")]
    assert (cycle.ed, cycle.es, len(cycle.phases)) == (3, 10, 12)
    assert (cycle.phases[3], cycle.phases[10]) == (0.0, 1.0)


@pytest.mark.slow
def test_volumes_of_all_of_acdc(acdc_root: Path, tmp_path: Path) -> None:
    ingest(read_acdc(acdc_root), tmp_path / "d")
    for grid in (GRID, Grid((96, 96, 12), (2.0, 2.0, 10.0))):
        for errors in volume_errors_percent(tmp_path / "d", grid).values():
            assert len(errors) == len(acdc_patients(acdc_root.parent))
            assert np.median(np.abs(errors)) < 0.1
            assert np.abs(errors).max() < 1.0
