"""Any folder of DICOM: the stack is found by geometry and time, and whatever is no part of it is listed."""

import copy
import functools
import io
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

from cinesynth.data.dicom import FileLocation, find_files, read_headers, read_scan
from cinesynth.data.orientation import apply
from cinesynth.data.sources.dicom import read_dicom
from cinesynth.data.store import check_study
from cinesynth.errors import DataError
from cinesynth.types import Diagnosis, Study
from tests.data.dicom_files import (
    BASE_TO_APEX,
    COLUMN,
    COLUMNS,
    FRAME_TIME_MS,
    FRAMES,
    ROW,
    ROWS,
    SLICES,
    SPACING_MM,
    STEP_MM,
    Change,
    classic,
    corner,
    encode,
    enhanced,
    forget,
    mark,
    save,
    series,
    set_pixels,
    tiny_heart,
    turned,
    unit,
    with_phase_maps,
    write_stack,
)


def the_study(root: Path) -> Study:
    source = read_dicom(root)
    assert len(source) == 1
    (study,) = source
    check_study(study)
    return study


def reasons(root: Path) -> str:
    return "; ".join(f"{Path(name).name} {reason}" for name, reason, _ in read_dicom(root).skipped)


def as_study(image: np.ndarray) -> np.ndarray:
    """``Z T rows columns`` to ``T X Y Z``."""
    return image.transpose(1, 3, 2, 0)


def marks(study: Study) -> np.ndarray:
    """The number that each slice of each phase carries, ``Z T``."""
    return study.image[:, 0, 0, :].T


def test_a_shuffled_folder(tmp_path: Path) -> None:
    """File names and instance numbers say nothing here; positions and trigger times do."""
    names = np.random.default_rng(0).permutation(SLICES * FRAMES)

    def renumber(header: Dataset, z: int, t: int) -> None:
        header.InstanceNumber = int(names[z * FRAMES + t])

    image = write_stack(tmp_path, renumber, name=lambda z, t: f"{names[z * FRAMES + t]:03d}")
    study = the_study(tmp_path)
    assert np.array_equal(study.image, as_study(image))
    assert study.image.dtype == np.uint16
    assert (study.subject, study.dataset, study.vendor) == ("P1", "dicom", "Siemens")
    assert (study.diagnosis, study.slices_from, study.phases_from) == (Diagnosis.UNKNOWN, "header", "assumed")
    assert study.frame_time_ms == pytest.approx(FRAME_TIME_MS)
    assert study.spacing_mm == pytest.approx((SPACING_MM[1], SPACING_MM[0], STEP_MM), rel=1e-5)
    assert not study.coverage.any()
    assert not study.label.any()
    assert (study.ed_index, study.es_index) == (0, 3)


def test_a_voxel_keeps_its_millimetres(tmp_path: Path) -> None:
    write_stack(tmp_path)
    study = the_study(tmp_path)
    for x, y, z in ((0, 0, 0), (COLUMNS - 1, 3, 1), (5, ROWS - 1, SLICES - 1)):
        lps = corner(z) + x * SPACING_MM[1] * ROW + y * SPACING_MM[0] * COLUMN
        np.testing.assert_allclose((study.affine @ [x, y, z, 1])[:3], lps * (-1, -1, 1), atol=1e-4)


def test_the_way_back_to_the_order_of_the_scanner(tmp_path: Path) -> None:
    write_stack(tmp_path)
    study, scan = the_study(tmp_path), read_scan(read_headers(find_files(tmp_path)[0])[0])
    image, affine = apply(study.image, study.affine, study.to_source)
    assert np.array_equal(image, scan.image)
    np.testing.assert_allclose(affine, scan.affine, atol=1e-9)


