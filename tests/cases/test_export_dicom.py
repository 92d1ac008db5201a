"""DICOM out and in again: valid files, exact voxels and places, and nothing synthetic that could pass for a patient."""

import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest

from cinesynth.cases.dicom_series import DicomSeries
from cinesynth.cases.export_dicom import export_dicom
from cinesynth.cases.export_items import case_items
from cinesynth.data.orientation import oriented
from cinesynth.data.sources.dicom import read_dicom
from cinesynth.errors import DataError, OutputError
from cinesynth.reports.slices import COLOURS
from cinesynth.types import STRUCTURES, Label, Study
from tests.cases.exports import SPACING_MM, as_item, pair, save_generated, scanned, small
from tests.external import dciodvfy
from tests.limits import files_below


def images(folder: Path) -> list[pydicom.Dataset]:
    return [pydicom.dcmread(path) for path in sorted((folder / "cine").rglob("*.dcm"))]


def read_again(folder: Path) -> Study:
    source = read_dicom(folder)
    assert len(source) == 1
    return source.read(source.names[0])


def test_import_gives_the_same_arrays_and_affine(tmp_path: Path) -> None:
    study = scanned()
    done = export_dicom([as_item(study)], tmp_path / "out")
    assert (done.studies, done.images, done.segmentations) == (1, 7 * 4, 0)
    back = read_again(tmp_path / "out")
    assert np.array_equal(back.image, study.image)
    assert back.image.dtype == study.image.dtype
    np.testing.assert_allclose(back.affine, study.affine, atol=1e-9)
    assert (back.subject, back.vendor, back.frame_time_ms) == ("scanned1", "Siemens", pytest.approx(38.5))


def test_a_stack_without_a_scanners_frame_keeps_its_order(tmp_path: Path) -> None:
    study = replace(scanned(), affine=np.diag([*SPACING_MM, 1.0]))
    export_dicom([as_item(study)], tmp_path / "out")
    back = read_again(tmp_path / "out")
    assert np.array_equal(back.image, study.image)
    np.testing.assert_allclose(back.affine, study.affine, atol=1e-9)


def test_unknown_frame_times_stay_unknown_and_frames_in_order(tmp_path: Path) -> None:
    study = replace(scanned(), frame_time_ms=None)
    export_dicom([as_item(study)], tmp_path / "out")
    back = read_again(tmp_path / "out")
    assert back.frame_time_ms is None
    assert np.array_equal(back.image, study.image)


def test_a_pixel_lies_where_its_voxel_does(tmp_path: Path) -> None:
    """By the equation of the standard (PS3.3 C.7.6.2.1.1), in LPS."""
    study = scanned()
    export_dicom([as_item(study)], tmp_path / "out")
    image = pydicom.dcmread(tmp_path / "out/drawn_scanned1/cine/frame02/slice03.dcm")
    row, column = np.array(image.ImageOrientationPatient, dtype=float).reshape(2, 3)
    between_rows, between_columns = map(float, image.PixelSpacing)
    x, y, z = 11, 5, 2
    assert image.pixel_array[y, x] == study.image[1, x, y, z]
    place = np.array(image.ImagePositionPatient, dtype=float) + x * between_columns * row + y * between_rows * column
    ras = study.affine @ [x, y, z, 1]
    np.testing.assert_allclose(place, ras[:3] * [-1, -1, 1], atol=1e-9)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64])
def test_whole_numbers_are_kept(tmp_path: Path, dtype: type) -> None:
    image = scanned().image.astype(dtype)
    export_dicom([as_item(replace(scanned(), image=image))], tmp_path / "out")
    assert np.array_equal(read_again(tmp_path / "out").image, image)


def test_negative_numbers_are_kept(tmp_path: Path) -> None:
    image = scanned().image - 100
    export_dicom([as_item(replace(scanned(), image=image))], tmp_path / "out")
    assert np.array_equal(read_again(tmp_path / "out").image, image)


@pytest.mark.parametrize("offset", [0.0, -3.25, 1e6])
def test_fractions_are_kept_to_a_65536th_of_their_range(tmp_path: Path, offset: float) -> None:
    image = np.random.default_rng(0).normal(offset, 1.0, scanned().image.shape)
    export_dicom([as_item(replace(scanned(), image=image))], tmp_path / "out")
    (first, *_) = images(tmp_path / "out/drawn_scanned1")
    values = first.pixel_array.T * float(first.RescaleSlope) + float(first.RescaleIntercept)
    np.testing.assert_allclose(values, image[0, ..., 0], atol=np.ptp(image) / 65535)


