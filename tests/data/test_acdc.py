"""The ACDC reader: one-based frames, the whole cycle where it is there, and every way a copy can be broken."""

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from cinesynth.data.sources.acdc import read_acdc
from cinesynth.errors import DataError
from cinesynth.types import Diagnosis, Label, volumes_ml

Break = Callable[[Path], object]
ES_GT = "patient001_frame03_gt.nii.gz"
ED = "patient001_frame01.nii.gz"


def save(path: Path, data: np.ndarray, spacing: tuple[float, ...] = (3.0, 3.0, 10.0)) -> None:
    image = nib.Nifti1Image(data, np.diag([*(*spacing, 1.0)[:3], 1.0]))
    image.header.set_zooms(spacing)
    nib.save(image, path)


@pytest.mark.parametrize("layout", [".", "database"])
def test_both_layouts_and_the_folder_itself(acdc_folder: Path, tmp_path: Path, layout: str) -> None:
    root = tmp_path / "download"
    (root / layout).mkdir(parents=True, exist_ok=True)
    acdc_folder.rename(root / layout / "acdc") if layout == "." else (acdc_folder / "training").rename(
        root / layout / "training"
    )
    found = root / "acdc" if layout == "." else root
    source = read_acdc(found)
    assert source.names == ("patient001", "patient002")
    assert len(source) == 2
    inside = next(found.rglob("training"))
    assert read_acdc(inside).names == source.names


def test_frame_numbers_count_from_one(acdc_folder: Path) -> None:
    first, second = read_acdc(acdc_folder)
    assert (first.ed_index, first.es_index, first.frames_in_cycle) == (0, 2, 4)
    assert first.frame_index.tolist() == [0, 2]
    assert first.coverage.shape == (2, 4, 3)
    assert first.coverage.all()
    assert (first.group, second.group) == ("DCM", "NOR")
    assert (first.phases_from, first.slices_from) == ("metadata", "declared")
    assert (first.diagnosis, second.diagnosis) == (Diagnosis.DCM, Diagnosis.NOR)
    assert first.image.dtype == np.int16
    assert first.spacing_mm == (3.0, 3.0, 10.0)
    assert first.frame_time_ms is None
    edv, esv = volumes_ml(first.label, Label.LV, first.voxel_ml)
    assert edv > esv > 0


@pytest.mark.parametrize(("pixdim", "expected"), [(0.033, 33.0), (41.0, 41.0), (1.0, None)])
def test_the_whole_cycle_is_taken_where_it_is_there(acdc_folder: Path, pixdim: float, expected: float | None) -> None:
    folder = acdc_folder / "training" / "patient001"
    cycle = np.random.default_rng(0).integers(0, 255, (40, 38, 4, 4)).astype(np.int16)
    save(folder / "patient001_4d.nii.gz", cycle, (3.0, 3.0, 10.0, pixdim))
    study = read_acdc(acdc_folder).read("patient001")
    assert (study.image == np.moveaxis(cycle, -1, 0)).all()
    assert study.labelled.tolist() == [True, False, True, False]
    assert study.frame_time_ms == (None if expected is None else pytest.approx(expected, rel=1e-5))


def test_pixdim_is_the_authority_on_spacing(acdc_folder: Path) -> None:
    """patient090 carries an affine of ones beside the true pixdim."""
    for path in (acdc_folder / "training" / "patient001").glob("*.nii.gz"):
        image = nib.load(path)
        data, header = np.asanyarray(image.dataobj), image.header.copy()
        header.set_sform(np.diag([-1.0, -1.0, 1.0, 1.0]), code=2)
        header["pixdim"][1:4] = 1.8, 1.8, 10.0
        nib.Nifti1Image(data, None, header).to_filename(path)
    affine = read_acdc(acdc_folder).read("patient001").affine
    np.testing.assert_allclose(np.diag(affine), [-1.8, -1.8, 10.0, 1.0], rtol=1e-6)


def change_info(old: str, new: str) -> Break:
    def change(folder: Path) -> None:
        path = folder / "Info.cfg"
        path.write_text(path.read_text().replace(old, new))

    return change


