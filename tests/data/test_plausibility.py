"""What no cine shows is refused before it is stored; with its name it is accepted, and noted."""

from collections.abc import Callable
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import yaml

from cinesynth.data.dataset_table import DatasetTable, describe
from cinesynth.data.doctor import examine
from cinesynth.data.geometry import Grid
from cinesynth.data.ingest import ingest
from cinesynth.data.packed import prepare
from cinesynth.data.phantom import phantom_study
from cinesynth.data.plausibility import STOPPING, admitted, implausible
from cinesynth.data.quality import flags
from cinesynth.data.sources.acdc import read_acdc
from cinesynth.data.sources.layout import load_layout
from cinesynth.data.sources.nifti import read_nifti
from cinesynth.data.store import write_study
from cinesynth.errors import DataError, InputError
from cinesynth.synthesis.patient import read_patient
from cinesynth.types import STRUCTURES, Label, Study, covered_label, full_coverage, volumes_ml
from tests.conftest import Run
from tests.data.nifti_files import phantom, save, scanner_affine

GRID = Grid((96, 96, 16), (3.0, 3.0, 10.0))
LAYOUT = """
dataset: own
licence: CC0-1.0
image: "{subject}/i.nii.gz"
label: "{subject}/l.nii.gz"
labels: {RV: 1, MYO: 2, LV: 3}
"""


@pytest.fixture(name="heart", scope="module")
def _heart() -> Study:
    return phantom_study(0, frames=12, spacing_mm=3.0, field_mm=240.0).study


def stops(study: Study) -> dict[str, str]:
    return {flag.name: flag.text for flag in implausible(study) if flag.grade == "stops"}


def unlabelled(study: Study) -> Study:
    return replace(study, label=0 * study.label, coverage=study.coverage & False)


def only(study: Study, *frames: int) -> Study:
    """``study`` with these frames alone."""
    at = list(frames)
    return replace(
        study,
        image=study.image[at],
        label=study.label[at],
        coverage=study.coverage[at],
        frame_index=study.frame_index[at],
    )


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("frames", [6, 12, 30])
def test_hearts_are_plausible(seed: int, frames: int) -> None:
    study = phantom_study(seed, frames=frames, spacing_mm=3.0, field_mm=240.0).study
    for form in (study, unlabelled(study), only(study, study.ed_index, study.es_index)):
        assert list(implausible(form)) == []


# --- Geometry --------------------------------------------------------------------------------------------------------


def scaled(study: Study, *factors: float) -> Study:
    return replace(study, affine=study.affine @ np.diag([*factors, 1.0]))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda s: scaled(s, 0.1, 0.1, 1.0), "the images are 24 x 24 mm large, expected 35-600 mm"),
        (lambda s: scaled(s, 1 / 3, 1 / 3, 0.1), "slices cover"),
        (lambda s: scaled(s, 1.0, 1.0, 3.5), "mm, expected 20-250 mm"),
    ],
)
def test_a_field_of_view_without_a_heart(heart: Study, change: Callable[[Study], Study], text: str) -> None:
    assert text in stops(change(heart))["field-of-view"]


def test_more_slices_or_frames_than_a_heartbeat_has(heart: Study) -> None:
    deep = {name: np.repeat(getattr(heart, name), 4, axis=3) for name in ("image", "label")}
    many = scaled(replace(heart, **deep, coverage=np.repeat(heart.coverage, 4, axis=1)), 1, 1, 0.25)
    assert stops(many)["slices"] == f"{many.image.shape[3]} slices, expected 3 to 24 to cover a heart"
    # 12 frames by their trigger times in ms, taken for frame numbers
    assert "a cycle of 446 frames" in stops(replace(heart, frames_in_cycle=446))["frames"]


def test_time_in_the_place_of_slices(heart: Study, tmp_path: Path) -> None:
    exchanged = unlabelled(replace(heart, image=np.moveaxis(heart.image, 3, 0).transpose(0, 2, 3, 1)))
    frames = np.arange(heart.image.shape[3])
    exchanged = replace(
        exchanged,
        label=np.zeros(exchanged.image.shape, np.uint8),
        coverage=np.zeros((len(frames), 12, 3), np.bool_),
        frame_index=frames,
        frames_in_cycle=len(frames),
        es_index=2,
    )
    assert "axes" in stops(exchanged)
    # One slice over time, as X Y T, is no stack for `annotate`.
    path = save(tmp_path / "slice.nii.gz", np.moveaxis(heart.image[..., 4], 0, -1), scanner_affine(heart.spacing_mm))
    with pytest.raises(DataError, match="the 12 slices resemble each other as frames do") as caught:
        read_patient(path)
    assert "time as the fourth axis" in caught.value.hint
    path = save(tmp_path / "slices.nii.gz", heart.image[0], scanner_affine(heart.spacing_mm))
    assert len(read_patient(path).study.image) == 1


