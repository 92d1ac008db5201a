"""Kaggle DSB 2015 in its official layout: one folder a slice, in any order, with the traps of the real download."""

from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from cinesynth.data.ingest import ingest
from cinesynth.data.normalisation import default_es_index
from cinesynth.data.sources.dicom import read_dsb
from cinesynth.data.store import check_study
from cinesynth.errors import DataError
from cinesynth.types import Study
from tests.data.dicom_files import (
    COLUMN,
    COLUMNS,
    FRAMES,
    ROW,
    ROWS,
    SLICES,
    SPACING_MM,
    Change,
    classic,
    corner,
    save,
    set_pixels,
    tiny_heart,
    turned,
    write_stack,
)

SAX = {0: 57, 1: 5, 2: 33, 3: 9, 4: 12}
"""Folder numbers of the slices, base first: they do not follow the positions."""


def anonymised(header: Dataset, z: int, t: int) -> None:
    """Every image a series of its own, instance numbers not in the order of time."""
    header.SeriesInstanceUID, header.SeriesDescription = generate_uid(), "sa"
    header.InstanceNumber = (7 * t) % FRAMES + 1


def write_study(root: Path, study: str, *changes: Change) -> np.ndarray:
    """The stack in ``sax_N`` folders, and a long axis of each kind."""
    folder = root / study / "study"
    image = write_stack(
        folder, anonymised, *changes, name=lambda z, t: f"sax_{SAX[z]}/IM-{9000 + (5 * t) % FRAMES}.dcm"
    )
    for name in ("2ch_21", "4ch_22"):
        write_stack(folder / name, anonymised, turned(COLUMN, ROW), slices=1)
    return image


def expect(study: Study, image: np.ndarray) -> None:
    check_study(study)
    assert np.array_equal(study.image, image.transpose(1, 3, 2, 0))


def pixels_of(size_mm: float) -> Change:
    return lambda header, z, t: setattr(header, "PixelSpacing", [size_mm, size_mm])


@pytest.mark.parametrize("layout", ["train/train", "train", "test/test", "."])
def test_the_official_layout(tmp_path: Path, layout: str) -> None:
    root = tmp_path / layout
    image = write_study(root, "10")
    write_study(root, "9")
    source = read_dsb(tmp_path)
    assert source.names == ("9", "10")
    study = source.read("10")
    expect(study, image)
    assert (study.subject, study.dataset, study.vendor, study.slices_from) == ("10", "dsb", "Siemens", "header")
    assert not study.coverage.any()
    assert {Path(name).name for name, _, _ in source.skipped} == {"2ch_21", "4ch_22"}
    assert {reason for _, reason, _ in source.skipped} == {"not a short-axis view"}


def test_of_two_folders_of_one_slice_the_later_counts(tmp_path: Path) -> None:
    def later(header: Dataset, z: int, t: int) -> None:
        header.AcquisitionTime = "120000"
        header.ImagePositionPatient = [float(v) for v in corner(2)]
        set_pixels(header, tiny_heart()[2, t] + 30)

    image = write_study(tmp_path, "1", lambda header, z, t: setattr(header, "AcquisitionTime", "110000"))
    write_stack(tmp_path / "1" / "study" / "sax_90", anonymised, later, slices=1)
    image[2] += 30
    study = read_dsb(tmp_path).read("1")
    expect(study, image)
    assert study.notes == (f"left out {FRAMES} images of sax_{SAX[2]} (another series of the same slice)",)


def test_the_largest_set_of_equal_geometry_counts(tmp_path: Path) -> None:
    """A slice with rows and columns exchanged, and another with other pixels, are left out at the ends."""
    image = write_study(tmp_path, "1")
    for folder, harm in (
        ("sax_91", turned(COLUMN, -ROW)),
        ("sax_92", lambda h, z, t: setattr(h, "PixelSpacing", [1, 1])),
    ):
        write_stack(tmp_path / "1" / "study" / folder, anonymised, harm, slices=1)
    study = read_dsb(tmp_path).read("1")
    expect(study, image)
    assert study.spacing_mm[:2] == pytest.approx(SPACING_MM[::-1], rel=1e-5)
    assert study.image.shape == (FRAMES, COLUMNS, ROWS, SLICES)
    for folder in ("sax_91", "sax_92"):
        assert f"left out {FRAMES} images of {folder} (1 parallel slice: a long-axis view or a scout)" in study.notes
    assert len(study.notes) == 2


def test_a_black_study_is_refused_by_name(tmp_path: Path) -> None:
    write_study(tmp_path, "761", lambda header, z, t: set_pixels(header, np.zeros((ROWS, COLUMNS))))
    with pytest.raises(DataError, match=r"761: .*the cine is black"):
        read_dsb(tmp_path).read("761")


def test_a_study_without_short_axis(tmp_path: Path) -> None:
    save(classic(tiny_heart()[0, 0], corner(0), 5.0, 1), tmp_path / "3" / "study" / "2ch_1" / "IM-1.dcm")
    with pytest.raises(DataError, match="has no short-axis images") as caught:
        read_dsb(tmp_path).read("3")
    assert caught.value.hint


def test_no_studies(tmp_path: Path) -> None:
    for root in (tmp_path, tmp_path / "absent"):
        with pytest.raises(DataError, match="no DSB subjects"):
            read_dsb(root)


def test_volumes_of_the_tables_are_reported_and_not_measured(tmp_path: Path) -> None:
    for name in ("1", "2", "501"):
        write_study(tmp_path, name)
    (tmp_path / "train.csv").write_text("Id,Systole,Diastole\n1,108.3,246.7\n3,54.6,137.1\n")
    (tmp_path / "validate").mkdir()
    (tmp_path / "validate" / "validate.csv").write_text("Id,Systole,Diastole\n501,94.8,183.5\n")
    source = read_dsb(tmp_path)
    rows = {row.subject: row for row in ingest(source, tmp_path / "data").added}
    reported = {name: (row.reported_lv_edv_ml, row.reported_lv_esv_ml) for name, row in rows.items()}
    assert reported == {"1": (246.7, 108.3), "2": (None, None), "501": (183.5, 94.8)}
    assert {(row.lv_edv_ml, row.lv_esv_ml, row.ef_percent) for row in rows.values()} == {(None, None, None)}
    assert source.files is not None
    assert [source.files(name)[0].name for name in ("1", "501")] == ["train.csv", "validate.csv"]
    assert {path.suffix for path in source.files("2")} == {".dcm"}


def test_a_volume_that_is_none_is_told(tmp_path: Path) -> None:
    write_study(tmp_path, "1")
    (tmp_path / "train.csv").write_text("Id,Systole,Diastole\n1,108.3,many\n")
    with pytest.raises(DataError, match="Diastole of 1 is 'many'"):
        read_dsb(tmp_path).read("1")


def test_phases_are_assumed(tmp_path: Path) -> None:
    write_study(tmp_path, "1")
    study = read_dsb(tmp_path).read("1")
    assert (study.ed_index, study.es_index, study.phases_from) == (0, default_es_index(FRAMES), "assumed")