def test_base_first_whichever_way_the_normal_points(tmp_path: Path) -> None:
    def mirrored(header: Dataset, z: int, t: int) -> None:
        header.ImageOrientationPatient = [round(float(v), 9) for v in (*-ROW, *COLUMN)]

    image = write_stack(tmp_path, mirrored)
    study = the_study(tmp_path)
    assert np.array_equal(study.image, as_study(image)[:, ::-1])  # X to the left again
    assert study.to_source == ((0, -1), (1, 1), (2, 1))


def test_enhanced_files_give_the_same_study(tmp_path: Path) -> None:
    write_stack(tmp_path / "classic")
    save(enhanced(), tmp_path / "enhanced" / "cine.dcm")
    one, other = the_study(tmp_path / "classic"), the_study(tmp_path / "enhanced")
    assert np.array_equal(one.image, other.image)
    np.testing.assert_allclose(one.affine, other.affine, atol=1e-6)
    assert one.frame_time_ms == pytest.approx(other.frame_time_ms)
    assert read_dicom(tmp_path / "enhanced").skipped == ()


@pytest.mark.parametrize("frame_type", [True, False])
def test_of_magnitude_and_phase_in_one_file_magnitude_is_read(tmp_path: Path, frame_type: bool) -> None:
    save(with_phase_maps(frame_type), tmp_path / "cine.dcm")
    assert np.array_equal(the_study(tmp_path).image, as_study(tiny_heart()))
    assert reasons(tmp_path) == "cine.dcm frame 2 and 31 more a phase map"


def test_an_enhanced_file_of_phase_maps_alone_is_none(tmp_path: Path) -> None:
    header = with_phase_maps()
    for item in header.PerFrameFunctionalGroupsSequence:
        item.MRImageFrameTypeSequence[0].FrameType = ["ORIGINAL", "PRIMARY", "P"]
    save(header, tmp_path / "cine.dcm")
    with pytest.raises(DataError, match="a phase map"):
        read_dicom(tmp_path)


def test_an_image_without_a_place_costs_itself_alone(tmp_path: Path) -> None:
    header = enhanced()
    header.PerFrameFunctionalGroupsSequence[5].PlanePositionSequence[0].ImagePositionPatient = [0, 0, 1e9]
    save(header, tmp_path / "cine.dcm")
    assert the_study(tmp_path).image.shape[3] == SLICES
    assert reasons(tmp_path) == "cine.dcm frame 6 without a position in the patient"


def test_stacks_in_one_enhanced_file_are_told_apart(tmp_path: Path) -> None:
    """Two of them, half a step apart, by their StackID."""
    header = enhanced()
    groups = [copy.deepcopy(item) for _ in "ab" for item in header.PerFrameFunctionalGroupsSequence]
    for item in groups[SLICES * FRAMES :]:
        content, plane = item.FrameContentSequence[0], item.PlanePositionSequence[0]
        content.StackID = "2"
        place = np.array(plane.ImagePositionPatient, float) + 0.5 * STEP_MM * BASE_TO_APEX
        plane.ImagePositionPatient = [round(float(v), 6) for v in place]
    header.PerFrameFunctionalGroupsSequence, header.NumberOfFrames = Sequence(groups), len(groups)
    header.PixelData = 2 * header.PixelData
    save(header, tmp_path / "cine.dcm")
    study = the_study(tmp_path)
    assert np.array_equal(study.image, as_study(tiny_heart()))
    assert study.spacing_mm[2] == pytest.approx(STEP_MM, rel=1e-5)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
@pytest.mark.parametrize("meta", [True, False])
def test_files_without_a_preamble(tmp_path: Path, syntax: UID, meta: bool) -> None:
    """As old programs write them: elements from the first byte on, with or without those of the file itself."""
    image = write_stack(tmp_path)
    for path in tmp_path.iterdir():
        header = dcmread(path)
        header.file_meta.TransferSyntaxUID = syntax
        content = encode(header)
        start = 132 if meta else 144 + dcmread(io.BytesIO(content)).file_meta.FileMetaInformationGroupLength
        path.write_bytes(content[start:])
    assert np.array_equal(the_study(tmp_path).image, as_study(image))
    assert read_dicom(tmp_path).skipped == ()