@pytest.mark.parametrize("alternating", [True, False])
def test_half_of_the_slices_with_twice_the_frames(heart: Study, alternating: bool) -> None:
    """As converters make it, slice by slice or time by time."""
    half = heart.image.shape[3] // 2
    parts = heart.image[..., :half], heart.image[..., half : 2 * half]
    image = np.stack(parts, axis=1).reshape(24, *parts[0].shape[1:]) if alternating else np.concatenate(parts)
    wrong = replace(
        heart,
        image=image,
        label=np.zeros(image.shape, np.uint8),
        coverage=np.zeros((24, half, 3), np.bool_),
        frame_index=np.arange(24),
        frames_in_cycle=24,
    )
    assert "do not show the same slices" in stops(wrong)["frame-order"]


def test_ed_and_es_with_their_slices_in_two_orders(heart: Study) -> None:
    pair = unlabelled(only(heart, heart.ed_index, heart.es_index))
    assert stops(pair) == {}
    reversed_es = np.stack([pair.image[0], pair.image[1][..., ::-1]])
    assert "frame-order" in stops(replace(pair, image=reversed_es))
    mirrored_es = np.stack([pair.image[0], pair.image[1][::-1]])
    assert "frame-order" in stops(replace(pair, image=mirrored_es))


def test_black_slices_and_frames_are_no_evidence(heart: Study) -> None:
    image = heart.image.copy()
    image[..., 0], image[3] = 0, 0
    assert stops(replace(heart, image=image)) == {}
    assert stops(replace(heart, image=0 * image)) == {}


@pytest.mark.parametrize("first", [0, 1])
def test_slices_in_the_order_of_acquisition(first: int) -> None:
    """Even slices before odd ones, or the reverse: volumes would be right, and the heart in pieces."""
    heart = phantom_study(3, frames=12, spacing_mm=3.0, field_mm=240.0).study
    count = heart.image.shape[3]
    order = [*range(first, count, 2), *range(1 - first, count, 2)]
    mixed = replace(heart, image=heart.image[..., order], label=heart.label[..., order])
    for form in (mixed, unlabelled(mixed), only(mixed, mixed.ed_index, mixed.es_index)):
        assert "interleaved" in stops(form)["slice-order"]


def test_two_heartbeats_are_not_one_cycle(heart: Study) -> None:
    twice = unlabelled(only(heart, *range(12), *range(12)))
    twice = replace(twice, frame_index=np.arange(24), frames_in_cycle=24)
    assert "the 24 frames show two heartbeats" in stops(twice)["frames"]


def test_a_cycle_that_is_closed_by_a_copy_of_its_first_frame(heart: Study) -> None:
    closed = replace(unlabelled(only(heart, *range(12), 0)), frame_index=np.arange(13), frames_in_cycle=13)
    assert "frame 12 is a copy of frame 0" in stops(closed)["frames"]
    assert "frames" not in stops(unlabelled(heart))


def test_labels_in_the_place_of_images(heart: Study, tmp_path: Path) -> None:
    assert "holds the numbers 0, 1, 2, 3 only" in stops(replace(heart, image=heart.label))["image"]
    path = save(tmp_path / "mask.nii.gz", heart.label, scanner_affine(heart.spacing_mm))
    with pytest.raises(DataError, match="as label files do"):
        read_patient(path)


# --- Labels against anatomy ------------------------------------------------------------------------------------------


def by_numbers(study: Study, numbers: tuple[int, ...]) -> Study:
    """RV, MYO and LV of ``study`` as others number them."""
    return replace(study, label=np.array([0, *numbers], np.uint8)[study.label])


@pytest.mark.parametrize("numbers", [p for p in permutations((1, 2, 3)) if p != (1, 2, 3)])
def test_exchanged_numbers_are_named_with_the_line_that_mends_them(
    tmp_path: Path, numbers: tuple[int, int, int]
) -> None:
    heart = phantom()
    save(tmp_path / "a" / "i.nii.gz", heart.image, heart.affine)
    save(tmp_path / "a" / "l.nii.gz", by_numbers(heart, numbers).label, heart.affine)
    (tmp_path / "l.yaml").write_text(LAYOUT)
    with pytest.raises(DataError, match="labels have each other's numbers") as caught:
        ingest(read_nifti(tmp_path, load_layout(tmp_path / "l.yaml")), tmp_path / "data")
    line = caught.value.hint.split("write into the layout: ")[1].split("}")[0] + "}"
    assert yaml.safe_load(line) == {"labels": dict(zip(("RV", "MYO", "LV"), numbers, strict=True))}
    # Following the hint gives the true millilitres.
    (tmp_path / "l.yaml").write_text(LAYOUT.replace("labels: {RV: 1, MYO: 2, LV: 3}", line))
    (row,) = ingest(read_nifti(tmp_path, load_layout(tmp_path / "l.yaml")), tmp_path / "data").added
    assert row.lv_edv_ml == pytest.approx(volumes_ml(heart.label, Label.LV, heart.voxel_ml)[0], abs=1e-3)


