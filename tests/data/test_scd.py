"""Sunnybrook: contours in text files become voxels where, and only where, they were drawn."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.path import Path as Outline
from pydicom.dataset import Dataset

from cinesynth.data.sources.scd import fill, read_scd
from cinesynth.data.store import check_study
from cinesynth.errors import DataError
from cinesynth.types import STRUCTURES, Diagnosis, Label, volumes_ml
from tests.data.dicom_files import COLUMNS, FRAMES, ROWS, SLICES, series, write_stack

Break = Callable[[Path], object]
ED, ES = FRAMES - 1, 2
CONTOURED = (1, 2, 3)
MYO, LV = STRUCTURES.index(Label.MYO), STRUCTURES.index(Label.LV)
TABLE = "PatientID,OriginalID,Gender,Age,Pathology\nSCD0000101,SC-HYP-1,M,50,Hypertrophy\n"


def instance(z: int, t: int) -> int:
    """Slices first, apex first, then phases: one-based."""
    return 1 + (SLICES - 1 - z) * FRAMES + t


def number(header: Dataset, z: int, t: int) -> None:
    header.InstanceNumber = instance(z, t)


def circle(radius: float) -> np.ndarray:
    angle = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    return np.round(np.stack([12 + radius * np.cos(angle), 11 + radius * np.sin(angle)], axis=1), 2)


def contour_path(root: Path, z: int, t: int, kind: str) -> Path:
    folder = root / "SCD_ManualContours" / "SC-HYP-01" / "contours-manual" / "IRCCI-expert"
    return folder / f"IM-0001-{instance(z, t):04d}-{kind}contour-manual.txt"


def draw(root: Path, z: int, t: int, kind: str, radius: float) -> None:
    path = contour_path(root, z, t, kind)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{x:.2f} {y:.2f}\r\n" for x, y in circle(radius)))


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """One subject in the official layout, contoured in three slices of four."""
    root = tmp_path / "Sunnybrook data"
    subject = root / "SCD_IMAGES_01" / "SCD0000101"
    write_stack(subject / "CINESAX_300", number, name=lambda z, t: f"IM-0003-{99 - instance(z, t):04d}.dcm")
    write_stack(subject / "CINELAX_301", series("1.2.3.5", 5), slices=1)
    for z in CONTOURED:
        draw(root, z, ED, "i", 5.0)
        draw(root, z, ED, "o", 7.0)
        draw(root, z, ES, "i", 3.0)
    draw(root, 2, ED, "p1", 1.0)
    (root / "scd_patientdata.csv").write_text(TABLE)
    return root


def test_labels_and_coverage_are_exactly_the_contours(dataset: Path) -> None:
    study = read_scd(dataset).read("SCD0000101")
    check_study(study)
    assert study.image.shape == (FRAMES, COLUMNS, ROWS, SLICES)
    assert (study.dataset, study.group, study.diagnosis) == ("scd", "HYP", Diagnosis.HCM)
    assert (study.ed_index, study.es_index, study.phases_from) == (ED, ES, "labels")  # ED ends the cycle
    lv, wall = fill(circle(5.0), (COLUMNS, ROWS)), fill(circle(7.0), (COLUMNS, ROWS))
    expected = np.zeros((COLUMNS, ROWS, SLICES), np.uint8)
    for z in CONTOURED:
        expected[wall, z], expected[lv, z] = Label.MYO, Label.LV
    assert np.array_equal(study.label[ED], expected)
    coverage = np.zeros_like(study.coverage)
    for z in CONTOURED:
        coverage[[ED, ES], z, LV] = coverage[ED, z, MYO] = True
    assert np.array_equal(study.coverage, coverage)


def test_contours_lie_on_their_images(dataset: Path) -> None:
    """The image number of a contour leads to the slice that carries the mark of slice and phase."""
    study = read_scd(dataset).read("SCD0000101")
    assert study.image[ED, 0, 0, CONTOURED].tolist() == [1000 + 100 * z + ED for z in CONTOURED]
    assert study.slices_from in ("header", "labels")


def test_what_is_no_part_of_the_study_is_listed(dataset: Path) -> None:
    draw(dataset, 0, ED, "o", 7.0)
    listed = {Path(name).name: reason for name, reason, _ in read_scd(dataset).skipped}
    assert listed.pop("CINELAX_301") == "no short-axis cine"
    assert listed.pop(contour_path(dataset, 2, ED, "p1").name) == "papillary muscles belong to the cavity"
    assert listed == {contour_path(dataset, 0, ED, "o").name: "an outer contour without an inner one"}
    study = read_scd(dataset).read("SCD0000101")
    assert not study.coverage[:, 0].any()
    assert set(study.notes) == {
        "left out 1 contours (papillary muscles belong to the cavity)",
        "left out 1 contours (an outer contour without an inner one)",
    }


def test_a_stray_contour_is_no_phase(dataset: Path) -> None:
    """One slice drawn in a third frame, with the smallest cavity of all."""
    draw(dataset, 3, ES + 1, "i", 1.5)
    study = read_scd(dataset).read("SCD0000101")
    assert (study.ed_index, study.es_index) == (ED, ES)
    assert study.coverage[ES + 1].any()


def test_every_file_that_decides_is_named(dataset: Path) -> None:
    source = read_scd(dataset)
    assert source.files is not None
    files = source.files("SCD0000101")
    assert {path.suffix for path in files} == {".csv", ".txt", ".dcm"}
    assert len(files) == 1 + SLICES * FRAMES + 3 * len(CONTOURED) + 1
    assert not any(path.parent.name == "CINELAX_301" for path in files)


def test_the_series_with_the_contoured_images_counts(dataset: Path) -> None:
    other = dataset / "SCD_IMAGES_01" / "SCD0000101" / "CINESAX_299"
    write_stack(other, series("1.2.3.6", 6), lambda h, z, t: setattr(h, "InstanceNumber", 500 + instance(z, t)))
    assert read_scd(dataset).read("SCD0000101").coverage.any()


def remove(*names: str) -> Break:
    def harm(root: Path) -> None:
        for name in names:
            for path in root.rglob(name):
                path.unlink()

    return harm


def write(text: str) -> Break:
    return lambda root: contour_path(root, 2, ED, "i").write_text(text)


BROKEN: dict[str, tuple[Break, str]] = {
    "no contours": (remove("*.txt"), "no contours of SC-HYP-1"),
    "one phase": (remove(*(f"*-{instance(z, ES):04d}-icontour*" for z in CONTOURED)), "contours in 1 frame"),
    "words": (write("left right\n"), "is not a contour: expected lines of x and y"),
    "three columns": (write("1 2 3\n4 5 6\n7 8 9\n"), "is not a contour"),
    "ragged": (write("1 2\n4\n7 8\n"), "is not a contour"),
    "two points": (write("1 2\n4 5\n"), "three points"),
    "no number": (write("1 2\nnan 3\n4 5\n"), "has points outside its image"),
    "outside": (write("1 2\n400 3\n4 5\n"), "has points outside its image of 26 x 22"),
    "an image is missing": (remove(f"IM-0003-{99 - instance(2, ED):04d}.dcm"), "no short-axis cine contains"),
    "unknown subject": (lambda root: (root / "scd_patientdata.csv").write_text(TABLE.splitlines()[0]), "no row for"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_copy_says_what_is_wrong(dataset: Path, case: str) -> None:
    harm, found = BROKEN[case]
    harm(dataset)
    with pytest.raises(DataError, match=found) as caught:
        read_scd(dataset).read("SCD0000101")
    assert caught.value.hint


def test_parts_that_are_missing(dataset: Path) -> None:
    (dataset / "scd_patientdata.csv").unlink()
    with pytest.raises(DataError, match=r"no scd_patientdata\.csv"):
        read_scd(dataset)
    with pytest.raises(DataError, match="no Sunnybrook subjects"):
        read_scd(dataset / "SCD_ManualContours")


# --- polygons -----------------------------------------------------------------------------------------------------


def test_centres_on_the_outline_belong_to_the_polygon() -> None:
    square = np.array([[2.0, 3.0], [6.0, 3.0], [6.0, 5.0], [2.0, 5.0]])
    mask = fill(square, (10, 10))
    assert np.array_equal(np.argwhere(mask), [(x, y) for x in range(2, 7) for y in range(3, 6)])
    assert np.array_equal(fill(square[::-1], (10, 10)), mask)
    assert fill(square + 0.5, (10, 10)).sum() == 8
    assert not fill(square + 20.0, (10, 10)).any()


def test_a_diagonal_runs_through_the_centres_on_it() -> None:
    triangle = np.array([[0.0, 0.0], [4.0, 0.0], [0.0, 4.0]])
    assert fill(triangle, (6, 6)).sum() == 15


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10_000), st.integers(3, 30))
def test_polygons_in_general_position_are_those_of_matplotlib(seed: int, corners: int) -> None:
    rng = np.random.default_rng(seed)
    angle = np.sort(rng.uniform(0, 2 * np.pi, corners))
    points = 16.0 + rng.uniform(2.0, 14.0, corners)[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    centres = np.stack(np.meshgrid(np.arange(32), np.arange(30), indexing="ij"), axis=-1).reshape(-1, 2)
    assert np.array_equal(fill(points, (32, 30)).ravel(), Outline(points).contains_points(centres))


# --- real data ----------------------------------------------------------------------------------------------------

REAL = {
    "SCD0000101": (12, 18, 7, 196.0, 145.0, 9, 37.97),
    "SCD0000301": (10, 19, 6, 234.0, 184.0, 10, 46.0),
}


@pytest.mark.parametrize("subject", REAL)
def test_real_subjects(cine_data: Path, subject: str) -> None:
    """Millilitres within 1 % of those in the notes of the data, contours where they lie, base first."""
    slices, ed, es, edv, esv, contoured, frame_time = REAL[subject]
    source = read_scd(cine_data / "scd")
    assert source.names == tuple(REAL)
    study = source.read(subject)
    check_study(study)
    assert study.image.shape == (20, 256, 256, slices)
    assert (study.ed_index, study.es_index) == (ed, es)
    assert (study.vendor, study.group, study.diagnosis) == ("GE", "HF-I", Diagnosis.MINF)
    volumes = volumes_ml(study.label, Label.LV, study.voxel_ml)
    assert volumes[[ed, es]] == pytest.approx((edv, esv), rel=0.01)
    assert study.coverage[ed].sum(axis=0).tolist() == [0, contoured, contoured]
    assert study.coverage[es].sum(axis=0).tolist() == [0, 0, contoured]
    assert study.coverage.sum() == 3 * contoured
    areas = (study.label[ed] == Label.LV).sum(axis=(0, 1))
    assert areas[: slices // 2].sum() > areas[slices // 2 :].sum()
    assert study.frame_time_ms == pytest.approx(frame_time, abs=0.01)
