"""Quality checks: a clean heart raises no flag, and each damage raises the one that is meant for it."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cinesynth.data.phantom import phantom_study
from cinesynth.data.quality import (
    QualityCheck,
    flagged_checks,
    lv_limits,
    quality_checks,
    slice_shifts_mm,
    volume_curve,
)
from cinesynth.data.sources.acdc import read_acdc
from cinesynth.physiology import LV_RANGES
from cinesynth.types import Diagnosis, Label, Study, covered_label

Damage = Callable[[Study], Study]


@pytest.fixture(name="heart", scope="module")
def _heart() -> Study:
    return phantom_study(0, frames=12).study


def named(study: Study) -> dict[str, QualityCheck]:
    return {check.name: check for check in flagged_checks(study)}


def with_image(study: Study, frame: int | slice, z: int | slice, change: Callable[[np.ndarray], np.ndarray]) -> Study:
    image = study.image.copy()
    image[frame, ..., z] = change(image[frame, ..., z])
    return replace(study, image=image)


def with_label(study: Study, change: Callable[[np.ndarray], None]) -> Study:
    label = study.label.copy()
    change(label)
    return replace(study, label=label)


@pytest.mark.parametrize("seed", range(5))
def test_clean_hearts_raise_no_flag(seed: int) -> None:
    study = phantom_study(seed, frames=12).study
    before = study.image.copy(), study.label.copy()
    assert flagged_checks(study) == ()
    assert np.array_equal(study.image, before[0])
    assert np.array_equal(study.label, before[1])


def test_a_flag_says_what_was_found_and_expected(heart: Study) -> None:
    flag = named(with_image(heart, 6, slice(None), lambda image: (1.3 * image).astype(image.dtype)))["flicker"]
    assert flag.where.startswith("frame 6")
    assert flag.value == pytest.approx(30.0, abs=4.0)
    assert str(flag) == f"flicker {flag.value:.4g} % (expected at most 4), {flag.where}"
    assert str(QualityCheck("EF", 3.0, 8.0, 85.0, "%")) == "EF 3 % (expected 8 to 85)"
    assert QualityCheck("EF", float("nan"), 8.0, 85.0).flagged


def test_black_frames_and_slices(heart: Study) -> None:
    frame = named(with_image(heart, 3, slice(None), np.zeros_like))
    assert frame["contrast of a frame"].where == "frame 3"
    assert frame["contrast of a frame"].value == 0
    slice_ = named(with_image(heart, 5, 4, np.zeros_like))
    assert "contrast of a frame" not in slice_
    assert slice_["contrast of a slice"].where == "frame 5, slice 4"


def test_frames_that_are_one(heart: Study) -> None:
    repeated = with_image(heart, 4, slice(None), lambda _: heart.image[5])
    assert named(repeated)["frames that differ"].value == 11
    still = replace(heart, image=np.broadcast_to(heart.image[:1], heart.image.shape))
    assert named(still)["frames that differ"].value == 1
    assert "motion under the labels" in named(still)
    assert "frames in the cycle" in named(replace(heart, frames_in_cycle=140))


def test_brightness_of_ed_against_es(heart: Study) -> None:
    stored = [heart.ed_index, heart.es_index]
    pair = replace(
        heart,
        image=heart.image[stored],
        label=heart.label[stored],
        coverage=heart.coverage[stored],
        frame_index=np.array(stored),
    )
    assert flagged_checks(pair) == ()
    assert "frames in the cycle" not in {check.name for check in quality_checks(replace(pair, frames_in_cycle=2))}
    flag = named(with_image(pair, 1, slice(None), lambda image: image // 2))["flicker"]
    assert flag.value == pytest.approx(100 / 3, abs=4.0)  # of 1 and a half, each a quarter off the mean, which is 3/4


def test_volumes_against_the_group(heart: Study) -> None:
    assert lv_limits(Diagnosis.UNKNOWN) == LV_RANGES
    for group in set(Diagnosis) - {Diagnosis.UNKNOWN}:
        for (low, high), (lowest, highest) in zip(lv_limits(group), LV_RANGES, strict=True):
            assert lowest <= low < high <= highest
    larger = replace(heart, affine=heart.affine @ np.diag([2.0, 2.0, 1.0, 1.0]))
    volumes = {check.name: check.value for check in quality_checks(heart)}
    assert named(larger)["LV EDV"].value == pytest.approx(4 * volumes["LV EDV"])
    assert named(replace(heart, diagnosis=Diagnosis.DCM)).keys() >= {"EF"}


def test_ed_and_es_that_are_not(heart: Study) -> None:
    late = named(replace(heart, ed_index=heart.es_index - 2))
    assert late["LV above ED"].where == f"frame {heart.ed_index}"
    early = named(replace(heart, es_index=heart.es_index - 3))
    assert early["LV below ES"].where == f"frame {heart.es_index}"

    def equal(label: np.ndarray) -> None:
        label[:] = label[0]

    assert named(with_label(heart, equal))["EF"].value == 0


def test_labels_outside_the_heart(heart: Study) -> None:
    def scatter(label: np.ndarray) -> None:
        label[2, 5:35, 5:35, 4] = Label.LV

    found = named(with_label(heart, scatter))
    assert found["LV apart"].where == "frame 2"
    assert "RV apart" not in found
    moved = replace(heart, label=np.roll(heart.label, heart.label.shape[1] // 2, axis=1))
    assert "motion under the labels" in named(moved)


def test_shifted_slice(heart: Study) -> None:
    voxels = round(15.0 / heart.spacing_mm[0])
    middle = heart.label.shape[3] // 2

    def shift(label: np.ndarray) -> None:
        label[..., middle] = np.roll(label[..., middle], voxels, axis=1)

    shifted = with_label(heart, shift)
    assert named(shifted)["shift of a slice"].where == f"slice {middle}"
    before, after = slice_shifts_mm(heart)[middle], slice_shifts_mm(shifted)[middle]
    assert after == pytest.approx(voxels * heart.spacing_mm[0], abs=before + 1e-6)


def test_gaps_and_steps(heart: Study) -> None:
    def gap(label: np.ndarray) -> None:
        label[0, ..., 3:5] = 0

    assert named(with_label(heart, gap))["slices without labels between labelled ones"].value == 2
    assert named(replace(heart, affine=heart.affine @ np.diag([1.0, 1.0, 1.6, 1.0]))).keys() >= {"slice step"}


def test_only_what_was_annotated_is_judged(heart: Study) -> None:
    coverage = heart.coverage.copy()
    coverage[..., 0] = False
    coverage[1:, :, 1] = False
    partial = replace(heart, coverage=coverage, label=covered_label(heart.label, coverage))
    names = {check.name for check in quality_checks(partial)}
    assert "LV EDV" in names
    assert "MYO at ED" in names
    assert not names & {"RV EDV", "RV apart", "MYO at ES of ED"}
    assert flagged_checks(partial) == ()
    assert np.isnan(volume_curve(partial, Label.RV)).all()
    nothing = replace(heart, coverage=np.zeros_like(coverage), label=np.zeros_like(heart.label))
    assert flagged_checks(nothing) == ()


def test_a_covered_heart_without_a_cavity_is_flagged(heart: Study) -> None:
    def erase(label: np.ndarray) -> None:
        label[0][label[0] == Label.LV] = 0

    assert named(with_label(heart, erase))["LV EDV"].value == 0


@pytest.mark.slow
def test_acdc_is_mostly_clean(acdc_root: Path) -> None:
    """All but 11 raise no flag; of the others: ED and ES scaled apart, and slices from other breath-holds."""
    found = {study.subject: [flag.name for flag in flagged_checks(study)] for study in read_acdc(acdc_root)}
    assert Counter(name for names in found.values() for name in names) == {"flicker": 8, "shift of a slice": 3}
    assert sum(not names for names in found.values()) == len(found) - 11