@pytest.mark.parametrize("content", [b"\x08\x00", b"\x08\x00\x05\x00" + bytes(300), b"\x02\x00\x10\x00UI" + b"x" * 999])
def test_what_only_begins_like_dicom_is_listed(tmp_path: Path, content: bytes) -> None:
    image = write_stack(tmp_path)
    (tmp_path / "other.bin").write_bytes(content)
    assert np.array_equal(the_study(tmp_path).image, as_study(image))
    assert "other.bin" in reasons(tmp_path)


def test_a_classic_file_may_hold_all_phases_of_a_slice(tmp_path: Path) -> None:
    image = tiny_heart()
    for z in range(SLICES):
        header = classic(image[z], corner(z), 5.0, z)
        header.NumberOfFrames, header.FrameTime = FRAMES, FRAME_TIME_MS
        save(header, tmp_path / f"{9 - z}.dcm")
    study = the_study(tmp_path)
    assert np.array_equal(study.image, as_study(image))
    assert study.frame_time_ms == pytest.approx(FRAME_TIME_MS)


def test_a_zip_and_a_folder_of_zips(tmp_path: Path) -> None:
    image = write_stack(tmp_path / "stack")
    archive = Path(shutil.make_archive(str(tmp_path / "exam"), "zip", tmp_path / "stack"))
    shutil.rmtree(tmp_path / "stack")
    for root in (archive, tmp_path):
        assert np.array_equal(the_study(root).image, as_study(image))


def test_compressed_pixels(tmp_path: Path) -> None:
    image = write_stack(tmp_path, lambda header, z, t: header.compress(RLELossless))
    assert np.array_equal(the_study(tmp_path).image, as_study(image))


def test_reading_can_be_sent_to_another_process(tmp_path: Path) -> None:
    image = write_stack(tmp_path)
    source = pickle.loads(pickle.dumps(read_dicom(tmp_path)))
    assert np.array_equal(source.read("P1").image, as_study(image))
    assert source.files is not None
    assert source.files("P1") == sorted(tmp_path.iterdir())


def drop_slice(folder: Path, z: int) -> None:
    for path in folder.glob(f"IM{z:02d}*.dcm"):
        path.unlink()


# --- time ---------------------------------------------------------------------------------------------------------


def test_trigger_times_may_differ_by_slice(tmp_path: Path) -> None:
    def slower(header: Dataset, z: int, t: int) -> None:
        header.TriggerTime = (1.0 + 0.05 * z) * (10.0 + t * FRAME_TIME_MS)
        header.NominalInterval = round((1.0 + 0.05 * z) * FRAMES * FRAME_TIME_MS)

    image = write_stack(tmp_path, slower)
    study = the_study(tmp_path)
    assert np.array_equal(study.image, as_study(image))
    assert study.frame_time_ms == pytest.approx(1.075 * FRAME_TIME_MS)  # of the median slice


def test_without_trigger_times_the_phase_or_the_number_orders(tmp_path: Path) -> None:
    def phase_only(header: Dataset, z: int, t: int) -> None:
        header.InstanceNumber, header.TemporalPositionIdentifier = 1, t + 1

    image = write_stack(tmp_path / "phase", forget("TriggerTime"), phase_only)
    write_stack(tmp_path / "number", forget("TriggerTime"))
    write_stack(tmp_path / "neither", forget("TriggerTime", "NominalInterval"))
    for folder in ("phase", "number", "neither"):
        study = the_study(tmp_path / folder)
        assert np.array_equal(study.image, as_study(image))
        assert study.frame_time_ms == (None if folder == "neither" else FRAME_TIME_MS)