def truncate(folder: Path) -> None:
    data = (folder / ED).read_bytes()
    (folder / ED).write_bytes(data[: len(data) // 2])


LABEL = np.zeros((40, 38, 4), np.uint8)
BROKEN: dict[str, tuple[Break, str]] = {
    "no Info.cfg": (lambda f: (f / "Info.cfg").unlink(), r"Info\.cfg is missing"),
    "no ED key": (change_info("ED: 1\n", ""), r"Info\.cfg: ED is missing"),
    "ED not a number": (change_info("ED: 1", "ED: one"), "ED is 'one'"),
    "ED zero": (change_info("ED: 1", "ED: 0"), "ED 0 and ES 3"),
    "ES beyond the cycle": (change_info("NbFrame: 4", "NbFrame: 2"), "cycle of 2"),
    "unknown group": (change_info("DCM", "ARV"), r"Info\.cfg: unknown Group 'ARV'"),
    "no group": (change_info("Group: DCM\n", ""), "Group ''"),
    "no frame": (lambda f: (f / ED).unlink(), r"frame01\.nii\.gz does not exist"),
    "no label": (lambda f: (f / ES_GT).unlink(), r"frame03_gt\.nii\.gz does not exist"),
    "truncated": (truncate, r"frame01\.nii\.gz cannot be read"),
    "not NIfTI": (lambda f: (f / ED).write_bytes(b"hello"), r"frame01\.nii\.gz cannot be read"),
    "label of another shape": (lambda f: save(f / ES_GT, LABEL[:-1]), r"frame03_gt.* \(39, 38, 4\)"),
    "label of another spacing": (lambda f: save(f / ES_GT, LABEL, (2.0, 2.0, 10.0)), "frame03_gt.*mm"),
    "label beyond 3": (lambda f: save(f / ES_GT, LABEL + 4), "holds the labels 4"),
    "empty label": (lambda f: save(f / ES_GT, LABEL), "no LV cavity"),
    "NaN": (lambda f: save(f / ED, np.full(LABEL.shape, np.nan, np.float32)), "not finite"),
    "one slice": (lambda f: save(f / ED, np.zeros((40, 38), np.int16), (3.0, 3.0)), "2 dimensions"),
    "frames of two shapes": (lambda f: save(f / ED, np.zeros((40, 38, 5), np.int16)), "frame03.*frame01"),
    "no spacing": (lambda f: save(f / ED, np.zeros((40, 38, 4), np.int16), (0.01, 0.01, 10.0)), "0.01 x 0.01 x 10 mm"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_copy_names_the_file_and_says_what_to_do(acdc_folder: Path, case: str) -> None:
    harm, found = BROKEN[case]
    harm(acdc_folder / "training" / "patient001")
    source = read_acdc(acdc_folder)
    with pytest.raises(DataError, match=found) as caught:
        source.read("patient001")
    assert caught.value.hint
    assert "patient001" in caught.value.message
    assert source.read("patient002").subject == "patient002"


def test_the_files_of_a_patient_are_named(acdc_folder: Path) -> None:
    source = read_acdc(acdc_folder)
    names = {path.name for path in source.files("patient001")}
    assert {"Info.cfg", ED, ES_GT} < names
    assert len(names) == 5


def test_no_patients(tmp_path: Path) -> None:
    for root in (tmp_path, tmp_path / "absent"):
        with pytest.raises(DataError, match="no ACDC subjects") as caught:
            read_acdc(root)
        assert "training/patient001" in caught.value.hint


def test_real_patients(acdc_root: Path) -> None:
    """Volumes of the reader against what ACDC's groups are known for."""
    source = read_acdc(acdc_root)
    dilated = source.read("patient001")
    edv, esv = volumes_ml(dilated.label, Label.LV, dilated.voxel_ml)
    assert dilated.diagnosis is Diagnosis.DCM
    assert 200 < edv < 400
    assert 100 * (1 - esv / edv) < 40
    cycle = source.read("patient090")
    assert (cycle.ed_index, cycle.es_index, cycle.frames_in_cycle) == (3, 10, 12)
    assert cycle.image.shape == (12, 154, 224, 7)
    assert np.flatnonzero(cycle.labelled).tolist() == [3, 10]
    assert cycle.frame_time_ms is None  # the header says 1.0, a placeholder
    frame = nib.load(acdc_root / "training/patient090/patient090_frame04.nii.gz")
    assert (cycle.image[3] == np.asanyarray(frame.dataobj)).all()
    areas = (cycle.label[3] == Label.LV).sum(axis=(0, 1))
    assert areas[:3].sum() > 1.5 * areas[-3:].sum()  # base first
