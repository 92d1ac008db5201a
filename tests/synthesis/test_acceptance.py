from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from cinesynth.synthesis.acceptance import enclosed_share, judge_anatomy, judge_motion, longest_run
from cinesynth.types import Label, LabelArray

VOXEL_ML = 0.04


def heart(lv_radius: float = 10.0, slices: int = 8) -> LabelArray:
    """An LV cylinder in a ring of myocardium of constant volume, two empty slices at each end."""
    x, y = np.mgrid[:48, :48] - 24.0
    radius = np.hypot(x, y)
    plane = np.where(radius < lv_radius, Label.LV, np.where(radius < np.hypot(lv_radius, np.sqrt(125)), Label.MYO, 0))
    label = np.zeros((48, 48, slices + 4), dtype=np.uint8)
    label[..., 2:-2] = plane[..., None]
    return label


def failed(label: LabelArray) -> set[str]:
    return {rule.rule for rule in judge_anatomy(label, VOXEL_ML).rules if not rule.passed}


def test_a_heart_is_accepted_with_its_volumes() -> None:
    verdicts = judge_anatomy(heart(), VOXEL_ML)
    assert verdicts.accepted
    lv_ml = (heart() == Label.LV).sum() * VOXEL_ML
    assert verdicts.rules[0].value == pytest.approx(lv_ml)
    assert [r["limit"] for r in verdicts.to_json()] == [1.0, 1.0, 2, 0.98, 0.8]


def test_an_lv_in_two_parts_is_refused() -> None:
    label = heart()
    label[..., 6] = 0  # an empty slice cuts the LV
    assert failed(label) == {"lv_largest_part"}


def test_a_crumb_beside_the_lv_is_no_second_part() -> None:
    label = heart()
    label[2, 2, 5] = Label.LV
    assert not failed(label)


def test_no_myocardium() -> None:
    label = heart()
    label[label == Label.MYO] = 0
    assert failed(label) == {"myo_volume_ml", "myo_encloses_lv"}


def test_an_open_myocardium() -> None:
    label = heart()
    label[:24][label[:24] == Label.MYO] = 0
    assert failed(label) == {"myo_encloses_lv"}
    assert enclosed_share(label[..., 4:5] == Label.LV, label[..., 4:5] == Label.MYO) == pytest.approx(0.5, abs=0.1)


def test_one_slice_of_lv() -> None:
    label = heart()
    label[..., 3:][label[..., 3:] == Label.LV] = 0
    assert failed(label) == {"lv_contiguous_slices"}


def test_empty_fails_everything_without_dividing_by_zero() -> None:
    empty = np.zeros((8, 8, 4), dtype=np.uint8)
    assert judge_anatomy(empty, VOXEL_ML).passed == 0
    assert not judge_motion(np.stack([empty, empty]), VOXEL_ML, 1).accepted


def test_the_limit_is_millilitres_not_voxels() -> None:
    tiny = np.zeros((20, 20, 4), dtype=np.uint8)
    tiny[5:10, 5:10, :] = Label.LV  # 100 voxels
    assert judge_anatomy(tiny, 0.01).rules[0].passed  # 1 x 1 x 10 mm: the paper's 1 mL
    assert not judge_anatomy(tiny, 0.0099).rules[0].passed


@pytest.mark.parametrize(("present", "length"), [([], 0), ([0, 1, 1, 0, 1], 2), ([1, 1, 1], 3), ([0], 0)])
def test_longest_run(present: list[int], length: int) -> None:
    assert longest_run(np.array(present, dtype=bool)) == length


def test_a_heart_must_contract_and_ed_be_its_fullest() -> None:
    beat = np.stack([heart(10.0), heart(7.0), heart(9.0)])
    assert judge_motion(beat, VOXEL_ML, 1).accepted
    still = judge_motion(np.stack([heart(), heart()]), VOXEL_ML, 1)
    assert [r.rule for r in still.rules if not r.passed] == ["lv_esv_over_edv"]
    swollen = judge_motion(np.stack([heart(10.0), heart(7.0), heart(12.0)]), VOXEL_ML, 1)
    assert [r.rule for r in swollen.rules if not r.passed] == ["lv_largest_over_edv"]


def test_myocardium_that_vanishes_at_es_is_refused() -> None:
    torn = heart(7.0)
    torn[..., 2:5] = 0
    verdicts = judge_motion(np.stack([heart(10.0), torn]), VOXEL_ML, 1)
    assert [r.rule for r in verdicts.rules if not r.passed] == ["myo_es_over_ed"]


def test_every_real_heart_is_accepted(acdc_root: Path) -> None:
    patients = sorted((acdc_root / "training").glob("patient*"))[::8]
    assert patients
    for patient in patients:
        info = dict(line.split(": ") for line in (patient / "Info.cfg").read_text().strip().splitlines())
        frames = [f"{patient}/{patient.name}_frame{int(info[k]):02d}_gt.nii.gz" for k in ("ED", "ES")]
        images = [nib.load(frame) for frame in frames]
        labels = np.stack([np.asarray(image.dataobj).astype(np.uint8) for image in images])
        voxel_ml = float(np.prod(images[0].header.get_zooms()[:3])) / 1000
        assert judge_anatomy(labels[0], voxel_ml).accepted, patient.name
        assert judge_motion(labels, voxel_ml, 1).accepted, patient.name
