"""CineMA's preprocessed output, old and new: splits, cycles where it kept them, columns under two names."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cinesynth.data.sources.cinema import read_cinema
from cinesynth.errors import DataError
from cinesynth.types import Diagnosis, Label, Study, volumes_ml
from tests.data.nifti_files import only_frames, phantom, save

Break = Callable[[Path], object]
AFFINE = np.diag([-1.0, -1.0, 10.0, 1.0])


def lv_ml(study: Study, frame: int) -> float:
    """On CineMA's grid of 1 x 1 x 10 mm."""
    return float(volumes_ml(study.label, Label.LV, 0.01)[frame])


def write_subject(folder: Path, study: Study, ed: int, es: int, *, cycle: bool, labels: bool = True) -> None:
    stem = str(folder / f"{folder.name}_sax")
    image = np.clip(study.image / 8, 0, 255).astype(np.uint8)
    if cycle:
        save(Path(f"{stem}_t.nii.gz"), image, AFFINE)
    for name, frame in (("ed", ed), ("es", es)) if labels else ():
        save(Path(f"{stem}_{name}.nii.gz"), image[frame], AFFINE)
        save(Path(f"{stem}_{name}_gt.nii.gz"), study.label[frame], AFFINE)


@pytest.fixture
def acdc(tmp_path: Path) -> Path:
    """ACDC, newer columns: cycles, frames counted from one."""
    root = tmp_path / "acdc"
    rows = ["pid,pathology,height,n_frames,ed_frame,es_frame,n_slices,lv_edv,lv_esv,lv_ef"]
    for split, number, ed, es, group in (("train", 1, 0, 2, "DCM"), ("test", 101, 5, 2, "MINF")):
        name, study = f"patient{number:03d}", phantom(number % 4)
        write_subject(root / split / name, study, ed, es, cycle=True)
        volumes = f"{lv_ml(study, ed)},{lv_ml(study, es)},50.0"
        text = "\n".join([*rows, f"{name},{group},1.8,6,{ed + 1},{es + 1},9,{volumes}", ""])
        (root / f"{split}_metadata.csv").write_text(text)
    return root


@pytest.fixture
def mnms(tmp_path: Path) -> Path:
    """M&Ms, older columns: ED and ES alone, frames counted from zero, volumes that add up label numbers."""
    root = tmp_path / "mnms"
    columns = "pid,vendor_name,vendor,center,ed_index,es_index,pathology,edv,esv,ef"
    write_subject(root / "val" / "A0S9V9", phantom(2), 0, 2, cycle=False)
    (root / "val_metadata.csv").write_text(f"{columns}\nA0S9V9,Siemens,A,1,11,3,LVNC,1,2,3\n")
    return root


def test_cycles_with_frames_counted_from_one(acdc: Path) -> None:
    source = read_cinema(acdc)
    assert set(source.names) == {"patient001", "patient101"}
    for name, ed, es, group in (("patient001", 0, 2, Diagnosis.DCM), ("patient101", 5, 2, Diagnosis.MINF)):
        study, expected = source.read(name), phantom(int(name[-3:]) % 4)
        assert (study.ed_index, study.es_index, study.frames_in_cycle) == (ed, es, 6)
        assert np.array_equal(study.label, only_frames(expected.label, ed, es))
        assert np.flatnonzero(study.labelled).tolist() == sorted((ed, es))
        assert (study.diagnosis, study.vendor, study.dataset) == (group, "unknown", "cinema")
        assert study.spacing_mm == pytest.approx((1.0, 1.0, 10.0))
        assert (study.phases_from, study.slices_from) == ("metadata", "labels")


def test_ed_and_es_alone_with_older_columns(mnms: Path) -> None:
    """Their volumes are not read: they are no volumes."""
    study = read_cinema(mnms).read("A0S9V9")
    assert study.reported_lv_edv_ml is study.reported_lv_esv_ml is None
    assert (study.ed_index, study.es_index, study.frames_in_cycle) == (0, 1, 2)
    assert (study.vendor, study.group, study.diagnosis) == ("Siemens", "LVNC", Diagnosis.UNKNOWN)
    assert np.array_equal(study.label, phantom(2).label[[0, 2]])


def test_one_split(acdc: Path) -> None:
    assert read_cinema(acdc / "train").names == ("patient001",)


def test_labels_of_the_whole_cycle_tell_the_phases(acdc: Path) -> None:
    folder = acdc / "train" / "patient001"
    save(folder / "patient001_sax_t_gt.nii.gz", phantom(1).label, AFFINE)
    (acdc / "train_metadata.csv").write_text("pid,pathology\npatient001,NOR\n")
    study = read_cinema(acdc).read("patient001")
    assert study.labelled.all()
    assert (study.ed_index, study.es_index, study.phases_from) == (0, phantom(1).es_index, "labels")


