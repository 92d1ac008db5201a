"""The ACDC reader: one-based frames, the whole cycle where it is there, and every way a copy can be broken."""

import gzip
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from cinesynth.data.sources.acdc import read_acdc
from cinesynth.errors import DataError
from cinesynth.types import Diagnosis, Label, volumes_ml
from tests.data.conftest import build_study

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


def write_cycle(folder: Path, order: Sequence[int] = range(4), pixdim: float = 1.0) -> np.ndarray:
    """The 4D file of a drawn patient, its frames in this order; returns ``T X Y Z`` in the right order."""
    frames = build_study(folder.name, size=(40, 38, 4), spacing=(3.0, 3.0, 10.0)).image
    save(folder / f"{folder.name}_4d.nii.gz", np.moveaxis(frames[list(order)], 0, -1), (3.0, 3.0, 10.0, pixdim))
    return frames


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
    cycle = write_cycle(acdc_folder / "training" / "patient001", pixdim=pixdim)
    study = read_acdc(acdc_folder).read("patient001")
    assert (study.image == cycle).all()
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


# --- copies as people have them --------------------------------------------------------------------------------------


def test_slices_that_run_from_the_apex_are_turned(acdc_folder: Path) -> None:
    """As tools save them again that reverse the slices: nothing but the labels shows it."""
    expected = read_acdc(acdc_folder).read("patient001")
    for path in (acdc_folder / "training" / "patient001").glob("*.nii.gz"):
        image = nib.load(path)
        nib.save(nib.Nifti1Image(np.asanyarray(image.dataobj)[..., ::-1], image.affine), path)
    study = read_acdc(acdc_folder).read("patient001")
    assert (study.image == expected.image).all()
    assert (study.label == expected.label).all()
    assert (study.slices_from, study.to_source[2]) == ("labels", (2, -1))
    assert study.notes == ("slices ran from apex to base, by the labels",)
    assert (expected.slices_from, expected.notes) == ("declared", ())


@pytest.mark.parametrize("turn", [1, 3])
def test_a_cycle_that_starts_at_another_frame_is_turned_back(acdc_folder: Path, turn: int) -> None:
    """Labels belong to the frame files, and the images of ED and ES are theirs."""
    folder = acdc_folder / "training" / "patient001"
    cycle = write_cycle(folder, np.roll(range(4), turn))
    study = read_acdc(acdc_folder).read("patient001")
    assert (study.image == cycle).all()
    assert np.flatnonzero(study.labelled).tolist() == [0, 2]
    assert study.notes == (f"the 4d file started {turn} frames before frame 1 of Info.cfg, which was undone",)


OTHER_ORDER = r"another order: .*frame01\.nii\.gz at 1, .*frame03\.nii\.gz at 4"
OTHER_FRAMES = r"frame01\.nii\.gz is not a frame of patient001_4d"


@pytest.mark.parametrize(("order", "found"), [([0, 3, 1, 2], OTHER_ORDER), ([1, 3, 1, 3], OTHER_FRAMES)])
def test_a_cycle_of_other_frames_is_refused(acdc_folder: Path, order: list[int], found: str) -> None:
    folder = acdc_folder / "training" / "patient001"
    write_cycle(folder, order)
    with pytest.raises(DataError, match=found) as caught:
        read_acdc(acdc_folder).read("patient001")
    assert "remove the 4d file" in caught.value.hint
    (folder / "patient001_4d.nii.gz").unlink()
    assert read_acdc(acdc_folder).read("patient001").frame_index.tolist() == [0, 2]


def test_patients_of_the_test_set_have_no_labels_and_no_group(acdc_folder: Path) -> None:
    folder = acdc_folder / "training" / "patient001"
    for path in folder.glob("*_gt.nii.gz"):
        path.unlink()
    change_info("Group: DCM\n", "")(folder)
    study = read_acdc(acdc_folder).read("patient001")
    assert not study.coverage.any()
    assert not study.label.any()
    assert (study.diagnosis, study.group, study.slices_from) == (Diagnosis.UNKNOWN, "", "declared")
    assert (study.ed_index, study.es_index, study.phases_from) == (0, 2, "metadata")
    assert study.notes == ("there are no labels (_gt) of this patient",)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_info_with_a_byte_order_mark(acdc_folder: Path, encoding: str) -> None:
    path = acdc_folder / "training" / "patient001" / "Info.cfg"
    path.write_bytes(path.read_text().encode(encoding))
    study = read_acdc(acdc_folder).read("patient001")
    assert (study.ed_index, study.es_index, study.diagnosis) == (0, 2, Diagnosis.DCM)


@pytest.mark.parametrize("whole", [True, False])
def test_files_that_were_unpacked(acdc_folder: Path, whole: bool) -> None:
    folder = acdc_folder / "training" / "patient001"
    if whole:
        write_cycle(folder)
    expected = read_acdc(acdc_folder).read("patient001")
    for path in folder.glob("*.nii.gz"):
        path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()
    study = read_acdc(acdc_folder).read("patient001")
    assert (study.image == expected.image).all()
    assert (study.label == expected.label).all()
    assert len(study.image) == (4 if whole else 2)


@pytest.mark.parametrize("inside", ["ACDC/database/training/patient001", "training/patient001/patient001"])
def test_archives_unpacked_into_folders_of_their_own(acdc_folder: Path, tmp_path: Path, inside: str) -> None:
    place = tmp_path / "download" / inside
    place.parent.mkdir(parents=True)
    (acdc_folder / "training" / "patient001").rename(place)
    (tmp_path / "download" / "__MACOSX" / "training" / "patient001").mkdir(parents=True)
    study = read_acdc(tmp_path / "download").read("patient001")
    assert (study.subject, study.diagnosis) == ("patient001", Diagnosis.DCM)


def test_a_patient_in_two_folders_is_refused(acdc_folder: Path) -> None:
    shutil.copytree(acdc_folder / "training", acdc_folder / "old copy" / "training")
    with pytest.raises(DataError, match="patient001 is in two folders") as caught:
        read_acdc(acdc_folder)
    assert "name one of them" in caught.value.hint
    assert len(read_acdc(acdc_folder / "training")) == 2


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