def test_identifiers_are_new_unique_and_the_same_again(tmp_path: Path) -> None:
    for name in "ab":
        export_dicom([as_item(small())], tmp_path / name, segmentations=False)
    first, second = (images(tmp_path / name / "drawn_subject1") for name in "ab")
    assert [image.SOPInstanceUID for image in first] == [image.SOPInstanceUID for image in second]
    assert len({image.SOPInstanceUID for image in first}) == len(first)
    assert len({(image.StudyInstanceUID, image.SeriesInstanceUID, image.FrameOfReferenceUID) for image in first}) == 1
    assert all(image.SOPInstanceUID.is_valid and image.SOPInstanceUID.startswith("2.25.") for image in first)
    other = DicomSeries(small(image=small().image + 1), synthetic=False)
    assert other.uid("study") != first[0].StudyInstanceUID


def test_what_is_not_of_a_person_says_so_in_every_file(tmp_path: Path) -> None:
    pytest.importorskip("highdicom", reason="highdicom is not installed: no segmentations")
    (item,) = case_items([save_generated(tmp_path / "case")])
    export_dicom([item, as_item(small())], tmp_path / "out")
    for path in (tmp_path / "out/generated_case").rglob("*.dcm"):
        file = pydicom.dcmread(path)
        assert file.ImageType[0] == "DERIVED"
        assert "SYNTHETIC" in file.SeriesDescription
        assert str(file.PatientName).startswith("SYNTHETIC")
        assert file.PatientID.startswith("synthetic-")
        if file.Modality == "MR":
            assert "not of a person" in file.ImageComments
            assert file.Manufacturer == "cinesynth"
    real = images(tmp_path / "out/drawn_subject1")[0]
    assert "SYNTHETIC" not in real.SeriesDescription
    assert "not of a person" not in real.ImageComments
    assert "research use only" in real.ImageComments


def test_ed_and_es_are_told(tmp_path: Path) -> None:
    export_dicom([as_item(small())], tmp_path / "out", segmentations=False)
    told = {image.TemporalPositionIdentifier: image.ImageComments for image in images(tmp_path / "out/drawn_subject1")}
    assert {number: text[-2:] for number, text in told.items() if text.endswith(("; ED", "; ES"))} == {1: "ED", 3: "ES"}


def test_files_and_instance_numbers_run_phase_by_phase(tmp_path: Path) -> None:
    export_dicom([as_item(small())], tmp_path / "out", segmentations=False)
    files = sorted((tmp_path / "out").rglob("*.dcm"))
    assert [path.parent.name for path in files[::4]] == ["frame01", "frame02", "frame03", "frame04"]
    told = [pydicom.dcmread(path) for path in files]
    assert [image.InstanceNumber for image in told] == list(range(1, 17))
    assert [image.TemporalPositionIdentifier for image in told] == [1] * 4 + [2] * 4 + [3] * 4 + [4] * 4


@pytest.mark.parametrize(("study", "expected"), [(small(), 38.5), (small(frame_time_ms=None), None), (pair(), None)])
def test_the_repetition_time_is_that_between_volumes(tmp_path: Path, study: Study, expected: float | None) -> None:
    """Of ED and ES alone it is not the frame time."""
    export_dicom([as_item(study)], tmp_path / "out", segmentations=False)
    assert {image.RepetitionTime for image in images(tmp_path / "out/drawn_subject1")} == {expected}


def test_segmentations_name_who_made_them(tmp_path: Path) -> None:
    pytest.importorskip("highdicom", reason="highdicom is not installed: no segmentations")
    items = [as_item(small()), *case_items([save_generated(tmp_path / "case")])]
    export_dicom(items, tmp_path / "out")
    for name, creator in (("drawn_subject1", "annotators of drawn^"), ("generated_case", "cinesynth^")):
        file = pydicom.dcmread(tmp_path / "out" / name / "segmentation/frame01.dcm")
        assert file.ContentCreatorName == creator


def test_a_rejected_case_says_so(tmp_path: Path) -> None:
    items = case_items([save_generated(tmp_path / name, name == "good") for name in ("good", "bad")])
    export_dicom(items, tmp_path / "out", include_rejected=True, segmentations=False)
    for name, failed in (("good", False), ("bad", True)):
        for image in images(tmp_path / f"out/generated_{name}"):
            assert ("failed the acceptance rules" in image.ImageComments) is failed