def test_a_lost_image_is_replaced_by_the_one_nearest_in_time(tmp_path: Path) -> None:
    image = write_stack(tmp_path)
    (tmp_path / "IM0203.dcm").unlink()
    (tmp_path / f"IM03{FRAMES - 1:02d}.dcm").unlink()
    study = the_study(tmp_path)
    expected = as_study(image).copy()
    assert marks(study)[2, 3] in (mark(2, 2), mark(2, 4))
    assert marks(study)[3, -1] == mark(3, FRAMES - 2)
    expected[3, ..., 2], expected[-1, ..., 3] = study.image[3, ..., 2], study.image[-1, ..., 3]
    assert np.array_equal(study.image, expected)


def test_a_slice_with_other_phases_takes_the_nearest_of_the_cycle(tmp_path: Path) -> None:
    write_stack(tmp_path)
    drop_slice(tmp_path, 2)
    image = tiny_heart(frames=12)
    for t in range(12):
        header = classic(image[2, t], corner(2), 5.0 + t * FRAME_TIME_MS * FRAMES / 12, t)
        save(header, tmp_path / f"more{t}.dcm")
    taken = marks(the_study(tmp_path))
    assert taken.shape == (SLICES, FRAMES)
    np.testing.assert_allclose(taken[2] - mark(2, 0), np.arange(FRAMES) * 12 / FRAMES, atol=0.51)


def test_a_slice_of_few_phases_is_left_out(tmp_path: Path) -> None:
    write_stack(tmp_path, frames=20)
    for t in range(7, 20):
        (tmp_path / f"IM03{t:02d}.dcm").unlink()
    study = the_study(tmp_path)
    assert study.image.shape == (20, COLUMNS, ROWS, SLICES - 1)
    assert "7 phases of 20" in reasons(tmp_path)
    assert study.notes == ("left out 7 images (7 phases of 20)",)


def test_a_slice_that_lacks_a_phase_is_told(tmp_path: Path) -> None:
    write_stack(tmp_path)
    assert the_study(tmp_path).notes == ()
    (tmp_path / "IM0103.dcm").unlink()
    study = the_study(tmp_path)
    assert study.image.shape == (FRAMES, COLUMNS, ROWS, SLICES)
    assert study.notes == (
        f"one slice has only {FRAMES - 1} phases of {FRAMES}: the image nearest in time stands for a missing one",
    )


def test_notes_hold_no_path(tmp_path: Path) -> None:
    """The same files from another folder make the same study, and no name of a folder travels with it."""
    for folder in ("DOE_JANE", "elsewhere"):
        write_stack(tmp_path / folder / "sax")
        write_stack(tmp_path / folder / "lax", turned(ROW, BASE_TO_APEX), series("1.2.3.9", 9), slices=1)
    first, second = (the_study(tmp_path / folder) for folder in ("DOE_JANE", "elsewhere"))
    assert first.notes == second.notes
    assert first.notes == (f"left out {FRAMES} images (1 parallel slice: a long-axis view or a scout)",)


# --- what is no part of the stack ---------------------------------------------------------------------------------


def scout(header: Dataset, z: int, t: int) -> None:
    header.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]


def phase_map(header: Dataset, z: int, t: int) -> None:
    header.ImageType = ["ORIGINAL", "PRIMARY", "P", "ND"]