def test_two_structures_are_enough(heart: Study) -> None:
    coverage = full_coverage(heart.labelled, heart.image.shape[3])
    coverage[..., STRUCTURES.index(Label.RV)] = False
    ring = replace(heart, coverage=coverage, label=covered_label(heart.label, coverage))
    assert stops(ring) == {}
    exchanged = replace(ring, label=np.array([0, 0, 3, 2], np.uint8)[ring.label])
    assert "what is called MYO is LV" in stops(exchanged)["labels"]


def test_labels_that_are_no_heart(heart: Study) -> None:
    torn = heart.label.copy()
    torn[(heart.label == Label.MYO) & (np.arange(heart.label.shape[1]) % 5 > 0)[:, None, None]] = 0
    assert "of the outline of the LV, expected 70 % and more" in stops(replace(heart, label=torn))["labels"]
    apart = np.where(heart.label == Label.RV, 0, heart.label)
    apart[:, :4, :4, 2:5] = Label.RV
    assert "mm from the myocardium" in stops(replace(heart, label=apart))["labels"]


def test_a_volume_that_no_heart_has(heart: Study) -> None:
    tiny = scaled(heart, 0.3, 0.3, 0.6)
    assert "mL, expected 10-1000 mL" in stops(tiny)["volume"]


def test_exchanged_phases_are_named_with_the_line_that_mends_them(tmp_path: Path) -> None:
    heart = phantom()
    save(tmp_path / "a" / "i.nii.gz", heart.image, heart.affine)
    save(tmp_path / "a" / "l.nii.gz", heart.label, heart.affine)
    (tmp_path / "l.yaml").write_text(f"{LAYOUT}phases: {{ed: {heart.es_index}, es: 0}}\n")
    source = read_nifti(tmp_path, load_layout(tmp_path / "l.yaml"))
    with pytest.raises(DataError, match="ED and ES are exchanged") as caught:
        ingest(source, tmp_path / "data")
    line = "phases: " + caught.value.hint.split("phases: ")[1].split("}")[0] + "}"
    (tmp_path / "l.yaml").write_text(f"{LAYOUT}{line}\n")
    (row,) = ingest(read_nifti(tmp_path, load_layout(tmp_path / "l.yaml")), tmp_path / "data").added
    edv_ml, *_ = volumes_ml(heart.label, Label.LV, heart.voxel_ml)
    assert (row.ed_index, row.es_index) == (0, heart.es_index)
    assert row.lv_edv_ml == pytest.approx(edv_ml, abs=1e-3)


def test_only_slices_that_both_phases_have_tell_ed_from_es(heart: Study) -> None:
    """ED annotated in the basal slice alone is smaller than a whole ES; that is no exchange."""
    coverage = heart.coverage.copy()
    coverage[heart.ed_index, 2:] = False
    partial = replace(heart, coverage=coverage, label=covered_label(heart.label, coverage))
    assert "phases" not in stops(partial)


# --- One gate --------------------------------------------------------------------------------------------------------


TURNED = {
    "x reversed": lambda label: label[:, ::-1],
    "y reversed": lambda label: label[:, :, ::-1],
    "x and y reversed": lambda label: label[:, ::-1, ::-1],
    "z reversed": lambda label: label[..., ::-1],
    "x and y exchanged": lambda label: np.swapaxes(label, 1, 2),
}


@pytest.mark.parametrize("how", TURNED)
def test_labels_saved_with_other_axes_than_the_image(heart: Study, how: str) -> None:
    """No header tells: the labels are those of a heart with the right millilitres, beside the heart of the image."""
    image = np.roll(heart.image, (9, -6), axis=(1, 2))  # no heart lies in the middle of its image
    label = np.roll(heart.label, (9, -6), axis=(1, 2))
    assert stops(replace(heart, image=image, label=label)) == {}
    assert f"with {how}" in stops(replace(heart, image=image, label=TURNED[how](label)))["alignment"]


def test_labels_of_another_person(heart: Study) -> None:
    elsewhere = np.roll(heart.label, (27, 27), axis=(1, 2))
    assert "do not lie on their images" in stops(replace(heart, label=elsewhere))["alignment"]