def test_numbers_that_lost_their_zeros(tmp_path: Path) -> None:
    """M&Ms-2 subjects, after somebody saved the table again."""
    write_subject(tmp_path / "train" / "007", phantom(1), 0, 2, cycle=False)
    (tmp_path / "train_metadata.csv").write_text("pid,pathology,vendor\n7,HCM,GE MEDICAL SYSTEMS\n")
    study = read_cinema(tmp_path).read("007")
    assert (study.subject, study.vendor, study.diagnosis) == ("007", "GE", Diagnosis.HCM)


def test_a_cycle_without_labels_or_phases(tmp_path: Path) -> None:
    """What CineMA makes of the Data Science Bowl."""
    write_subject(tmp_path / "train" / "12", phantom(1), 0, 2, cycle=True, labels=False)
    (tmp_path / "train_metadata.csv").write_text("pid,n_frames,systole_volume,diastole_volume\n12,6,40.0,120.0\n")
    study = read_cinema(tmp_path).read("12")
    assert (study.ed_index, study.es_index, study.phases_from) == (0, 2, "assumed")
    assert (study.reported_lv_edv_ml, study.reported_lv_esv_ml) == (120.0, 40.0)
    assert not study.coverage.any()
    (tmp_path / "train_metadata.csv").write_text("pid,ed_index,es_index\n12,0,3\n")
    study = read_cinema(tmp_path).read("12")
    assert (study.ed_index, study.es_index, study.phases_from) == (0, 3, "metadata")
    assert study.reported_lv_edv_ml is None
    assert not study.coverage.any()


def test_labels_of_frames_that_nobody_names_are_not_dropped(acdc: Path) -> None:
    (acdc / "train_metadata.csv").write_text("pid,pathology\npatient001,NOR\n")
    with pytest.raises(DataError, match=r"patient001_sax_ed_gt\.nii\.gz labels ED, but no table tells") as caught:
        read_cinema(acdc).read("patient001")
    assert caught.value.hint


def test_volumes_of_newer_tables_are_reported(acdc: Path) -> None:
    study = read_cinema(acdc).read("patient001")
    assert study.reported_lv_edv_ml == pytest.approx(lv_ml(phantom(1), 0))
    assert study.reported_lv_esv_ml == pytest.approx(lv_ml(phantom(1), 2))
    change_table(f"{lv_ml(phantom(1), 2)}", "")(acdc)
    assert read_cinema(acdc).read("patient001").reported_lv_esv_ml is None


def change_table(old: str, new: str) -> Break:
    def change(root: Path) -> None:
        path = root / "train_metadata.csv"
        path.write_text(path.read_text().replace(old, new))

    return change


BROKEN: dict[str, tuple[Break, str]] = {
    "no image": (lambda r: (r / "train/patient001/patient001_sax_t.nii.gz").write_bytes(b""), "cannot be read"),
    "ES beyond the cycle": (change_table("6,1,3", "6,1,9"), "ED 0 and ES 8 are not two"),
    "frames from zero": (change_table("6,1,3", "6,0,2"), "ED -1 and ES 1 are not two"),
    "another volume": (
        change_table(f"{lv_ml(phantom(1), 0)}", "99.5"),
        r"lv_edv of patient001 is 99\.5 mL",
    ),
    "label 4": (
        lambda r: save(r / "train/patient001/patient001_sax_ed_gt.nii.gz", 4 * phantom(1).label[0], AFFINE),
        "holds the labels 0, 4",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_copy_says_what_is_wrong(acdc: Path, case: str) -> None:
    harm, found = BROKEN[case]
    harm(acdc)
    with pytest.raises(DataError, match=found) as caught:
        read_cinema(acdc).read("patient001")
    assert caught.value.hint
    assert read_cinema(acdc).read("patient101").subject == "patient101"


def test_tables_and_folders_that_do_not_fit(acdc: Path, tmp_path: Path) -> None:
    for root in (tmp_path / "absent", tmp_path):
        with pytest.raises(DataError, match="no CineMA subjects"):
            read_cinema(root)
    (acdc / "test" / "patient101").rename(acdc / "test" / "patient102")
    write_subject(acdc / "test" / "patient102", phantom(1), 0, 2, cycle=True)
    with pytest.raises(DataError, match="has no row for patient102"):
        read_cinema(acdc)
    (acdc / "test_metadata.csv").write_text("pid\npatient001\n")
    (acdc / "test" / "patient102").rename(acdc / "test" / "patient001")
    write_subject(acdc / "test" / "patient001", phantom(1), 0, 2, cycle=True)
    with pytest.raises(DataError, match="patient001 is in two splits"):
        read_cinema(acdc)


def test_a_source_names_its_files(acdc: Path) -> None:
    files = read_cinema(acdc).files
    assert files is not None
    assert [path.name for path in files("patient001")][:2] == ["train_metadata.csv", "patient001_sax_ed.nii.gz"]
