import errno
import json
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from cinesynth.cases import writing as case
from cinesynth.cases.schema import RENAMED_REQUEST_KEYS, RENAMED_STAGE_KEYS, achieved, sidecar
from cinesynth.cases.writing import FILES, INTENSITY_SCALE, read_sidecar, save_case, write_label
from cinesynth.data.colours import COLOURS
from cinesynth.errors import DataError, OutputError
from cinesynth.io.files import file_sha256
from cinesynth.reports.contact_sheet import Timing, _draw_curves, render_contact_sheet, render_study
from cinesynth.reports.pictures import View, contours, render_gif, tile
from cinesynth.types import Cine, ClinicalPrior, Diagnosis, Label, Study, full_coverage
from tests.limits import files_below


@pytest.fixture
def box() -> Cine:
    """An LV of 10 x 8 x 5 voxels that shrinks to 10 x 4 x 5 at frame 2, beside an RV and a myocardium."""
    label = np.zeros((5, 24, 20, 7), dtype=np.uint8)
    for t, width in enumerate([8, 6, 4, 6, 8]):
        label[t, 4:14, 4 : 4 + width, 1:6] = Label.LV
    label[:, 15:18, 4:12, 1:6] = Label.MYO
    label[:, 19:22, 4:14, 1:6] = Label.RV
    image = np.linspace(-1, 1, label.size, dtype=np.float32).reshape(label.shape)
    affine = np.diag([2.0, 1.5, 10.0, 1.0])
    return Cine(image, label, affine, 31.25, 0, 2, ClinicalPrior(lv_edv_ml=20.0), 3, {"synthetic": True})


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
    with pytest.raises(OutputError, match=r"more than a case: thesis\.txt"):
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


def test_a_picture_has_true_proportions() -> None:
    """A disc of 20 mm radius on voxels of 1 x 2 mm is round on the picture, and as large as it should be."""
    x, y = np.meshgrid(np.arange(120) - 60.0, (np.arange(60) - 30.0) * 2, indexing="ij")
    disc = np.where(np.hypot(x, y) <= 20, Label.LV, 0).astype(np.uint8)
    view = View((60.0, 30.0), (1.0, 2.0, 10.0), field_mm=80.0, pixels=160)
    rows, columns = np.nonzero(contours(disc, view))
    assert np.ptp(rows) == pytest.approx(80, abs=4)  # 40 mm at half a millimetre a pixel
    assert np.ptp(columns) == pytest.approx(80, abs=4)


def test_pictures_show_the_first_axis_to_the_right() -> None:
    plane = np.zeros((40, 40), dtype=np.float32)
    plane[30, 10] = 1.0
    picture = tile(plane, None, View((19.5, 19.5), (1.0, 1.0, 10.0), 40.0, 40), (0.0, 1.0))
    row, column = np.unravel_index(picture[..., 0].argmax(), (40, 40))
    assert (row, column) == (10, 30)


def test_contours_are_drawn_in_their_colours(box: Cine) -> None:
    view = View((12.0, 10.0), (2.0, 1.5, 10.0), 60.0, 96)
    picture = tile(box.image[0, ..., 3], box.label[0, ..., 3], view, (-1.0, 1.0))
    for colour in COLOURS.values():
        assert (picture == colour).all(axis=-1).sum() > 20


def test_gif_beats_in_time(box: Cine, tmp_path: Path) -> None:
    render_gif(box.image, box.label, (2.0, 1.5, 10.0), box.frame_time_ms, tmp_path / "beat.gif", pixels=64)
    with Image.open(tmp_path / "beat.gif") as gif:
        assert gif.n_frames == 5
        assert gif.info["duration"] == 30  # 31.25 ms in hundredths of a second
        assert gif.info["loop"] == 0
        assert gif.size == (3 * 64, 2 * 64)


def test_phases_of_a_sheet() -> None:
    assert Timing(3, 10).shown(12) == [(3, "ED"), (6, "systole"), (10, "ES"), (0, "diastole"), (1, "diastole")]
    assert Timing(0, 1).shown(2) == [(0, "ED"), (1, "ES")]
    assert [name for _, name in Timing(0, 11).shown(30)] == ["ED", "systole", "ES", "diastole", "diastole"]


@pytest.mark.parametrize("labelled", [True, False])
def test_a_real_study_makes_a_sheet(tmp_path: Path, box: Cine, labelled: bool) -> None:
    image = (1000 * (box.image[[0, 2]] + 1)).astype(np.int16)
    label = box.label[[0, 2]] if labelled else None
    render_contact_sheet(image, label, (2.0, 1.5, 10.0), tmp_path / "s.png", timing=Timing(0, 1), pixels=32)
    with Image.open(tmp_path / "s.png") as sheet:
        assert sheet.size[0] > 7 * 32 + 400


def test_curves_are_of_what_was_annotated(box: Cine) -> None:
    """LV at ED and ES, myocardium at ED, RV never: not a curve that falls to zero."""
    axes = Figure().subplots()
    said = np.array([[False, True, True], [False, False, True]])
    _draw_curves(axes, box.label[[0, 2]], said, 1.0, Timing(0, 1))
    points = {line.get_label(): len(line.get_xdata()) for line in axes.lines if line.get_label() in Label.__members__}
    assert points == {"MYO": 1, "LV": 2}


def test_a_study_of_the_dataset_makes_a_sheet(tmp_path: Path, box: Cine) -> None:
    frames = np.array([0, 2])
    study = Study(
        subject="p1",
        dataset="test",
        vendor="none",
        diagnosis=Diagnosis.DCM,
        image=box.image[frames],
        label=box.label[frames],
        coverage=full_coverage(np.array([True, True]), box.label.shape[3]),
        frame_index=frames,
        frames_in_cycle=5,
        ed_index=0,
        es_index=2,
        affine=box.affine,
    )
    render_study(study, tmp_path / "study.png")
    assert [p.name for p in tmp_path.iterdir()] == ["study.png"]
    with pytest.raises(DataError, match="frame 3 of p1 is not stored"):
        render_study(replace(study, es_index=3), tmp_path / "study.png")


def test_a_sidecar_of_the_last_release_is_read_under_today_s_keys(cine: Cine, tmp_path: Path) -> None:
    content = json.loads(json.dumps(save_case(cine, tmp_path / "case", pictures=False)))
    old = json.loads(json.dumps(content))
    record = old["provenance"]

    def as_before(values: dict[str, object], names: dict[str, str]) -> dict[str, object]:
        before = {today: name for name, today in names.items()}
        assert before.keys() <= values.keys()
        return {before.get(key, key): value for key, value in values.items()}

    record["request"] = as_before(record["request"], RENAMED_REQUEST_KEYS)
    for stage in ("anatomy", "motion"):
        record["acceptance"][stage] = as_before(record["acceptance"][stage], RENAMED_STAGE_KEYS)
    (tmp_path / "case" / "case.json").write_text(json.dumps(old))
    assert read_sidecar(tmp_path / "case") == content