def test_other_views_and_scouts_are_set_aside(tmp_path: Path) -> None:
    image = write_stack(tmp_path / "sax")
    views = {"2ch": (ROW, BASE_TO_APEX), "3ch": (unit(*(ROW + COLUMN)), BASE_TO_APEX), "4ch": (COLUMN, BASE_TO_APEX)}
    for number, (name, plane) in enumerate(views.items(), start=10):
        write_stack(tmp_path / name, turned(*plane), series(f"1.2.3.{number}", number), slices=1)
    write_stack(tmp_path / "scout", scout, slices=3)
    write_stack(tmp_path / "flow", phase_map, slices=1)
    write_stack(tmp_path / "lge", series("1.2.3.20", 20), name="LGE{}{}".format, frames=1)
    transverse = turned(np.array([1.0, 0.0, 0.0]), np.array([0.0, 1.0, 0.0]))
    write_stack(tmp_path / "transverse", transverse, series("1.2.3.30", 30), slices=9)
    (tmp_path / "notes.txt").write_text("none of these")
    assert np.array_equal(the_study(tmp_path).image, as_study(image))
    listed = {each.reason: each.name for each in read_dicom(tmp_path).skipped}
    assert "1 parallel slice: a long-axis view or a scout" in listed
    long_axes = [name for name, reason, _ in read_dicom(tmp_path).skipped if "long-axis" in reason]
    assert {Path(name.split(" and ")[0]).parent.name for name in long_axes} == {"2ch", "3ch", "4ch"}
    assert "scout/IM0000.dcm and 23 more" in listed["a scout"]
    assert "and 7 more" in listed["a phase map"]
    assert "LGE" in listed["another series of the same slice"]
    assert "transverse" in listed["another stack of 9 slices"]
    assert "notes.txt" in listed["not a DICOM file"]


def test_names_help_where_geometry_cannot(tmp_path: Path) -> None:
    """Two oblique stacks: the one that is called short axis counts, though it has fewer slices."""
    other = turned(COLUMN, ROW)
    image = write_stack(tmp_path / "a", series("1.2.3.7", 7, "cine_SAX 8mm"))
    write_stack(tmp_path / "b", other, series("1.2.3.8", 8, "cine LAX"), slices=9)
    assert np.array_equal(the_study(tmp_path).image, as_study(image))


def test_copies_are_set_aside(tmp_path: Path) -> None:
    image = write_stack(tmp_path)
    shutil.copy(tmp_path / "IM0102.dcm", tmp_path / "copy of IM0102.dcm")
    header = classic(image[1, 3], corner(1), 5.0 + 3 * FRAME_TIME_MS, 1 + FRAMES + 3)
    save(header, tmp_path / "new identifier.dcm")
    assert np.array_equal(the_study(tmp_path).image, as_study(image))
    assert "a copy of another file" in reasons(tmp_path)
    assert "another image of the same slice and time" in reasons(tmp_path)


def test_of_a_repeated_slice_the_later_counts(tmp_path: Path) -> None:
    image = write_stack(tmp_path)
    image[2] += 50
    for t in range(FRAMES):
        header = classic(image[2, t], corner(2), 7.0 + t * 1.1 * FRAME_TIME_MS, 900 + t)
        series("1.2.3.9", 9)(header, 2, t)
        save(header, tmp_path / f"again{t}")
    assert np.array_equal(the_study(tmp_path).image, as_study(image))
    assert "another series of the same slice" in reasons(tmp_path)


def test_another_kind_of_series_does_not_replace_the_cine(tmp_path: Path) -> None:
    image = write_stack(tmp_path / "cine")
    write_stack(tmp_path / "tagging", series("1.2.3.9", 9, "tagging 12 phases"), slices=3, frames=12)
    assert np.array_equal(the_study(tmp_path).image, as_study(image))


# --- geometry -----------------------------------------------------------------------------------------------------


def test_a_hole_in_the_stack_is_refused(tmp_path: Path) -> None:
    write_stack(tmp_path, slices=8)
    drop_slice(tmp_path, 4)
    with pytest.raises(DataError, match=r"P1: the stack has gaps: its 7 slices lie .*16\.0.* mm apart") as caught:
        read_dicom(tmp_path).read("P1")
    assert caught.value.hint


def test_a_slice_beyond_a_gap_is_cut_off(tmp_path: Path) -> None:
    image = write_stack(tmp_path, slices=8)
    drop_slice(tmp_path, 6)
    assert np.array_equal(the_study(tmp_path).image, as_study(image[:6]))
    assert "beyond a gap" in reasons(tmp_path)


