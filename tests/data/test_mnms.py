"""M&Ms in the layout of its download, written from the analytic heart: reversed labels, mixed order, empty labels."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cinesynth.data.ingest import ingest
from cinesynth.data.normalisation import default_es_index
from cinesynth.data.orientation import apply
from cinesynth.data.sources.mnms import read_mnms
from cinesynth.errors import DataError
from cinesynth.types import Diagnosis, Label, volumes_ml
from tests.data.nifti_files import SCANNER, TO_MNMS, only_frames, phantom, save, scanner_affine

Break = Callable[[Path], object]
TABLE = "211230_M&Ms_Dataset_information_diagnosis_opendataset.csv"
HEADER = ",External code,VendorName,Vendor,Centre,ED,ES,Age,Pathology,Sex,Height,Weight"
SUBJECTS = {
    # code: part, vendor, letter, ED, ES, pathology, seed
    "A0S9V9": ("Training/Labeled", "Siemens", "A", 5, 2, "DCM", 0),
    "B3F0V9": ("Training/Labeled", "Philips", "B", 0, 2, "ARV", 1),
    "C2J0K3": ("Training/Unlabeled", "GE", "C", 0, 0, "", 2),
    "E4W8Z7": ("Validation", "Canon", "D", 0, 2, "LV_noncompaction", 3),
    "H7N4V8": ("Testing", "GE", "C", 0, 2, "HHD", 4),
}
APEX_FIRST = ("A0S9V9", "E4W8Z7")
ROWS = [
    f"{n},{code},{vendor},{letter},1,{ed},{es},53.0,{group},F,160.0,"
    for n, (code, (_, vendor, letter, ed, es, group, _)) in enumerate(SUBJECTS.items())
]


def write_subject(root: Path, code: str, affine: np.ndarray | None = None) -> None:
    part, _, _, ed, es, _, seed = SUBJECTS[code]
    study = phantom(seed)
    affine = study.affine if affine is None else affine
    flip = -1 if code in APEX_FIRST else 1
    labels = only_frames(study.label, *({ed, es} if part != "Training/Unlabeled" else ()))
    for kind, frames in (("", study.image), ("_gt", TO_MNMS[labels])):
        save(root / part / code / f"{code}_sa{kind}.nii.gz", frames[..., ::flip], affine)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "M&Ms" / "OpenDataset"
    for code in SUBJECTS:
        write_subject(folder, code)
    (folder / TABLE).write_text("\n".join([HEADER, *ROWS]) + "\n")
    return folder


def test_the_download_and_its_parts(root: Path) -> None:
    assert read_mnms(root).names == tuple(sorted(SUBJECTS))
    assert read_mnms(root.parent).names == tuple(sorted(SUBJECTS))
    assert read_mnms(root / "Training").names == ("A0S9V9", "B3F0V9", "C2J0K3")
    assert read_mnms(root / "Training" / "Labeled").names == ("A0S9V9", "B3F0V9")
    assert read_mnms(root / "Testing").read("H7N4V8").group == "HHD"


def test_reversed_labels_mixed_order_and_ed_at_the_end_of_the_cycle(root: Path) -> None:
    for code, (_, vendor, _, ed, es, group, seed) in SUBJECTS.items():
        if ed == es:
            continue
        study, expected = read_mnms(root).read(code), phantom(seed)
        assert np.array_equal(study.image, expected.image), code
        assert np.array_equal(study.label, only_frames(expected.label, ed, es)), code
        assert (study.ed_index, study.es_index, study.frames_in_cycle) == (ed, es, 6)
        assert np.flatnonzero(study.coverage.all(axis=(1, 2))).tolist() == sorted((ed, es))
        assert np.flatnonzero(study.labelled).tolist() == sorted((ed, es))
        assert (study.vendor, study.group) == (vendor, group)
        assert (study.slices_from, study.to_source[2]) == ("labels", (2, -1 if code in APEX_FIRST else 1))
        assert study.phases_from == "metadata"
        edv = volumes_ml(study.label, Label.LV, study.voxel_ml)[ed]
        assert edv == pytest.approx(volumes_ml(expected.label, Label.LV, expected.voxel_ml)[ed], rel=1e-5)


def test_groups_keep_their_names(root: Path) -> None:
    source = read_mnms(root)
    ours = {code: source.read(code).diagnosis for code in SUBJECTS if code != "C2J0K3"}
    assert ours == {
        "A0S9V9": Diagnosis.DCM,
        "B3F0V9": Diagnosis.RV,
        "E4W8Z7": Diagnosis.UNKNOWN,
        "H7N4V8": Diagnosis.UNKNOWN,
    }


def test_an_unlabelled_subject_with_known_phases(root: Path) -> None:
    """Its label file holds zeros only, or is not there at all."""
    table = root / TABLE
    table.write_text(table.read_text().replace("C2J0K3,GE,C,1,0,0", "C2J0K3,GE,C,1,0,2"))
    for _ in range(2):
        study = read_mnms(root).read("C2J0K3")
        assert not study.coverage.any()
        assert (study.ed_index, study.es_index, study.slices_from) == (0, 2, "declared")
        (root / "Training/Unlabeled/C2J0K3/C2J0K3_sa_gt.nii.gz").unlink(missing_ok=True)


def test_ed_and_es_of_zero_say_nothing(root: Path) -> None:
    """Without labels they are assumed, with labels these tell."""
    study = read_mnms(root).read("C2J0K3")
    assert (study.ed_index, study.es_index, study.phases_from) == (0, default_es_index(6), "assumed")
    assert not study.coverage.any()
    table = root / TABLE
    table.write_text(table.read_text().replace("B3F0V9,Philips,B,1,0,2", "B3F0V9,Philips,B,1,0,0"))
    told = read_mnms(root).read("B3F0V9")
    assert (told.ed_index, told.es_index, told.phases_from) == (0, 2, "labels")


@pytest.mark.parametrize("name", ["201014_M&Ms_Dataset_Information_-_opendataset.csv", "211006_M&Ms_x.csv"])
def test_tables_of_earlier_releases(root: Path, name: str) -> None:
    """Without the first column, and without pathology."""
    (root / TABLE).unlink()
    rows = ["External code,VendorName,Vendor,Centre,ED,ES", "B3F0V9,Philips,B,2,0,2"]
    (root / name).write_text("\r\n".join(rows))
    study = read_mnms(root).read("B3F0V9")
    assert (study.vendor, study.group, study.diagnosis) == ("Philips", "", Diagnosis.UNKNOWN)


def test_affines_that_are_not_orthonormal(root: Path) -> None:
    directions = SCANNER.copy()
    directions[1] += 0.05 * directions[0]
    affine = scanner_affine(phantom(1).spacing_mm, directions)
    write_subject(root, "B3F0V9", affine)
    study = read_mnms(root).read("B3F0V9")
    assert np.array_equal(study.image, phantom(1).image)
    back, there = apply(study.image, study.affine, study.to_source)
    assert np.array_equal(back, phantom(1).image)
    np.testing.assert_allclose(there, affine, atol=1e-4)
    assert study.spacing_mm == pytest.approx(phantom(1).spacing_mm, rel=1e-5)


def change_table(old: str, new: str) -> Break:
    def change(root: Path) -> None:
        (root / TABLE).write_text((root / TABLE).read_text().replace(old, new))

    return change


def relabel(root: Path, data: np.ndarray) -> None:
    save(root / "Training/Labeled/B3F0V9/B3F0V9_sa_gt.nii.gz", data, phantom(1).affine)


BROKEN: dict[str, tuple[Break, str]] = {
    "no row": (change_table("B3F0V9,", "B3F0V8,"), "has no row for B3F0V9"),
    "no ED": (change_table("Philips,B,1,0,2", "Philips,B,1,,2"), "ED of B3F0V9 is '', expected a number"),
    "ES beyond the cycle": (
        change_table("B3F0V9,Philips,B,1,0,2", "B3F0V9,Philips,B,1,0,6"),
        "ED 0 and ES 6 are not two",
    ),
    "labels of other frames": (lambda r: relabel(r, TO_MNMS[only_frames(phantom(1).label, 0, 3)]), r"frames \[0, 3\]"),
    "label 4": (lambda r: relabel(r, 4 * only_frames(phantom(1).label, 0) // 3), "holds the labels 0, 1, 2, 4"),
    "label of one frame": (lambda r: relabel(r, TO_MNMS[phantom(1).label[0]]), "has 3 dimensions"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_copy_says_what_is_wrong(root: Path, case: str) -> None:
    harm, found = BROKEN[case]
    harm(root)
    with pytest.raises(DataError, match=found) as caught:
        read_mnms(root).read("B3F0V9")
    assert caught.value.hint
    assert "B3F0V9" in caught.value.message
    assert read_mnms(root).read("A0S9V9").subject == "A0S9V9"


def test_no_table_and_no_subjects(root: Path, tmp_path: Path) -> None:
    (root / TABLE).rename(tmp_path / "elsewhere.csv")
    with pytest.raises(DataError, match="no table") as caught:
        read_mnms(root)
    assert "211230_M&Ms" in caught.value.hint
    empty = tmp_path / "empty"
    empty.mkdir()
    (tmp_path / "elsewhere.csv").rename(empty / TABLE)
    with pytest.raises(DataError, match="no M&Ms subjects"):
        read_mnms(empty)


def test_a_source_names_its_files(root: Path) -> None:
    source = read_mnms(root)
    assert source.files is not None
    assert [path.name for path in source.files("A0S9V9")] == [TABLE, "A0S9V9_sa.nii.gz", "A0S9V9_sa_gt.nii.gz"]


def test_into_a_dataset(root: Path, tmp_path: Path) -> None:
    summary = ingest(read_mnms(root), tmp_path / "data", on_error="skip")
    rows = {row.subject: row for row in summary.added}
    assert set(rows) == set(SUBJECTS)
    assert {code for code, row in rows.items() if row.phases_from == "assumed"} == {"C2J0K3"}
    assert rows["E4W8Z7"].group == "LV_noncompaction"
    assert rows["A0S9V9"].to_source == "0+ 1+ 2-"
    assert rows["A0S9V9"].labelled_frames == 2
