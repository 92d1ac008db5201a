"""Forms in which people own their files: trigger times in names, a file a slice, ED and ES as copies, labels at ED."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import yaml

from cinesynth.data.normalisation import default_es_index
from cinesynth.data.sources.layout import Layout, load_layout
from cinesynth.data.sources.nifti import read_nifti
from cinesynth.data.store import check_study
from cinesynth.errors import ConfigError, DataError
from cinesynth.types import Label, Study, volumes_ml
from tests.data.nifti_files import TO_MNMS, only_frames, phantom, save, scanner_affine

OURS = {"RV": 1, "MYO": 2, "LV": 3}
TIMED: dict[str, Any] = {
    "dataset": "ward",
    "image": "{subject}/i_t{time_ms}.nii.gz",
    "label": "{subject}/l_t{time_ms}.nii.gz",
    "labels": OURS,
}
CYCLE: dict[str, Any] = {"dataset": "ward", "image": "{subject}/cine.nii.gz", "labels": OURS}
SLICES: dict[str, Any] = {
    "dataset": "ward",
    "image": "{subject}/cine_{slice}.nii.gz",
    "label": "{subject}/mask_{slice}.nii.gz",
    "labels": OURS,
}


def layout_of(base: dict[str, Any], **settings: Any) -> Layout:
    return Layout.model_validate(base | settings)


def write_times(folder: Path, times: Sequence[float], labelled: Sequence[int] = range(6)) -> Study:
    study = phantom(frames=len(times))
    for frame, time in enumerate(times):
        save(folder / f"i_t{time}.nii.gz", study.image[frame], study.affine)
        if frame in labelled:
            save(folder / f"l_t{time}.nii.gz", study.label[frame], study.affine)
    return study


# --- trigger times in names ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [40, 32.5])
def test_trigger_times_order_the_frames_and_tell_their_distance(tmp_path: Path, step: float) -> None:
    """As dcm2niix names them: 5, 45, ... 205; as text, 125 would come before 45."""
    study = write_times(tmp_path / "a", [5 + step * frame for frame in range(6)])
    found = read_nifti(tmp_path, layout_of(TIMED)).read("a")
    assert np.array_equal(found.image, study.image)
    assert np.array_equal(found.label, study.label)
    assert (found.frames_in_cycle, found.frame_index.tolist()) == (6, list(range(6)))
    assert found.frame_time_ms == pytest.approx(step)
    volumes = volumes_ml(study.label, Label.LV, 1.0)
    assert (found.ed_index, found.es_index) == (int(volumes.argmax()), int(volumes.argmin()))


def test_labels_of_some_times(tmp_path: Path) -> None:
    study = write_times(tmp_path / "a", [5 + 40 * frame for frame in range(6)], labelled=(0, 2))
    layout = layout_of(TIMED, phases={"ed": 1, "es": 3}, counts_from=1)
    found = read_nifti(tmp_path, layout).read("a")
    assert (found.ed_index, found.es_index) == (0, 2)
    assert np.array_equal(found.label, only_frames(study.label, 0, 2))
    save(tmp_path / "a" / "l_t6.nii.gz", study.label[0], study.affine)
    with pytest.raises(DataError, match=r"l_t6\.nii\.gz has no image of this time") as caught:
        read_nifti(tmp_path, layout).read("a")
    assert "time of its image" in caught.value.hint


def test_trigger_times_are_no_frame_numbers(tmp_path: Path) -> None:
    """As numbers of frames they would make a cycle of 206 frames, of which six are there."""
    study = write_times(tmp_path / "a", [5 + 40 * frame for frame in range(6)])
    names = {kind: TIMED[kind].replace("time_ms", "frame") for kind in ("image", "label")}
    with pytest.raises(DataError, match=r"6 files have the frame numbers 5, 45, 85, 125, \.\.\., 205") as caught:
        read_nifti(tmp_path, layout_of(TIMED, **names)).read("a")
    assert "write {time_ms} in place of {frame}" in caught.value.hint
    followed = {kind: name.replace("frame", "time_ms") for kind, name in names.items()}
    assert np.array_equal(read_nifti(tmp_path, layout_of(TIMED, **followed)).read("a").image, study.image)


@pytest.mark.parametrize(
    "times",
    [
        [5, 45, 125, 165, 205, 245],  # a frame is missing
        [5, 45, 85, 125, 165, 985],  # the last is of another beat
        [1, 2, 3, 4, 5, 6],  # numbers
        [0, 40000, 80000, 120000, 160000, 200000],  # microseconds
    ],
)
def test_times_that_are_not_those_of_a_cine(tmp_path: Path, times: list[int]) -> None:
    write_times(tmp_path / "a", times)
    with pytest.raises(DataError, match=r"the trigger times in the names are .* expected equal steps") as caught:
        read_nifti(tmp_path, layout_of(TIMED)).read("a")
    assert caught.value.hint


@pytest.mark.parametrize("first", [0, 1])
def test_numbers_that_start_at_one_are_not_counted_from_zero(tmp_path: Path, first: int) -> None:
    study = phantom()
    for frame in range(6):
        save(tmp_path / f"a_{frame + first}.nii.gz", study.image[frame], study.affine)
    layout = {"dataset": "ward", "image": "{subject}_{frame}.nii.gz"}
    wrong, right = {"counts_from": 1 - first}, {"counts_from": first}
    with pytest.raises(DataError, match=f"6 files have the frame numbers {first}, ") as caught:
        read_nifti(tmp_path, layout_of(layout, **wrong)).read("a")
    assert caught.value.hint.endswith(f"write counts_from: {first}")
    assert read_nifti(tmp_path, layout_of(layout, **right)).read("a").frame_index.tolist() == list(range(6))


def test_some_frames_of_a_cycle_of_unknown_length(tmp_path: Path) -> None:
    study = phantom()
    for frame in (0, 2, 3):
        save(tmp_path / f"a_{frame}.nii.gz", study.image[frame], study.affine)
    layout = {"dataset": "ward", "image": "{subject}_{frame}.nii.gz"}
    with pytest.raises(DataError, match="3 files have the frame numbers 0, 2, 3, expected") as caught:
        read_nifti(tmp_path, layout_of(layout)).read("a")
    assert "phases: {ed: ..., es: ..., frames: ...}" in caught.value.hint
    found = read_nifti(tmp_path, layout_of(layout, phases={"ed": 0, "es": 2, "frames": 6})).read("a")
    assert (found.frames_in_cycle, found.frame_index.tolist()) == (6, [0, 2, 3])


# --- ED and ES by their voxels -------------------------------------------------------------------------------------


@pytest.fixture
def biobank(tmp_path: Path) -> tuple[Path, Study]:
    """One subject as ukbb_cardiac writes it; ED is frame 5 of 6 here, ES frame 2."""
    study, folder = phantom(1), tmp_path / "1234567"
    affine = scanner_affine(study.spacing_mm)
    image = study.image.astype(np.float32)
    save(folder / "sa.nii.gz", image, affine, 0.031, units="unknown")
    for phase, frame in (("ED", 5), ("ES", 2)):
        save(folder / f"sa_{phase}.nii.gz", image[frame], affine)
        save(folder / f"label_sa_{phase}.nii.gz", TO_MNMS[study.label[frame]], affine)
    return tmp_path, study


def test_uk_biobank_has_no_table_of_phases(biobank: tuple[Path, Study]) -> None:
    root, study = biobank
    found = read_nifti(root, load_layout("ukbb")).read("1234567")
    check_study(found)
    assert (found.ed_index, found.es_index, found.phases_from) == (5, 2, "metadata")
    assert np.array_equal(found.label, only_frames(study.label, 2, 5))
    assert (found.vendor, found.frame_time_ms) == ("Siemens", pytest.approx(31.0))
    volumes, drawn = (volumes_ml(each.label, Label.LV, each.voxel_ml) for each in (found, study))
    assert volumes[[2, 5]] == pytest.approx(drawn[[2, 5]], rel=1e-4)
    source = read_nifti(root, load_layout("ukbb"))
    assert source.files is not None
    assert {"sa_ED.nii.gz", "sa_ES.nii.gz"} < {path.name for path in source.files("1234567")}


def test_copies_of_frames_may_be_scaled(biobank: tuple[Path, Study]) -> None:
    root, study = biobank
    scaled = np.round(study.image[2] / np.ptp(study.image[2]) * 255).astype(np.uint8)
    save(root / "1234567" / "sa_ES.nii.gz", scaled, scanner_affine(study.spacing_mm))
    assert read_nifti(root, load_layout("ukbb")).read("1234567").es_index == 2


def test_images_that_are_no_copies_of_frames(biobank: tuple[Path, Study]) -> None:
    root, _ = biobank
    save(root / "1234567" / "sa_ES.nii.gz", phantom(2).image[2].astype(np.float32), scanner_affine((3.0, 3.0, 10.0)))
    with pytest.raises(DataError, match=r"sa_ES\.nii\.gz (is not a frame of sa\.nii\.gz|has)") as caught:
        read_nifti(root, load_layout("ukbb")).read("1234567")
    assert "numbers of the frames" in caught.value.hint
    tree = load_layout("ukbb").model_dump() | {"phases": {"ed": 5, "es": 2}}
    assert read_nifti(root, Layout.model_validate(tree)).read("1234567").es_index == 2


# --- labels of one phase -------------------------------------------------------------------------------------------


def test_labels_at_ed_alone(tmp_path: Path) -> None:
    study = phantom(1)
    save(tmp_path / "a" / "cine.nii.gz", study.image, study.affine)
    save(tmp_path / "a" / "ED_gt.nii.gz", study.label[5], study.affine)
    for phase, frame in (("ED", 5), ("ES", 2)):
        save(tmp_path / "a" / f"{phase}.nii.gz", study.image[frame], study.affine)
    label = {"ed": "{subject}/ED_gt.nii.gz"}
    pair = {"ed": "{subject}/ED.nii.gz", "es": "{subject}/ES.nii.gz"}
    for phases in ({"ed": 5, "es": 2}, pair):
        found = read_nifti(tmp_path, layout_of(CYCLE, label=label, phases=phases)).read("a")
        assert np.array_equal(found.label, only_frames(study.label, 5))
        assert (found.ed_index, found.es_index, np.flatnonzero(found.labelled).tolist()) == (5, 2, [5])
    found = read_nifti(tmp_path, layout_of(CYCLE, image=pair, label=label)).read("a")
    assert np.array_equal(found.label[0], study.label[5])
    assert found.labelled.tolist() == [True, False]
    found = read_nifti(tmp_path, layout_of(CYCLE, label=label, phases={"ed": 5})).read("a")
    assert (found.ed_index, found.es_index, found.phases_from) == (5, (5 + default_es_index(6)) % 6, "assumed")
    assert np.array_equal(found.label[5], study.label[5])


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"label": {"ed": "{subject}_gt.nii.gz"}}, "phases: give ed and es, the frames of the label files"),
        ({"label": {}}, "label: give ed, es or both"),
        ({"label": {"ed": "gt.nii.gz"}}, "label.ed: 'gt.nii.gz' has no {subject}"),
        ({"label": {"ed": "{subject}_gt.nii.gz", "end": "x"}}, "label.end: Extra inputs are not permitted"),
        ({"label": {"es": "{subject}_es.nii.gz"}, "phases": {"ed": 0}}, "phases: give es, the frame of the label file"),
        ({"image": {"ed": "{subject}.nii.gz"}}, "image.es: Field required"),
        ({"image": "{subject}_{frame}_{slice}.nii.gz"}, "has more than one of {frame}, {time_ms}, {slice}"),
        ({"image": "{subject}_{slice}.nii.gz"}, "image contains {slice}, label does not"),
        ({"label": "{subject}_{time_ms}.nii.gz"}, "label contains {time_ms}, image does not"),
        ({"phases": {"ed": "{subject}.nii.gz", "es": 3}}, "phases.es: Input should be a valid string"),
    ],
)
def test_a_layout_says_in_its_own_words_what_is_wrong(tmp_path: Path, change: dict[str, Any], found: str) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump(CYCLE | {"label": "{subject}/gt.nii.gz"} | change))
    with pytest.raises(ConfigError) as caught:
        load_layout(path)
    assert found in caught.value.message
    for inside in ("EdEsFiles", "LabelFiles", "function-", "constrained", "tagged", "str]"):
        assert inside not in caught.value.message


# --- a file a slice ------------------------------------------------------------------------------------------------


def write_slices(folder: Path, numbers: Sequence[int], *, positions: bool = True, thickness_mm: float = 8.0) -> Study:
    """Slice z, base first, as file number ``numbers[z]``; the header's third edge is the thickness, not the step."""
    study = phantom()
    affine = scanner_affine(study.spacing_mm)
    for z, number in enumerate(numbers):
        place = affine.copy()
        place[:3, 3] += positions * z * affine[:3, 2]
        place[:3, 2] *= thickness_mm / study.spacing_mm[2]
        save(folder / f"cine_{number}.nii.gz", study.image[..., z : z + 1], place, 0.04)
        save(folder / f"mask_{number}.nii.gz", study.label[..., z : z + 1], place, 0.04)
    return study