def test_a_slice_shifted_in_the_plane_is_set_aside(tmp_path: Path) -> None:
    def shifted(header: Dataset, z: int, t: int) -> None:
        if z == 7:
            header.ImagePositionPatient = [float(v) for v in corner(7) + 12.0 * ROW]

    image = write_stack(tmp_path, shifted, slices=8)
    assert np.array_equal(the_study(tmp_path).image, as_study(image[:7]))
    assert "shifted in the plane" in reasons(tmp_path)


def test_a_sheared_stack_stays_sheared(tmp_path: Path) -> None:
    def sheared(header: Dataset, z: int, t: int) -> None:
        header.ImagePositionPatient = [float(v) for v in corner(z) + 3.0 * z * ROW]

    image = write_stack(tmp_path, sheared)
    study = the_study(tmp_path)
    assert np.array_equal(study.image, as_study(image))
    step = (STEP_MM * BASE_TO_APEX + 3.0 * ROW) * (-1, -1, 1)
    np.testing.assert_allclose(study.affine[:3, 2], step, atol=1e-4)


@pytest.mark.parametrize("step_mm", [5.0, 20.0])
def test_thin_and_thick_steps(tmp_path: Path, step_mm: float) -> None:
    def stretched(header: Dataset, z: int, t: int) -> None:
        header.ImagePositionPatient = [float(v) for v in corner(0) + z * step_mm * BASE_TO_APEX]

    write_stack(tmp_path, stretched)
    assert the_study(tmp_path).spacing_mm[2] == pytest.approx(step_mm, rel=1e-5)


def test_slices_of_two_sizes_keep_the_larger_set(tmp_path: Path) -> None:
    image = write_stack(tmp_path)

    def cropped(header: Dataset, z: int, t: int) -> None:
        set_pixels(header, image[0, t, :-2])
        header.ImagePositionPatient = [float(v) for v in corner(-1)]

    write_stack(tmp_path, cropped, slices=1, name="small{}{}.dcm".format)
    assert np.array_equal(the_study(tmp_path).image, as_study(image))
    assert "1 parallel slice" in reasons(tmp_path)


def test_images_that_are_scaled_differently_are_scaled(tmp_path: Path) -> None:
    def scaled(header: Dataset, z: int, t: int) -> None:
        header.RescaleSlope, header.RescaleIntercept = (2.0, 1.0) if z == 1 else (1.0, 0.0)

    expected = as_study(write_stack(tmp_path, scaled)).astype(np.float32)
    expected[..., 1] = 2.0 * expected[..., 1] + 1.0
    study = the_study(tmp_path)
    assert study.image.dtype == np.float32
    assert np.array_equal(study.image, expected)


# --- names and examinations ---------------------------------------------------------------------------------------


def of_patient(patient: str, study: str = "1.2.3", date: str = "20200102") -> Change:
    def change(header: Dataset, z: int, t: int) -> None:
        header.SpecificCharacterSet = "ISO_IR 192"
        header.PatientID, header.StudyInstanceUID, header.StudyDate = patient, study, date

    return change


def test_examinations_are_told_apart(tmp_path: Path) -> None:
    write_stack(tmp_path / "1", of_patient("B", "1.9", "20210101"))
    write_stack(tmp_path / "2", of_patient("A"))
    write_stack(tmp_path / "3", of_patient("B", "1.8", "20200101"))
    source = read_dicom(tmp_path)
    assert source.names == ("A", "B-1", "B-2")
    assert [study.subject for study in source] == ["A", "B-1", "B-2"]


@pytest.mark.parametrize(("patient", "name"), [("Müller 7/2", "M_ller_7_2"), ("患者", "unnamed"), ("", "unnamed")])
def test_names_can_be_file_names(tmp_path: Path, patient: str, name: str) -> None:
    write_stack(tmp_path / "Herz Übersicht 心臓", of_patient(patient))
    assert the_study(tmp_path).subject == name


