"""Several takes of a heart, or of two, in one folder: every slice of the study is of one take, and of one person."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset

from cinesynth.data.sources.dicom import read_dicom
from cinesynth.errors import DataError
from cinesynth.types import Study
from tests.data.dicom_files import (
    BASE_TO_APEX,
    COLUMNS,
    FRAME_TIME_MS,
    FRAMES,
    ROW,
    ROWS,
    STEP_MM,
    Change,
    classic,
    corner,
    forget,
    save,
    series,
    set_pixels,
    tiny_heart,
    write_stack,
)

SLICES = 6


def tags(**values: object) -> Change:
    """A change that sets elements of each image."""

    def change(header: Dataset, z: int, t: int) -> None:
        for name, value in values.items():
            setattr(header, name, value)

    return change


def take(number: int) -> Change:
    """A change that marks each image of a take, in its corner."""

    def change(header: Dataset, z: int, t: int) -> None:
        pixels = np.frombuffer(header.PixelData, "<u2").reshape(ROWS, COLUMNS).copy()
        pixels[0, 1] = number
        set_pixels(header, pixels)

    return change


def texture(seed: int) -> Change:
    """A change that gives all images of a slice the surroundings of another body."""

    def change(header: Dataset, z: int, t: int) -> None:
        pixels = np.frombuffer(header.PixelData, "<u2").reshape(ROWS, COLUMNS).copy()
        pixels[1:] += np.random.default_rng([seed, z]).integers(0, 1500, (ROWS - 1, COLUMNS), dtype=np.uint16)
        set_pixels(header, pixels)

    return change


def shifted(mm: float) -> Change:
    """A change that moves each image along the normal."""

    def change(header: Dataset, z: int, t: int) -> None:
        header.ImagePositionPatient = [float(v) for v in corner(z) + mm * BASE_TO_APEX]

    return change


def only(*slices: int) -> Callable[[int, int], str]:
    """File names by which the images of other slices can be removed."""
    return lambda z, t: f"{'keep' if z in slices else 'drop'}{z:02d}{t:02d}.dcm"


def write_slices(folder: Path, slices: tuple[int, ...], *changes: Change, frames: int = FRAMES) -> None:
    """Some slices of the stack."""
    write_stack(folder, *changes, slices=SLICES, frames=frames, name=only(*slices))
    for path in folder.glob("drop*"):
        path.unlink()


def write_whole(folder: Path, *changes: Change, frames: int = FRAMES) -> None:
    write_slices(folder, tuple(range(SLICES)), *changes, frames=frames)


def own_series(first: int, description: str = "cine") -> Change:
    """A change that puts every slice in a series of its own, numbered from ``first``."""

    def change(header: Dataset, z: int, t: int) -> None:
        series(f"1.2.3.{first + z}", first + z, description)(header, z, t)

    return change


def in_parallel(*changes: Change) -> Change:
    def change(header: Dataset, z: int, t: int) -> None:
        for each in changes:
            each(header, z, t)

    return change


ANONYMOUS = forget("SeriesInstanceUID", "SeriesNumber", "SeriesDescription")


def the_study(root: Path) -> Study:
    source = read_dicom(root)
    assert len(source) == 1
    return source.read(source.names[0])


def takes(study: Study) -> list[set[int]]:
    """The takes from which the images of each slice are."""
    return [set(np.unique(study.image[:, 1, 0, z]).tolist()) for z in range(study.image.shape[3])]


def slice_numbers(study: Study) -> list[int]:
    return [int(study.image[0, 0, 0, z] - 1000) // 100 for z in range(study.image.shape[3])]


def listed(root: Path) -> dict[str, int]:
    """Number of images by the reason why they were left out."""
    counts: dict[str, int] = {}
    for name, reason, _ in read_dicom(root).skipped:
        counts[reason] = counts.get(reason, 0) + 1 + (int(name.split(" and ")[1].split()[0]) if " and " in name else 0)
    return counts


# --- two takes of one stack ---------------------------------------------------------------------------------------


def test_of_two_whole_takes_the_later_counts(tmp_path: Path) -> None:
    write_whole(tmp_path / "a", take(1), series("1.2.3.1", 4))
    write_whole(tmp_path / "b", take(2), series("1.2.3.2", 9))
    assert takes(the_study(tmp_path)) == [{2}] * SLICES
    assert listed(tmp_path) == {"another series of the same slice": SLICES * FRAMES}


def test_of_two_whole_acquisitions_of_one_series_the_later_counts(tmp_path: Path) -> None:
    write_whole(tmp_path / "a", take(1), tags(AcquisitionNumber=2))
    write_whole(tmp_path / "b", take(2), tags(AcquisitionNumber=1))
    assert takes(the_study(tmp_path)) == [{1}] * SLICES


@pytest.mark.parametrize("slices", [(0, 1, 2), (1, 2, 3, 4, 5)])
def test_a_later_take_of_fewer_slices_does_not_replace_a_complete_one(tmp_path: Path, slices: tuple[int, ...]) -> None:
    write_whole(tmp_path / "a", take(1), series("1.2.3.1", 4))
    write_slices(tmp_path / "b", slices, take(2), series("1.2.3.2", 9))
    assert takes(the_study(tmp_path)) == [{1}] * SLICES


@pytest.mark.parametrize("repeated", [(3,), tuple(range(SLICES))])
def test_a_later_take_of_fewer_phases_does_not_replace_a_complete_one(
    tmp_path: Path, repeated: tuple[int, ...]
) -> None:
    """A breath-hold that was broken off after a third of the heart beat."""
    write_whole(tmp_path / "a", take(1), series("1.2.3.1", 4), frames=20)
    write_slices(tmp_path / "b", repeated, take(2), series("1.2.3.2", 9), frames=20)
    for path in (tmp_path / "b").iterdir():
        if int(path.stem[-2:]) >= 7:
            path.unlink()
    assert takes(the_study(tmp_path)) == [{1}] * SLICES


def test_single_slices_that_were_repeated_later_are_used(tmp_path: Path) -> None:
    write_whole(tmp_path / "a", take(1), own_series(10))
    write_slices(tmp_path / "b", (2, 4), take(2), own_series(30))
    expected = [{1}, {1}, {2}, {1}, {2}, {1}]
    assert takes(the_study(tmp_path)) == expected


def test_a_series_a_slice_and_an_aborted_second_pass(tmp_path: Path) -> None:
    write_whole(tmp_path / "a", take(1), own_series(10))
    write_slices(tmp_path / "b", (0, 1, 2), take(2), own_series(30))
    assert takes(the_study(tmp_path)) == [{1}] * SLICES


def test_a_series_a_slice_and_a_whole_second_pass(tmp_path: Path) -> None:
    write_slices(tmp_path / "a", (0, 1, 3, 4, 5), take(1), own_series(10))
    write_whole(tmp_path / "b", take(2), own_series(30))
    assert takes(the_study(tmp_path)) == [{2}] * SLICES


def test_a_missing_slice_is_taken_from_another_take(tmp_path: Path) -> None:
    write_slices(tmp_path / "a", (0, 1, 2, 4, 5), take(1), series("1.2.3.1", 4))
    write_slices(tmp_path / "b", (3, 4, 5), take(2), series("1.2.3.2", 9))
    expected = [{1}] * SLICES
    expected[3] = {2}
    assert takes(the_study(tmp_path)) == expected


@pytest.mark.parametrize("slices_in_a_series", [1, 2, 3])
def test_a_stack_may_lie_in_several_series(tmp_path: Path, slices_in_a_series: int) -> None:
    """Breath-holds of some slices each, with descriptions of their own."""

    def breath_hold(header: Dataset, z: int, t: int) -> None:
        n = z // slices_in_a_series
        names = "base", "mid", "apex"
        series(f"1.2.3.{20 + n}", 20 + n, f"cine {names[n % 3]}")(header, z, t)

    write_whole(tmp_path, take(1), breath_hold)
    study = the_study(tmp_path)
    assert slice_numbers(study) == list(range(SLICES))
    assert study.notes == ()


# --- two stacks, shifted ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("known", "mm"),
    [("series", 3.0), ("kind", 3.0), ("kind", 4.0), *(("nothing", mm) for mm in (1.5, 2.0, 2.67, 3.0, 4.0, 5.5))],
)
def test_a_stack_taken_twice_with_a_shift_stays_one_of_them(tmp_path: Path, known: str, mm: float) -> None:
    """Whatever was removed: series, descriptions, or all that tells the two apart but their places."""
    names: dict[str, tuple[Change, Change]] = {
        "series": (series("1.2.3.1", 4), series("1.2.3.2", 9)),
        "kind": (in_parallel(ANONYMOUS, tags(SeriesDescription="sax")), tags(SeriesDescription="sax repeated")),
        "nothing": (ANONYMOUS, ANONYMOUS),
    }
    first, second = names[known]
    write_whole(tmp_path / "a", take(1), first)
    write_whole(tmp_path / "b", take(2), second, shifted(mm))
    study = the_study(tmp_path)
    assert study.spacing_mm[2] == pytest.approx(STEP_MM, rel=1e-4)
    assert takes(study) in ([{1}] * SLICES, [{2}] * SLICES)
    assert listed(tmp_path) == {f"another stack of {SLICES} slices": SLICES * FRAMES}


@pytest.mark.parametrize("mm", [6.0, 15.0])
def test_a_stack_taken_twice_with_a_shift_in_the_plane_stays_one_of_them(tmp_path: Path, mm: float) -> None:
    """Nothing but the places tells the two apart."""

    def aside(header: Dataset, z: int, t: int) -> None:
        header.ImagePositionPatient = [float(v) for v in corner(z) + mm * ROW]

    write_whole(tmp_path / "a", take(1), ANONYMOUS)
    write_slices(tmp_path / "b", (1, 2, 3, 4), take(2), ANONYMOUS, aside)
    assert takes(the_study(tmp_path)) == [{1}] * SLICES


def test_headers_that_state_the_step_tell_stacks_apart(tmp_path: Path) -> None:
    """Thin slices, half a step apart: only SpacingBetweenSlices shows that they are of two stacks."""
    for name, number, mm in (("a", 1, 0.0), ("b", 2, STEP_MM / 2)):
        thin = tags(SliceThickness=4, SpacingBetweenSlices=STEP_MM, InstanceNumber=7)
        write_whole(tmp_path / name, take(number), ANONYMOUS, thin, shifted(mm))
    assert takes(the_study(tmp_path)) in ([{1}] * SLICES, [{2}] * SLICES)


def test_thin_slices_acquired_in_two_rounds_are_one_stack(tmp_path: Path) -> None:
    """Odd slices first, then even ones: one series, though its two halves look like two stacks."""
    for number, mm, time in ((1, 0.0, "100000"), (2, STEP_MM / 2, "101000")):
        write_whole(tmp_path / str(number), take(number), tags(SliceThickness=4, AcquisitionTime=time), shifted(mm))
    study = the_study(tmp_path)
    assert study.spacing_mm[2] == pytest.approx(STEP_MM / 2, rel=1e-4)
    assert takes(study) == [{1}, {2}] * SLICES


@pytest.mark.parametrize("lost", [(1, 3), (2, 4)])
def test_lost_slices_never_make_a_stack_of_a_larger_step(tmp_path: Path, lost: tuple[int, ...]) -> None:
    """What is left may be every second slice, and one more."""
    write_slices(tmp_path, tuple(z for z in range(SLICES) if z not in lost), take(1))
    with pytest.raises(DataError, match=r"the stack has gaps: its 4 slices lie .*8\.0") as caught:
        the_study(tmp_path)
    assert caught.value.hint


# --- strangers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("known", "mm"), [("series", 4.0), ("series", -11.0), ("nothing", 3.0), ("nothing", -11.0)])
def test_a_stray_slice_is_left_out(tmp_path: Path, known: str, mm: float) -> None:
    write_whole(tmp_path, take(1), *([ANONYMOUS] if known == "nothing" else []))
    stray = ANONYMOUS if known == "nothing" else series("1.2.3.9", 9, "realtime")
    write_stack(tmp_path / "stray", take(2), stray, shifted(mm), slices=1)
    study = the_study(tmp_path)
    assert takes(study) == [{1}] * SLICES
    assert listed(tmp_path) == {"a slice between or beyond those of the stack": FRAMES}
    assert study.notes == (f"left out {FRAMES} images (a slice between or beyond those of the stack)",)


def test_a_stray_of_another_kind_at_the_place_of_a_slice_does_not_replace_it(tmp_path: Path) -> None:
    write_whole(tmp_path / "a", take(1))
    write_slices(tmp_path / "b", (4,), take(2), series("1.2.3.9", 9, "realtime"))
    assert takes(the_study(tmp_path)) == [{1}] * SLICES


# --- takes without identifiers ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cine", "other"),
    [
        ({"SequenceName": "*tfi2d1_14"}, {"SequenceName": "*fl2d1_v150in"}),
        ({"EchoTime": 1.4}, {"EchoTime": 2.9}),
        ({"SequenceName": "*tfi2d1_14", "EchoTime": 1.1}, {"SequenceName": "*fl2d1", "EchoTime": 4.0}),
    ],
    ids=["sequence", "echo", "both"],
)
def test_flow_and_tagging_do_not_replace_a_slice_where_descriptions_were_removed(
    tmp_path: Path, cine: dict[str, object], other: dict[str, object]
) -> None:
    """They lie in planes of the stack, have as many phases and were acquired later; a repeat of the cine counts."""
    write_whole(tmp_path / "a", take(1), series("1.2.3.8", 8, ""), tags(**cine))
    write_slices(tmp_path / "b", (1,), take(2), series("1.2.3.9", 9, ""), tags(**other))
    assert takes(the_study(tmp_path)) == [{1}] * SLICES
    again = {"SequenceName": "*tfi2d1_16", "EchoTime": 1.2} if len(cine) > 1 else cine
    write_slices(tmp_path / "c", (2,), take(3), series("1.2.3.10", 10, ""), tags(**again))
    assert takes(the_study(tmp_path)) == [{1}, {1}, {3}, {1}, {1}, {1}]


def later(**values: object) -> Change:
    """A change to a take of which the trigger times are others."""

    def change(header: Dataset, z: int, t: int) -> None:
        header.TriggerTime = 5.0 + 0.9 * t * FRAME_TIME_MS
        tags(**values)(header, z, t)

    return change


@pytest.mark.parametrize("known", ["time", "interval", "folder"])
def test_two_breath_holds_of_a_slice_are_never_blended(tmp_path: Path, known: str) -> None:
    facts: dict[str, tuple[dict[str, object], dict[str, object], str]] = {
        "time": ({"AcquisitionTime": "101500.5"}, {"AcquisitionTime": "101530"}, ""),
        "interval": ({"NominalInterval": 320}, {"NominalInterval": 288}, ""),
        "folder": ({}, {}, "again"),
    }
    first, second, folder = facts[known]
    write_whole(tmp_path, take(1), ANONYMOUS, tags(**first))
    image = tiny_heart(SLICES)
    for t in range(FRAMES):
        header = classic(image[4, t], corner(4), 0.0, 900 + t)
        for change in (ANONYMOUS, take(2), later(**second)):
            change(header, 4, t)
        save(header, tmp_path / folder / f"again{t}")
    study = the_study(tmp_path)
    assert takes(study) == [{1}] * 4 + [{2}] + [{1}]
    assert listed(tmp_path) == {"another series of the same slice": FRAMES}


def test_breath_holds_that_nothing_tells_apart_are_refused(tmp_path: Path) -> None:
    write_whole(tmp_path, ANONYMOUS)
    image = tiny_heart(SLICES)
    for t in range(FRAMES):
        header = classic(image[4, t], corner(4), 12.0 + 0.9 * t * FRAME_TIME_MS, 33 + t)
        ANONYMOUS(header, 4, t)
        save(header, tmp_path / f"again{t}")
    with pytest.raises(DataError, match=r"keep0400\.dcm has 16 images at uneven times, others have 8") as caught:
        the_study(tmp_path)
    assert "remove one of them" in caught.value.hint


def test_whole_takes_that_alternate_in_time_are_refused(tmp_path: Path) -> None:
    """Half a phase apart, in one folder: only the images show that every second one is of another breath-hold."""
    write_whole(tmp_path, texture(1), ANONYMOUS)

    def between(header: Dataset, z: int, t: int) -> None:
        header.TriggerTime = 5.0 + (t + 0.5) * FRAME_TIME_MS

    write_stack(tmp_path, texture(2), ANONYMOUS, between, slices=SLICES, name="again{}{}".format)
    with pytest.raises(DataError, match="alternate between two takes") as caught:
        the_study(tmp_path)
    assert caught.value.hint


def test_takes_that_share_everything_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    write_whole(tmp_path / "a", take(1), texture(1), ANONYMOUS)
    write_slices(tmp_path / "b", (1, 2, 3, 4), take(2), texture(2), ANONYMOUS)
    assert takes(the_study(tmp_path)) == [{1}] * SLICES


def test_two_different_images_of_each_phase_are_refused_and_copies_are_not(tmp_path: Path) -> None:
    write_whole(tmp_path / "one", take(1), ANONYMOUS)
    write_stack(tmp_path / "one", take(1), ANONYMOUS, slices=SLICES, name="copy{}{}".format)
    study = the_study(tmp_path / "one")
    assert takes(study) == [{1}] * SLICES
    write_whole(tmp_path / "two", take(1), texture(1), ANONYMOUS)
    write_stack(tmp_path / "two", take(2), texture(2), ANONYMOUS, slices=SLICES, name="copy{}{}".format)
    with pytest.raises(DataError, match=r"are different images of one slice and phase") as caught:
        the_study(tmp_path / "two")
    assert "another folder" in caught.value.hint


def test_acquisitions_that_follow_each_other_in_the_cycle_are_one_take(tmp_path: Path) -> None:
    def halves(header: Dataset, z: int, t: int) -> None:
        header.AcquisitionNumber = 1 + t // 10

    write_whole(tmp_path, halves, frames=20)
    study = the_study(tmp_path)
    assert (len(study.image), study.notes) == (20, ())


# --- people -------------------------------------------------------------------------------------------------------


def of(frame: str, number: int, seed: int) -> Change:
    """Another frame of reference, series and body."""
    uid = series(f"1.2.3.{number}", number)
    return in_parallel(take(number), texture(seed), tags(FrameOfReferenceUID=frame), uid)


def test_people_who_share_all_identifiers_are_told_apart_by_frame_of_reference(tmp_path: Path) -> None:
    write_whole(tmp_path, of("1.9.1", 4, seed=1))
    write_slices(tmp_path / "b", (2, 3, 4, 5), of("1.9.2", 7, seed=2))
    source = read_dicom(tmp_path)
    assert source.names == ("P1-1", "P1-2")
    assert [takes(study) for study in source] == [[{4}] * SLICES, [{7}] * 4]
    for study in source:
        assert study.notes == ("2 people share this PatientID and study: told apart by frame of reference or name",)


def test_a_person_who_was_repositioned_stays_one(tmp_path: Path) -> None:
    """Images show it. Only one of the two stacks is used, the more complete one."""
    write_slices(tmp_path / "a", (1, 2, 3, 4, 5), of("1.9.1", 4, seed=1))
    write_whole(tmp_path / "b", of("1.9.2", 7, seed=1))
    study = the_study(tmp_path)
    assert takes(study) == [{7}] * SLICES
    reason = "in another frame of reference: of another person, or after this one was repositioned"
    assert study.notes == (f"left out {5 * FRAMES} images ({reason})",)


@pytest.mark.parametrize("mm", [0.0, 3.0])
def test_halves_in_two_frames_of_reference_are_refused(tmp_path: Path, mm: float) -> None:
    write_slices(tmp_path / "a", (0, 1, 2, 3), of("1.9.1", 4, seed=1))
    write_slices(tmp_path / "b", (4, 5), of("1.9.2", 7, seed=1), shifted(mm))
    with pytest.raises(DataError, match="slices in two frames of reference: 4, and 2 beyond them") as caught:
        the_study(tmp_path)
    assert "repositioned" in caught.value.hint


def test_a_single_slice_in_another_frame_of_reference_replaces_none(tmp_path: Path) -> None:
    write_whole(tmp_path, of("1.9.1", 4, seed=1))
    write_slices(tmp_path / "b", (3,), of("1.9.2", 7, seed=2))
    assert takes(the_study(tmp_path)) == [{4}] * SLICES


@pytest.mark.parametrize("each", ["image", "series"])
def test_frames_of_reference_of_their_own_say_nothing(tmp_path: Path, each: str) -> None:
    """Some programs replace the identifier by another one in every file, or in every series."""

    def random(header: Dataset, z: int, t: int) -> None:
        header.FrameOfReferenceUID = f"1.9.{z}.{t}" if each == "image" else f"1.9.{z}"

    write_whole(tmp_path, take(1), own_series(10), random)
    assert takes(the_study(tmp_path)) == [{1}] * SLICES


def body(seed: int) -> Change:
    """A change that puts every slice of a take into the same surroundings, those of one body."""
    around = np.random.default_rng(seed).integers(0, 1500, (ROWS - 1, COLUMNS), dtype=np.uint16)

    def change(header: Dataset, z: int, t: int) -> None:
        pixels = np.frombuffer(header.PixelData, "<u2").reshape(ROWS, COLUMNS).copy()
        pixels[1:] += around
        set_pixels(header, pixels)

    return change


@pytest.mark.parametrize(("seed", "expected"), [(1, 2), (2, 1)])
@pytest.mark.parametrize("place", [3, SLICES - 1])
def test_images_show_whether_a_later_slice_is_of_the_same_body(
    tmp_path: Path, place: int, seed: int, expected: int
) -> None:
    """Where no frame of reference says so: of the same body it was repeated, of another it is a stranger."""
    write_whole(tmp_path / "a", take(1), body(1), own_series(10))
    write_slices(tmp_path / "b", (place,), take(2), body(seed), own_series(30))
    study = the_study(tmp_path)
    assert takes(study)[place] == {expected}
    assert takes(study).count({1}) == SLICES - (expected == 2)
    if expected == 1:
        reason = "of another body than the slices around it, as the images show"
        assert study.notes == (f"left out {FRAMES} images ({reason})",)


def test_people_who_share_all_identifiers_but_their_names(tmp_path: Path) -> None:
    """With one frame of reference for all; the case of letters, and facts that are missing, tell nobody apart."""
    write_slices(tmp_path / "a", (0, 1, 2, 3), take(1), tags(PatientName="DOE^A"))
    write_slices(tmp_path / "a", (4, 5), take(1), tags(PatientName="Doe^A", PatientSex="F"))
    write_slices(tmp_path / "b", (1, 2, 3), take(2), tags(PatientName="ROE^B"), series("1.2.3.9", 9))
    source = read_dicom(tmp_path)
    assert [takes(study) for study in source] == [[{1}] * SLICES, [{2}] * 3]
    assert not any("DOE" in note or "Doe" in note for study in source for note in study.notes)


def test_a_slice_of_somebody_else_is_left_out(tmp_path: Path) -> None:
    write_whole(tmp_path / "a", take(1), tags(PatientName="DOE^A"))
    write_slices(tmp_path / "b", (4,), take(2), tags(PatientName="ROE^B"), series("1.2.3.9", 9))
    assert takes(the_study(tmp_path)) == [{1}] * SLICES
    assert listed(tmp_path) == {"of another person, by name, birth date or sex": FRAMES}