def test_segmentations_are_the_labels(tmp_path: Path) -> None:
    """One object a labelled frame; planes that were looked at are there even if they are empty."""
    pytest.importorskip("highdicom", reason="highdicom is not installed: no segmentations")
    study = small()
    coverage, label = study.coverage.copy(), study.label.copy()
    coverage[2, :, 0] = False
    label[2][label[2] == Label.RV] = 0
    label[2, ..., 1] = 0
    study = replace(study, coverage=coverage, label=label)
    done = export_dicom([as_item(study)], tmp_path / "out")
    assert done.segmentations == 2
    for number, names in ((1, ["RV cavity", "LV myocardium", "LV cavity"]), (3, ["LV myocardium", "LV cavity"])):
        file = pydicom.dcmread(tmp_path / f"out/drawn_subject1/segmentation/frame{number:02d}.dcm")
        assert [segment.SegmentLabel for segment in file.SegmentSequence] == names
        assert file.NumberOfFrames == 4 * len(names)
        assert np.array_equal(drawn(file, study), study.label[number - 1])


def test_viewers_show_the_colours_of_our_pictures(tmp_path: Path) -> None:
    color = pytest.importorskip("highdicom.color", reason="highdicom is not installed: no segmentations")
    export_dicom([as_item(small())], tmp_path / "out")
    file = pydicom.dcmread(tmp_path / "out/drawn_subject1/segmentation/frame01.dcm")
    for segment, structure in zip(file.SegmentSequence, STRUCTURES, strict=True):
        shown = color.CIELabColor.from_dicom_value(segment.RecommendedDisplayCIELabValue).to_rgb(clip=True)
        np.testing.assert_allclose(shown, COLOURS[structure], atol=1)


def drawn(file: pydicom.Dataset, study: Study) -> np.ndarray:
    """The label ``X Y Z`` that a segmentation holds, each plane put where it says it lies."""
    result = np.zeros(study.label.shape[1:], dtype=np.uint8)
    structures = {"RV cavity": Label.RV, "LV myocardium": Label.MYO, "LV cavity": Label.LV}
    names = {segment.SegmentNumber: structures[segment.SegmentLabel] for segment in file.SegmentSequence}
    for plane, groups in zip(file.pixel_array, file.PerFrameFunctionalGroupsSequence, strict=True):
        lps = np.array(groups.PlanePositionSequence[0].ImagePositionPatient, dtype=float)
        z = round(float((np.linalg.inv(study.affine) @ [-lps[0], -lps[1], lps[2], 1.0])[2]))
        result[..., z][plane.T > 0] = names[groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber]
    return result


def test_every_structure_has_its_code() -> None:
    pytest.importorskip("highdicom", reason="highdicom is not installed: no segmentations")
    from cinesynth.cases import export_dicom as dicom_seg

    assert set(dicom_seg._SEGMENTS) == set(STRUCTURES)


def test_what_dicom_cannot_say_is_refused(tmp_path: Path) -> None:
    skewed = np.diag([*SPACING_MM, 1.0])
    skewed[0, 1] = 0.05
    with pytest.raises(DataError, match="not perpendicular") as caught:
        export_dicom([as_item(small(affine=skewed))], tmp_path / "out", segmentations=False)
    assert "NIfTI" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_sheared_stacks_keep_their_shear(tmp_path: Path) -> None:
    sheared = scanned().affine.copy()
    sheared[:3, 2] += 0.4 * sheared[:3, 0]
    export_dicom([as_item(replace(scanned(), affine=sheared))], tmp_path / "out")
    np.testing.assert_allclose(read_again(tmp_path / "out").affine, sheared, atol=1e-9)


def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    with files_below(1024), pytest.raises(OutputError):
        export_dicom([as_item(small())], tmp_path / "out", segmentations=False)
    assert list(tmp_path.iterdir()) == []


def test_dciodvfy_finds_no_error(tmp_path: Path) -> None:
    program = dciodvfy()
    pytest.importorskip("highdicom", reason="highdicom is not installed: no segmentations")
    fractions = replace(scanned("fractions"), image=scanned().image / 7)
    untimed = small("untimed", frame_time_ms=None, vendor="")
    items = [as_item(small()), as_item(oriented(small("turned"))), as_item(fractions), as_item(untimed)]
    export_dicom([*items, *case_items([save_generated(tmp_path / "case")])], tmp_path / "out")
    files = [path for folder in (tmp_path / "out").iterdir() for path in sorted(folder.rglob("*.dcm"))[::5]]
    files += sorted((tmp_path / "out").rglob("segmentation/*.dcm"))
    assert len(files) > 20
    for path in files:
        done = subprocess.run([program, str(path)], capture_output=True, text=True, check=False)
        errors = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")]
        assert not errors, f"{path}: {errors}"