def slice_numbers(order: str = "as taken") -> list[int]:
    numbers = list(range(1, phantom().image.shape[3] + 1))
    return numbers if order == "as taken" else numbers[1::2] + numbers[::2]


@pytest.mark.parametrize("order", ["as taken", "shuffled"])
def test_slices_are_stacked_by_their_positions(tmp_path: Path, order: str) -> None:
    study = write_slices(tmp_path / "a", slice_numbers(order))
    found = read_nifti(tmp_path, layout_of(SLICES)).read("a")
    check_study(found)
    assert np.array_equal(found.image, study.image)
    assert np.array_equal(found.label, study.label)
    assert found.spacing_mm == pytest.approx(study.spacing_mm, rel=1e-4)  # the step of the positions, not 8 mm
    np.testing.assert_allclose(found.affine, scanner_affine(study.spacing_mm), atol=1e-3)
    assert found.frame_time_ms == pytest.approx(40.0)
    assert found.voxel_ml == pytest.approx(study.voxel_ml, rel=1e-4)


def test_a_slice_without_a_label_file_has_none(tmp_path: Path) -> None:
    study = write_slices(tmp_path / "a", slice_numbers())
    (tmp_path / "a" / "mask_1.nii.gz").unlink()
    found = read_nifti(tmp_path, layout_of(SLICES)).read("a")
    assert not found.label[..., 0].any()
    assert np.array_equal(found.label[..., 1:], study.label[..., 1:])


