"""M&Ms-2 in the layout of its download: subjects without zeros, a padded table, ED and ES without numbers."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cinesynth.data.orientation import apply
from cinesynth.data.sources.mnms import read_mnms2
from cinesynth.errors import DataError
from cinesynth.types import Diagnosis
from tests.data.nifti_files import TO_MNMS, phantom, save, scanner_affine

Break = Callable[[Path], object]
ROWS = [
    "SUBJECT_CODE,DISEASE,VENDOR,SCANNER,FIELD",
    "1,NOR,SIEMENS,Symphony,1.5",
    "2,LV,Philips Medical Systems,Achieva,1.5",
    "27,FALL,GE MEDICAL SYSTEMS,SIGNA EXCITE,1.5",
    "203,TRI,SIEMENS,Trio,3.0",
]
SUBJECTS = {"001": (0, 2), "002": (5, 2), "027": (1, 3), "203": (0, 2)}
"""ED and ES of each, in its cycle."""


def write_subject(folder: Path, ed: int, es: int, *, cycle: bool = True) -> None:
    study, name = phantom(int(folder.name) % 4), folder.name
    affine = scanner_affine(study.spacing_mm)
    image, turned = apply(study.image, affine, ((0, 1), (1, 1), (2, -1)))
    for phase, frame in (("ED", ed), ("ES", es)):
        save(folder / f"{name}_SA_{phase}.nii.gz", image[frame], turned)
        save(folder / f"{name}_SA_{phase}_gt.nii.gz", TO_MNMS[study.label[frame, ..., ::-1]], turned)
        save(folder / f"{name}_LA_{phase}.nii.gz", image[0, :, :, :1], turned)
    if cycle:
        save(folder / f"{name}_SA_CINE.nii.gz", image, turned, 38.0, "msec")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "MnM2"
    for name, (ed, es) in SUBJECTS.items():
        write_subject(folder / "dataset" / name, ed, es, cycle=name != "027")
    (folder / "dataset_information.csv").write_text("\r\n".join([*ROWS, *[",,,,"] * 2000]))
    return folder


def test_the_download_and_its_parts(root: Path) -> None:
    for place in (root, root.parent, root / "dataset"):
        assert read_mnms2(place).names == tuple(SUBJECTS)


def test_ed_and_es_are_found_in_the_cycle(root: Path) -> None:
    for name in ("001", "002", "203"):
        study, expected, phases = read_mnms2(root).read(name), phantom(int(name) % 4), SUBJECTS[name]
        assert (study.ed_index, study.es_index) == phases
        assert study.frames_in_cycle == 6
        assert study.frame_time_ms == pytest.approx(38.0)
        assert np.array_equal(study.image, expected.image)
        assert np.array_equal(study.label[list(phases)], expected.label[list(phases)])
        assert np.flatnonzero(study.coverage.all(axis=(1, 2))).tolist() == sorted(phases)
        assert (study.slices_from, study.to_source, study.phases_from) == (
            "labels",
            ((0, 1), (1, 1), (2, -1)),
            "metadata",
        )


def test_ed_and_es_alone(root: Path) -> None:
    """Where there is no cycle, or nobody wants it."""
    for name, source in (("027", read_mnms2(root)), ("002", read_mnms2(root, cycles=False))):
        study, expected = source.read(name), phantom(int(name) % 4)
        assert (study.ed_index, study.es_index, study.frames_in_cycle) == (0, 1, 2)
        assert np.array_equal(study.image, expected.image[list(SUBJECTS[name])])
        assert study.coverage.all()
    with_cycle, without = (read_mnms2(root, cycles=cycles).files for cycles in (True, False))
    assert with_cycle is not None
    assert without is not None
    assert {path.name for path in with_cycle("002")} - {path.name for path in without("002")} == {"002_SA_CINE.nii.gz"}


def test_who_they_are(root: Path) -> None:
    studies = {study.subject: study for study in read_mnms2(root)}
    assert {name: (s.vendor, s.group, s.diagnosis) for name, s in studies.items()} == {
        "001": ("Siemens", "NOR", Diagnosis.NOR),
        "002": ("Philips", "LV", Diagnosis.DCM),
        "027": ("GE", "FALL", Diagnosis.UNKNOWN),
        "203": ("Siemens", "TRI", Diagnosis.UNKNOWN),
    }


def other_cycle(folder: Path) -> None:
    save(folder / "002_SA_CINE.nii.gz", phantom(3).image[..., :1].repeat(10, axis=3), phantom(2).affine)


BROKEN: dict[str, tuple[Break, str]] = {
    "no ES": (lambda f: (f / "002_SA_ES.nii.gz").unlink(), r"002_SA_ES\.nii\.gz does not exist"),
    "no label": (lambda f: (f / "002_SA_ED_gt.nii.gz").unlink(), r"002_SA_ED_gt\.nii\.gz does not exist"),
    "empty label": (
        lambda f: save(f / "002_SA_ED_gt.nii.gz", 0 * phantom(2).label[0], scanner_affine(phantom(2).spacing_mm)),
        r"002_SA_ED_gt\.nii\.gz has no LV cavity",
    ),
    "cycle of another scan": (other_cycle, r"002_SA_(ED|CINE)\.nii\.gz (is no frame|has \()"),
    "cycle that cannot be read": (
        lambda f: (f / "002_SA_CINE.nii.gz").write_bytes(b"no"),
        "CINE.* cannot be read",
    ),
    "ED twice": (
        lambda f: (f / "002_SA_ES.nii.gz").write_bytes((f / "002_SA_ED.nii.gz").read_bytes()),
        "ED 5 and ES 5 are not two of its frames",
    ),
    "no row": (lambda f: f.rename(f.with_name("004")), "has no row for 004"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_copy_says_what_is_wrong(root: Path, case: str) -> None:
    harm, found = BROKEN[case]
    harm(root / "dataset" / "002")
    source = read_mnms2(root)
    (name,) = set(source.names) - {"001", "027", "203"}
    with pytest.raises(DataError, match=found) as caught:
        source.read(name)
    assert caught.value.hint
    assert source.read("001").subject == "001"


def test_no_table_and_no_subjects(root: Path, tmp_path: Path) -> None:
    (tmp_path / "dataset_information.csv").write_text("\n".join(ROWS))
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(DataError, match="no M&Ms-2 subjects"):
        read_mnms2(empty)
    (root / "dataset_information.csv").unlink()
    (tmp_path / "dataset_information.csv").unlink()
    with pytest.raises(DataError, match=r"dataset_information\.csv is missing"):
        read_mnms2(root)