# --- damaged and hostile input ------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", ["empty", "text", "absent"])
def test_nothing_to_read(tmp_path: Path, content: str) -> None:
    root = tmp_path / "in"
    if content != "absent":
        root.mkdir()
    if content == "text":
        (root / "readme.txt").write_text("hello")
    with pytest.raises(DataError, match=r"no MR images in|does not exist") as caught:
        read_dicom(root)
    assert caught.value.hint


def test_no_short_axis(tmp_path: Path) -> None:
    write_stack(tmp_path, slices=2)
    with pytest.raises(DataError, match="P1: no short-axis cine: 16 images: 2 parallel slices"):
        read_dicom(tmp_path).read("P1")


def test_a_stack_of_one_phase_is_ed_where_stills_are_asked_for(tmp_path: Path) -> None:
    image = write_stack(tmp_path / "ed")
    for path in (tmp_path / "ed").glob("IM??0[1-9].dcm"):
        path.unlink()
    with pytest.raises(DataError, match="fewer than 6 phases"):
        read_dicom(tmp_path / "ed").read("P1")
    (study,) = read_dicom(tmp_path / "ed", stills=True)
    assert np.array_equal(study.image, as_study(image)[:1])
    assert (study.ed_index, study.frames_in_cycle, study.frame_time_ms) == (0, 1, None)
    assert study.spacing_mm == pytest.approx((SPACING_MM[1], SPACING_MM[0], STEP_MM), rel=1e-5)


def test_a_cine_comes_before_stills_and_few_phases_are_neither(tmp_path: Path) -> None:
    image = write_stack(tmp_path / "cine")
    (study,) = read_dicom(tmp_path / "cine", stills=True)
    assert np.array_equal(study.image, as_study(image))
    write_stack(tmp_path / "three", frames=3)
    with pytest.raises(DataError, match="several images of a slice, too few for a cine"):
        read_dicom(tmp_path / "three", stills=True).read("P1")


def truncate(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])


def test_truncated_pixels_name_the_file(tmp_path: Path) -> None:
    write_stack(tmp_path)
    truncate(tmp_path / "IM0304.dcm", -ROWS * COLUMNS)
    with pytest.raises(DataError, match=r"IM0304\.dcm cannot be read") as caught:
        read_dicom(tmp_path).read("P1")
    assert caught.value.hint


@pytest.mark.parametrize("size", [0, 100, 132, 200, 500])
def test_a_truncated_header_is_listed(tmp_path: Path, size: int) -> None:
    write_stack(tmp_path)
    truncate(tmp_path / "IM0304.dcm", size)
    assert len(the_study(tmp_path).image) == FRAMES
    assert "IM0304.dcm" in reasons(tmp_path)


def set_tag(name: str, value: object) -> Callable[[Dataset], None]:
    return lambda header: setattr(header, name, value)


UNFIT: dict[str, tuple[Callable[[Dataset], None], str]] = {
    "CT": (set_tag("Modality", "CT"), "not MR but CT"),
    "colour": (set_tag("SamplesPerPixel", 3), "colour"),
    "inverted": (set_tag("PhotometricInterpretation", "MONOCHROME1"), "inverted"),
    "no position": (lambda header: delattr(header, "ImagePositionPatient"), "without a position"),
    "no number": (set_tag("ImagePositionPatient", [1.0, float("nan"), 2.0]), "without a position"),
    "no orientation": (lambda header: delattr(header, "ImageOrientationPatient"), "without an orientation"),
    "skewed": (set_tag("ImageOrientationPatient", [1, 0, 0, 1, 0, 0]), "without an orientation"),
    "no spacing": (set_tag("PixelSpacing", [0.0, 0.0]), "pixels of"),
    "no image": (lambda header: delattr(header, "Rows"), "without an image"),
    "huge": (set_tag("Rows", 60000), "images of 60000 x 26 pixels"),
    "endless": (set_tag("NumberOfFrames", 2_000_000_000), "2000000000 images"),
}


