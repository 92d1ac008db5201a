"""Patients and generated hearts come in one form, and a cohort that is none says so."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from cinesynth.cases.cohort import COHORT_TABLE
from cinesynth.data.packed import PackedDataset
from cinesynth.errors import DataError
from cinesynth.evaluation.cases import Case, CaseSet, cohort, patients
from cinesynth.evaluation.measure import Measurer, measure
from cinesynth.evaluation.section import Metric
from cinesynth.types import Label
from tests.evaluation.conftest import GRID, as_cine, write_cohort


def lv_ml(case: Case) -> dict[str, np.ndarray]:
    return {"lv_ml": case.volumes_ml(Label.LV)[[case.ed, case.es]]}


LV = Measurer("lv", "1", lv_ml)


def test_a_generated_heart_reads_back_as_it_was(synthetic: CaseSet) -> None:
    case = synthetic[0]
    assert case.image.shape == case.label.shape
    assert (case.ed, case.whole_cycle, case.spacing_mm) == (0, True, GRID.spacing_mm)
    asked = case.requested
    assert asked is not None
    found = lv_ml(case)["lv_ml"]
    np.testing.assert_allclose(found, (asked.lv_edv_ml, asked.lv_esv_ml), atol=1e-3)


def test_patients_have_the_volumes_of_their_record(packed: PackedDataset) -> None:
    people = patients(packed, "all")
    for case, record in zip(people, packed.records, strict=True):
        assert lv_ml(case)["lv_ml"].tolist() == pytest.approx([record.lv_edv_ml, record.lv_esv_ml], rel=1e-5)
        assert (case.ed, case.image.shape[-1]) == (0, record.slices)


def test_bytes_of_a_cohort_are_those_of_the_patient(packed: PackedDataset, tmp_path: Path) -> None:

    folder = write_cohort([as_cine(packed, 0, seed=1)], tmp_path / "cohort")
    difference = cohort(folder)[0].image.astype(int) - patients(packed, "all")[0].image
    assert np.abs(difference).max() == 0  # a thousand grey levels hold 256 exactly


def test_what_is_in_the_cache_is_not_measured_again(synthetic: CaseSet, tmp_path: Path) -> None:
    first = measure(synthetic, [LV], tmp_path, workers=1)
    broken = Measurer("lv", "1", lambda case: {"lv_ml": np.zeros(2)})
    again = measure(synthetic, [broken], tmp_path, workers=1)
    assert np.array_equal(first["lv.lv_ml"], again["lv.lv_ml"])
    other = measure(synthetic, [Measurer("lv", "2", broken.measure)], tmp_path, workers=1)
    assert not other["lv.lv_ml"].any()
    changed = synthetic.changed("mirrored", lambda case: case)
    assert not measure(changed, [broken], tmp_path, workers=1)["lv.lv_ml"].any()


def test_a_cache_holds_what_was_measured_in_whatever_order_it_lay_in_memory(synthetic: CaseSet, tmp_path: Path) -> None:
    turned = Measurer("turned", "1", lambda case: {"image": np.moveaxis(case.image[case.ed, :4, :3, :2], -1, 0)})
    first, again = (measure(synthetic, [turned], tmp_path, workers=1) for _ in range(2))
    assert not first["turned.image"].flags.c_contiguous
    np.testing.assert_array_equal(again["turned.image"], first["turned.image"])


def test_several_workers_measure_the_same(synthetic: CaseSet) -> None:
    one, two = (measure(synthetic, [LV], workers=n) for n in (1, 2))
    assert np.array_equal(one["lv.lv_ml"], two["lv.lv_ml"])
    assert one.names == two.names


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        (lambda f: (f / COHORT_TABLE).unlink(), "no readable cohort.csv"),
        (lambda f: (f / COHORT_TABLE).write_text("case\n"), "holds no case"),
        (lambda f: (f / COHORT_TABLE).write_text("name\nx\n"), "column 'case'"),
        (lambda f: (f / "case_0000" / "case.json").write_text("{}"), "not a case's sidecar"),
        (lambda f: change(f, spacing_mm=[1.0, 1.0, 10.0]), "several grids"),
        (lambda f: change(f, labels={"LV": 1}), "expected 1 RV"),
    ],
)
def test_what_is_no_cohort_is_refused(cohort_folder: Path, tmp_path: Path, damage, found: str) -> None:
    folder = Path(shutil.copytree(cohort_folder, tmp_path / "copy"))
    damage(folder)
    with pytest.raises(DataError, match=found) as error:
        cohort(folder)
    assert error.value.hint


def test_a_truncated_volume_is_named(cohort_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(cohort_folder, tmp_path / "copy"))
    path = folder / "case_0003" / "image.nii.gz"
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(DataError, match=r"case_0003.*cannot be read"):
        cohort(folder)[3]


def change(folder: Path, **values: object) -> None:
    path = folder / "case_0001" / "case.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_a_measure_is_never_nan_and_never_silent() -> None:
    with pytest.raises(ValueError, match="pass None and the reason"):
        Metric("x", float("nan"))
    with pytest.raises(ValueError, match="reason"):
        Metric("x", None)
    assert Metric.unknown("x", "no whole cycle").missing == "no whole cycle"
