import errno
import json
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from cinesynth.cases import writing as case
from cinesynth.cases.schema import FILES, INTENSITY_SCALE, achieved, sidecar
from cinesynth.cases.writing import save_case, write_label
from cinesynth.errors import OutputError
from cinesynth.io.files import file_sha256
from cinesynth.types import Cine
from tests.cases.exports import box_heart
from tests.limits import files_below


@pytest.fixture
def box() -> Cine:
    return box_heart()


def test_nifti_keeps_space_time_and_voxels(box: Cine, tmp_path: Path) -> None:
    """Defect 14: the frame time stays in the header."""
    save_case(box, tmp_path / "case", pictures=False)
    image, label = (nib.load(tmp_path / "case" / f"{name}.nii.gz") for name in ("image", "label"))
    for file in (image, label):
        assert file.header.get_zooms() == (2.0, 1.5, 10.0, 31.25)
        assert file.header.get_xyzt_units() == ("mm", "msec")
        assert np.array_equal(file.get_sform(), box.affine)
        assert np.array_equal(file.get_qform(), box.affine)
        assert b"synthetic" in file.header["descrip"].item()
    assert image.get_data_dtype() == np.int16
    assert label.get_data_dtype() == np.uint8
    assert np.array_equal(np.moveaxis(np.asarray(label.dataobj), -1, 0), box.label)
    stored = np.moveaxis(np.asarray(image.dataobj), -1, 0)
    assert (stored.min(), stored.max()) == (0, 1000)
    np.testing.assert_allclose(stored / INTENSITY_SCALE - 1, box.image, atol=0.5 / INTENSITY_SCALE + 1e-6)


def test_an_oblique_affine_survives(box: Cine, tmp_path: Path) -> None:
    turn = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = turn @ np.diag([2.0, 1.5, 10.0]), [-40.0, 12.0, 7.0]
    write_label(replace(box, affine=affine), tmp_path / "a.nii.gz")
    assert np.allclose(nib.load(tmp_path / "a.nii.gz").get_qform(), affine, atol=1e-5)


def test_achieved_volumes_are_voxels_times_their_volume(box: Cine) -> None:
    voxel_ml = 2.0 * 1.5 * 10.0 / 1000
    found = achieved(box)
    assert found["lv_edv_ml"] == pytest.approx(10 * 8 * 5 * voxel_ml)
    assert found["lv_esv_ml"] == pytest.approx(10 * 4 * 5 * voxel_ml)
    assert found["ef_percent"] == pytest.approx(50.0)
    assert found["rv_edv_ml"] == pytest.approx(3 * 10 * 5 * voxel_ml)
    assert found["myo_es_ml"] == pytest.approx(3 * 8 * 5 * voxel_ml)
    assert found["slices"] == 7


def test_no_lv_has_no_ejection_fraction(box: Cine) -> None:
    empty = replace(box, label=np.zeros_like(box.label))
    assert achieved(empty)["ef_percent"] is None
    json.dumps(sidecar(empty, {}), allow_nan=False)


def test_sidecar_tells_asked_measured_and_made_of(cine: Cine, tmp_path: Path) -> None:
    save_case(cine, tmp_path / "case", pictures=False)
    content = json.loads((tmp_path / "case" / "case.json").read_text())
    assert content["synthetic"] is True
    assert "research use only" in content["notice"]
    assert content["requested"]["ef_percent"] == pytest.approx(25.0)
    assert (content["ed_index"], content["es_index"], content["seed"]) == (0, cine.es_index, 7)
    assert content["accepted"] is cine.provenance["acceptance"]["accepted"]  # type: ignore[index]
    label = np.asarray(nib.load(tmp_path / "case" / "label.nii.gz").dataobj)
    assert content["achieved"]["lv_edv_ml"] == pytest.approx((label[..., 0] == 3).sum() * 0.09, abs=1e-3)
    assert content["volumes_ml"]["LV"][cine.es_index] == content["achieved"]["lv_esv_ml"]
    assert content["files"] == {n: file_sha256(tmp_path / "case" / n) for n in ("image.nii.gz", "label.nii.gz")}


def test_a_case_is_the_same_files_twice(cine: Cine, tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_case(cine, tmp_path / name)
    assert {p.name for p in (tmp_path / "a").iterdir()} == FILES
    for name in FILES:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name


def test_nothing_is_replaced_unasked(box: Cine, tmp_path: Path) -> None:
    save_case(box, tmp_path / "case", pictures=False)
    with pytest.raises(OutputError, match="is not empty") as error:
        save_case(box, tmp_path / "case", pictures=False)
    assert "overwrite" in error.value.hint
    save_case(replace(box, seed=4), tmp_path / "case", pictures=False, overwrite=True)
    assert json.loads((tmp_path / "case" / "case.json").read_text())["seed"] == 4
    assert [p.name for p in tmp_path.iterdir()] == ["case"]


def test_only_cases_are_ever_replaced(box: Cine, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(OutputError, match="is not empty"):
        save_case(box, tmp_path, overwrite=True)
    (tmp_path / "case.json").write_text("{}")
    with pytest.raises(OutputError, match=r"holds thesis\.txt, which is not part of a case"):
        save_case(box, tmp_path, overwrite=True)
    assert (tmp_path / "thesis.txt").exists()


def test_a_full_disk_leaves_nothing(cine: Cine, tmp_path: Path) -> None:
    with files_below(2048), pytest.raises(OutputError) as error:
        save_case(cine, tmp_path / "case")
    assert error.value.exit_code == 5
    assert "tmp-" not in str(error.value)
    assert error.value.hint
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_keeps_the_earlier_case(box: Cine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_case(box, tmp_path / "case", pictures=False)

    def fill(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(case, "write_label", fill)
    with pytest.raises(OutputError, match="could not be written"):
        save_case(box, tmp_path / "case", overwrite=True)
    assert [p.name for p in tmp_path.iterdir()] == ["case"]
    assert json.loads((tmp_path / "case" / "case.json").read_text())["seed"] == 3


def test_an_interrupt_leaves_nothing(box: Cine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(case, "render_sheet", interrupt)
    with pytest.raises(KeyboardInterrupt):
        save_case(box, tmp_path / "case")
    assert list(tmp_path.iterdir()) == []