def test_a_missing_slice_is_noticed(tmp_path: Path) -> None:
    write_slices(tmp_path / "a", slice_numbers())
    (tmp_path / "a" / "cine_3.nii.gz").unlink()
    with pytest.raises(DataError, match=r"10\.0, 20\.0, 10\.0.* mm apart .* expected equal steps") as caught:
        read_nifti(tmp_path, layout_of(SLICES)).read("a")
    assert "copy all slices" in caught.value.hint


def test_slices_without_positions_need_the_step(tmp_path: Path) -> None:
    study = write_slices(tmp_path / "a", slice_numbers(), positions=False)
    with pytest.raises(DataError, match="expected equal steps") as caught:
        read_nifti(tmp_path, layout_of(SLICES)).read("a")
    assert "third edge of spacing_mm" in caught.value.hint
    found = read_nifti(tmp_path, layout_of(SLICES, spacing_mm=[None, None, 10.0])).read("a")
    assert np.array_equal(found.image, study.image)
    assert found.spacing_mm == pytest.approx((*study.spacing_mm[:2], 10.0), rel=1e-4)


@pytest.mark.parametrize("harm", ["a long axis", "beside", "of fewer frames", "twice"])
def test_files_that_are_no_slice_of_the_stack(tmp_path: Path, harm: str) -> None:
    study = write_slices(tmp_path / "a", slice_numbers())
    path = tmp_path / "a" / "cine_2.nii.gz"
    image: Any = nib.load(path)
    data, affine = np.moveaxis(np.asanyarray(image.dataobj), -1, 0), image.affine
    if harm == "a long axis":
        affine = affine[:, [0, 2, 1, 3]] * (1, 3 / 8, 8 / 3, 1)
    elif harm == "beside":
        affine[:3, 3] += 20 * affine[:3, 0]
    elif harm == "of fewer frames":
        data = data[:5]
    elif harm == "twice":
        path = tmp_path / "a" / "cine_99.nii.gz"
    save(path, data, affine, 0.04)
    with pytest.raises(DataError, match="cine_") as caught:
        read_nifti(tmp_path, layout_of(SLICES, label=None, labels={})).read("a")
    assert caught.value.hint
    path.unlink()
    if harm == "twice":
        assert np.array_equal(read_nifti(tmp_path, layout_of(SLICES)).read("a").image, study.image)


# --- endings -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("written", "described"), [(".nii", ".nii.gz"), (".nii.gz", ".nii")])
def test_a_compressed_file_for_one_that_is_not(tmp_path: Path, written: str, described: str) -> None:
    study = phantom(1)
    save(tmp_path / "a" / f"cine{written}", study.image, study.affine)
    save(tmp_path / "a" / f"gt{written}", study.label, study.affine)
    layout = layout_of(CYCLE, image="{subject}/cine" + described, label="{subject}/gt" + described)
    source = read_nifti(tmp_path, layout)
    assert np.array_equal(source.read("a").label, study.label)
    save(tmp_path / "a" / f"cine{described}", study.image[::-1], study.affine)  # what is described takes precedence
    assert np.array_equal(read_nifti(tmp_path, layout).read("a").image, study.image[::-1])