@pytest.mark.parametrize("case", UNFIT)
def test_an_unfit_header_is_listed_with_its_reason(tmp_path: Path, case: str) -> None:
    harm, found = UNFIT[case]
    header = classic(tiny_heart()[0, 0], corner(0), 5.0, 1)
    harm(header)
    path = save(header, tmp_path / "one.dcm")
    frames, skipped = read_headers([FileLocation(path)])
    assert frames == []
    assert found in skipped[0].reason
    assert skipped[0].names == (str(path),)


def test_a_black_cine(tmp_path: Path) -> None:
    write_stack(tmp_path, lambda header, z, t: set_pixels(header, np.zeros((ROWS, COLUMNS))))
    with pytest.raises(DataError, match="the cine is black"):
        read_dicom(tmp_path).read("P1")


@pytest.mark.parametrize("name", ["../out.dcm", "a/../../out.dcm", "/etc/out.dcm", "C:\\out.dcm", "..\\out.dcm"])
def test_an_archive_that_points_out_of_itself_is_refused(tmp_path: Path, name: str) -> None:
    write_stack(tmp_path / "in")
    path = tmp_path / "evil.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(tmp_path / "in" / "IM0000.dcm", "IM0000.dcm")
        archive.writestr(name, b"x")
    with pytest.raises(DataError, match="a path that leads outside it"):
        read_dicom(path)
    shutil.move(path, tmp_path / "in" / "evil.zip")
    assert the_study(tmp_path / "in").image.shape[3] == SLICES
    assert "a path that leads outside it" in reasons(tmp_path / "in")


@pytest.mark.parametrize(
    ("name", "value", "found"),
    [("flag_bits", 1, "an encrypted archive"), ("file_size", 5 << 30, "takes 5.0 GiB")],
)
def test_an_archive_that_cannot_be_opened_is_refused(tmp_path: Path, name: str, value: int, found: str) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("one.dcm", b"x")
        setattr(archive.filelist[0], name, value)  # goes into the directory at the end of the archive
    with pytest.raises(DataError, match=found):
        read_dicom(tmp_path / "a.zip")


def test_a_damaged_archive(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(DataError, match="a damaged archive"):
        read_dicom(tmp_path / "a.zip")


def test_links_are_followed_once(tmp_path: Path) -> None:
    image = write_stack(tmp_path / "real" / "stack")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "stack").symlink_to(tmp_path / "real" / "stack")
    (tmp_path / "real" / "stack" / "loop").symlink_to(tmp_path / "in")
    (tmp_path / "in" / "self").symlink_to(tmp_path / "in" / "self")
    (tmp_path / "in" / "nowhere").symlink_to(tmp_path / "absent")
    os.mkfifo(tmp_path / "in" / "pipe")
    assert np.array_equal(the_study(tmp_path / "in").image, as_study(image))
    assert "pipe not a regular file" in reasons(tmp_path / "in")
    assert "copy" not in reasons(tmp_path / "in")


@functools.cache
def file_bytes(kind: str) -> bytes:
    return encode(enhanced() if kind == "enhanced" else classic(tiny_heart()[0, 0], corner(0), 5.0, 1))


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(["classic", "enhanced"]), st.randoms(use_true_random=False), st.booleans())
def test_changed_bytes_never_break_the_reader(
    tmp_path_factory: pytest.TempPathFactory, kind: str, random: Random, cut: bool
) -> None:
    content = bytearray(file_bytes(kind))
    headers = len(content) - ROWS * COLUMNS * 2 * (SLICES * FRAMES if kind == "enhanced" else 1)
    for _ in range(random.randint(1, 6)):
        content[random.randrange(132, headers)] = random.randrange(256)
    path = tmp_path_factory.getbasetemp() / "changed.dcm"
    path.write_bytes(content[: random.randrange(132, len(content))] if cut else content)
    frames, skipped = read_headers([FileLocation(path)])
    assert frames or skipped
    if frames:
        with suppress(DataError):
            read_scan(frames)