def test_labels_of_es_that_are_a_copy_of_those_of_ed(heart: Study) -> None:
    label = heart.label.copy()
    label[heart.es_index] = label[heart.ed_index]
    assert "same labels, voxel by voxel" in stops(replace(heart, label=label))["phases"]


def test_every_second_slice_annotated(heart: Study) -> None:
    """Half of the slices give half of the volume; where the others are said to be unknown, nothing is missing."""
    label = heart.label.copy()
    label[..., 1::2] = 0
    assert "no LV between others that have it" in stops(replace(heart, label=label))["volume"]
    coverage = heart.coverage & label.any(axis=(1, 2))[..., None]
    assert "volume" not in stops(replace(heart, label=label, coverage=coverage))


def exchanged_phases(subject: str = "m2") -> Study:
    heart = phantom()
    return replace(heart, subject=subject, dataset="own", ed_index=heart.es_index, es_index=heart.ed_index)


def test_an_accepted_flag_is_noted_and_no_finding(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="ED and ES are exchanged") as caught:
        ingest([exchanged_phases()], tmp_path / "data")
    assert caught.value.hint.endswith("If it is right, ingest it with --accept phases")
    (row,) = ingest([exchanged_phases()], tmp_path / "data", accept=["phases"]).added
    assert row.notes.startswith("accepted phases: ED and ES are exchanged")
    checkup = examine(tmp_path / "data", GRID)
    assert [f.grade for f in checkup.findings if "exchanged" in f.text] == ["note"]
    assert {f.about for f in checkup.serious} <= {"splits", "labels"}  # one subject is too few for training
    assert len(prepare(tmp_path / "data", GRID)) == 1


def test_acceptance_is_of_one_flag(heart: Study) -> None:
    twice = scaled(replace(heart, frames_in_cycle=446), 0.1, 0.1, 1.0)
    with pytest.raises(DataError, match="446 frames"):
        admitted(twice, accept=["field-of-view", "volume"])
    assert len(admitted(twice, accept=STOPPING).notes) == 3
    with pytest.raises(InputError, match="no flag is named 'fov'") as caught:
        ingest([twice], Path("nowhere"), accept=["fov"])
    assert "field-of-view" in caught.value.hint


def test_skipped_with_its_reason(heart: Study, tmp_path: Path) -> None:
    summary = ingest([exchanged_phases(), replace(heart, dataset="own")], tmp_path / "data", on_error="skip")
    assert len(summary.added) == 1
    assert "ED and ES are exchanged" in summary.skipped[0].reason


def test_doctor_and_training_agree(tmp_path: Path, run: Run) -> None:
    """A study that an earlier version stored: doctor, the dry run and training refuse it with the same words."""
    data = tmp_path / "data"
    ingest([replace(phantom(seed), subject=f"p{seed}", dataset="own") for seed in range(5)], data)
    rows = list(DatasetTable.read(data).rows)
    assert run("train", "all", "--dataset", data, "--dry-run")[0] == 0
    study = exchanged_phases(rows[0].subject)
    digest = write_study(data / rows[0].file, study)
    DatasetTable((describe(study, rows[0].split, rows[0].file, digest), *rows[1:])).write(data)
    for verb in (("doctor", data), ("train", "all", "--dataset", data, "--dry-run")):
        code, out, err = run(*verb)
        assert code == 3
        assert "ED and ES are exchanged" in out
        assert "1 finding in" in err
        assert "--accept phases" in err
    code, _, err = run("train", "vae", "--dataset", data, "--run", tmp_path / "run", "--preset", "smoke")
    assert code == 3
    assert "ED and ES are exchanged" in err


def test_the_command_accepts(tmp_path: Path, run: Run) -> None:
    heart = phantom()
    save(tmp_path / "a" / "i.nii.gz", heart.image, heart.affine)
    save(tmp_path / "a" / "l.nii.gz", heart.label, heart.affine)
    (tmp_path / "l.yaml").write_text(f"{LAYOUT}phases: {{ed: {heart.es_index}, es: 0}}\n")
    command = ("ingest", "nifti", tmp_path, "--layout", tmp_path / "l.yaml", "--out", tmp_path / "data")
    assert run(*command)[0] == 3
    assert run(*command, "--accept", "phases")[0] == 0
    assert run(*command, "--accept", "phase")[0] == 2


def test_flags_list_what_stops_first(heart: Study) -> None:
    found = flags(scaled(heart, 0.3, 0.3, 0.6))
    assert found[0].grade == "stops"
    assert {"stops", "look"} == {flag.grade for flag in found}


@pytest.mark.slow
def test_no_patient_of_acdc_is_refused(acdc_root: Path) -> None:
    assert [(study.subject, stops(study)) for study in read_acdc(acdc_root) if stops(study)] == []
