from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.signal import find_peaks

from cinesynth.data.label_shape import enclosed_shares, longest_run
from cinesynth.errors import InputError
from cinesynth.physiology import MYO_ES_SHARE_RANGE
from cinesynth.synthesis.acceptance import (
    LIMITS,
    Candidate,
    Verdict,
    Verdicts,
    judge_anatomy,
    judge_motion,
    minima,
    rejection_sample,
)
from cinesynth.types import STRUCTURES, Label, LabelArray, volumes_ml
from tests.real_subjects import acdc_patients, real_subjects, table

VOXEL_ML = 0.04


def heart(lv_radius: float = 10.0, slices: int = 8) -> LabelArray:
    """An LV cylinder in a ring of constant volume, and an RV of a third of its volume; two empty slices at each end."""
    x, y = np.mgrid[:48, :48] - 24.0
    radius = np.hypot(x, y)
    plane = np.where(radius < lv_radius, Label.LV, np.where(radius < np.hypot(lv_radius, np.sqrt(125)), Label.MYO, 0))
    plane[2:8, 16 : 16 + max(1, round(0.16 * lv_radius**2))] = Label.RV
    label = np.zeros((48, 48, slices + 4), dtype=np.uint8)
    label[..., 2:-2] = plane[..., None]
    return label


def failed(label: LabelArray) -> set[str]:
    return {rule.rule for rule in judge_anatomy(label, VOXEL_ML).rules if not rule.passed}


def test_a_heart_is_accepted_with_its_volumes() -> None:
    verdicts = judge_anatomy(heart(), VOXEL_ML)
    assert verdicts.accepted
    volumes = {rule.rule: rule.value for rule in verdicts.rules if rule.rule.endswith("_ml")}
    assert volumes == {
        f"{s.name.lower()}_volume_ml": pytest.approx((heart() == s).sum() * VOXEL_ML) for s in STRUCTURES
    }


def test_a_heart_in_two_parts_is_refused() -> None:
    label = heart()
    label[..., 6] = 0  # an empty slice cuts it
    assert failed(label) == {"lv_largest_part", "myo_largest_part", "rv_largest_part", "gap_slices"}


def test_a_crumb_beside_the_lv_is_no_second_part() -> None:
    label = heart()
    label[45, 45, 5] = Label.MYO
    assert not failed(label)


@pytest.mark.parametrize("structure", [Label.MYO, Label.RV])
def test_a_structure_that_is_missing(structure: Label) -> None:
    label = heart()
    label[label == structure] = 0
    name = structure.name.lower()
    open_ = {"myo_encloses_lv", "myo_encloses_base"} if structure is Label.MYO else set()
    assert failed(label) == {f"{name}_volume_ml", f"{name}_largest_part"} | open_


def test_one_slice_of_open_myocardium_is_enough_to_refuse() -> None:
    label = heart()
    label[:22, :, 5][label[:22, :, 5] == Label.MYO] = 0
    assert failed(label) == {"myo_encloses_lv"}
    shares = enclosed_shares(label == Label.LV, label == Label.MYO)
    assert shares == [1.0, 1.0, 1.0, pytest.approx(0.6, abs=0.1), 1.0, 1.0, 1.0, 1.0]


def test_the_first_slice_may_be_open_where_the_outflow_tract_is() -> None:
    label = heart()
    label[:20, :, 2][label[:20, :, 2] == Label.MYO] = 0
    assert not failed(label)
    label[:, :, 2][label[:, :, 2] == Label.MYO] = 0
    assert failed(label) == {"myo_encloses_base"}


def test_the_last_slice_may_come_and_go() -> None:
    label = heart()
    label[..., 9][label[..., 9] == Label.MYO] = 0
    assert not failed(label)


def test_one_slice_of_lv() -> None:
    label = heart()
    label[..., 3:][label[..., 3:] == Label.LV] = 0
    assert failed(label) == {"lv_contiguous_slices"}


def test_empty_fails_everything_without_dividing_by_zero() -> None:
    empty = np.zeros((8, 8, 4), dtype=np.uint8)
    assert {r.rule for r in judge_anatomy(empty, VOXEL_ML).rules if r.passed} == {"gap_slices"}
    assert not judge_motion(np.stack([empty, empty]), VOXEL_ML, 1).accepted


def test_the_limit_is_millilitres_not_voxels() -> None:
    tiny = np.zeros((20, 20, 4), dtype=np.uint8)
    tiny[5:10, 5:10, :] = Label.LV  # 100 voxels

    def lv_is_enough(voxel_ml: float) -> bool:
        return {rule.rule: rule.passed for rule in judge_anatomy(tiny, voxel_ml).rules}["lv_volume_ml"]

    assert lv_is_enough(0.01)  # 1 x 1 x 10 mm: the paper's 1 mL
    assert not lv_is_enough(0.0099)


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


def fails(*frames: LabelArray, es_index: int = 1) -> list[str]:
    return [r.rule for r in judge_motion(np.stack(frames), VOXEL_ML, es_index).rules if not r.passed]


def test_myocardium_that_vanishes_at_es_is_refused() -> None:
    torn = heart(7.0)
    torn[..., 2:5] = 0
    assert fails(heart(10.0), torn) == ["myo_es_over_ed"]


def test_a_frame_that_is_no_heart_is_seen_wherever_it_is() -> None:
    open_ = heart(9.0)
    open_[:22, :, 6][open_[:22, :, 6] == Label.MYO] = 0
    assert fails(heart(10.0), heart(7.0), open_) == ["cycle_myo_encloses_lv"]
    cut = heart(9.0)
    cut[..., 6][cut[..., 6] == Label.RV] = 0
    assert fails(heart(10.0), heart(7.0), cut) == ["cycle_rv_largest_part", "cycle_gap_slices"]


def test_the_base_may_leave_its_slice_between_ed_and_es() -> None:
    leaving = heart(8.5)
    leaving[..., 2][leaving[..., 2] == Label.MYO] = 0
    assert fails(heart(10.0), leaving, heart(7.0), es_index=2) == []
    assert fails(heart(10.0), leaving, heart(9.0)) == ["es_myo_encloses_base"]


def test_the_volume_falls_once_and_is_least_at_es() -> None:
    radii = [10.0, 8.0, 6.0, 7.0, 8.0, 9.0, 9.0, 9.5]
    assert fails(*map(heart, radii), es_index=2) == []
    assert fails(*map(heart, radii), es_index=3) == []  # one frame off
    assert fails(*map(heart, radii), es_index=4) == ["es_frames_off"]
    twice = [10.0, 7.0, 6.0, 9.0, 7.0, 9.0, 9.0, 9.5]
    assert fails(*map(heart, twice), es_index=2) == ["lv_minima"]
    assert minima(np.array([1.0, 0.6, 0.5, 0.53, 0.51, 0.8])) == 1  # a dent of 2 % is none


@pytest.mark.parametrize("frames", [1, 2, 3, 8, 30])
def test_minima_are_the_peaks_of_scipy_in_the_middle_of_three_cycles(frames: int) -> None:
    rng = np.random.default_rng(frames)
    steps = rng.integers(0, 5, (40, frames)) / 20  # with plateaus, and depths on the limit
    walks = 0.5 + 0.05 * rng.normal(size=(40, frames)).cumsum(axis=1)
    for curve in (*steps.astype(np.float32), *walks.astype(np.float32)):
        found, _ = find_peaks(-np.concatenate([curve, curve, curve]), prominence=LIMITS.minimum_depth)
        assert minima(curve) == ((found >= frames) & (found < 2 * frames)).sum()


def test_dear_work_is_done_on_what_may_be_kept() -> None:
    """Three candidates break 2, 0 and 1 rules as they are sampled; the second is finished, and it alone."""
    finished: list[int] = []

    def finish(candidate: Candidate) -> Candidate:
        finished.append(candidate.attempt)
        return candidate

    kept, candidates = rejection_sample(3, lambda attempt: draft(attempt, (2, 0, 1)[attempt]), finish)
    assert (kept.attempt, len(candidates), finished) == (1, 2, [1])


def test_where_none_holds_as_sampled_the_nearest_is_finished_first() -> None:
    """Finishing mends the third candidate, which breaks one rule: the two that break more are not tried before."""
    finished: list[int] = []

    def finish(candidate: Candidate) -> Candidate:
        finished.append(candidate.attempt)
        return draft(candidate.attempt, 0)

    kept, candidates = rejection_sample(3, lambda attempt: draft(attempt, (3, 2, 1)[attempt]), finish)
    assert (kept.attempt, kept.accepted, len(candidates), finished) == (2, True, 3, [2])


def test_what_finishing_makes_a_near_duplicate_is_not_kept() -> None:
    def finish(candidate: Candidate) -> Candidate:
        return replace(candidate, rejected="a copy" if candidate.attempt < 2 else "")

    kept, candidates = rejection_sample(1, lambda attempt: draft(attempt, 0), finish)
    assert (kept.attempt, len(candidates)) == (2, 3)  # a near-duplicate is no attempt
    with pytest.raises(InputError, match="all 8 candidates were rejected: a copy"):
        rejection_sample(1, lambda attempt: draft(attempt, 1), lambda one: replace(one, rejected="a copy"))


def draft(attempt: int, broken: int) -> Candidate:
    """A candidate that breaks so many of three rules."""
    rules = Verdicts(tuple(Verdict("rule", float(i >= broken), 1.0) for i in range(3)))
    nothing = np.zeros((1, 1, 1, 1), np.float32)
    return Candidate(torch.zeros(1), nothing, nothing.astype(np.uint8), rules, attempt)


@pytest.mark.slow
def test_every_real_heart_is_accepted_in_every_frame(cine_data: Path) -> None:
    """But for three of Najman, whose LV is fuller in a late frame than at ED, which the table puts at frame 0.

    In Pat03 and Pat09 the atrium fills the LV in the last frames by 14 % and 11 %; in Pat12 the automatic mask of
    frame 22 leaked into the RV.
    """
    muscle_kept, fuller = [], set()
    for study in real_subjects(cine_data):
        frames = np.flatnonzero(study.labelled)
        ed, es = (int(np.flatnonzero(study.frame_index[frames] == i)[0]) for i in (study.ed_index, study.es_index))
        label = np.roll(study.label[frames], -ed, axis=0)
        without_rv = not study.coverage[..., STRUCTURES.index(Label.RV)].any()
        verdicts = (
            judge_anatomy(label[0], study.voxel_ml),
            judge_motion(label, study.voxel_ml, (es - ed) % len(label)),
        )
        failed = [rule.rule for verdict in verdicts for rule in verdict.rules if not rule.passed]
        failed = [rule for rule in failed if not (without_rv and "rv_" in rule)]
        if failed == ["lv_largest_over_edv"]:
            fuller.add(study.subject)
        else:
            assert failed == [], study.subject
        myo_ml = volumes_ml(label, Label.MYO, study.voxel_ml)
        muscle_kept.append(myo_ml[(es - ed) % len(label)] / myo_ml[0])
    assert fuller == {"Pat03", "Pat09", "Pat12"}
    tables = [table(cine_data / name) for name in ("mnms_edes", "najman4d")]
    assert len(muscle_kept) == len(acdc_patients(cine_data)) + sum(map(len, tables))
    quartiles = np.percentile(muscle_kept, [25, 75])  # what steering holds the myocardium at ES to
    assert MYO_ES_SHARE_RANGE[0] <= quartiles[0] < quartiles[1] <= MYO_ES_SHARE_RANGE[1]
    assert quartiles == pytest.approx([0.97, 1.17], abs=0.01)


def test_both_ventricles_eject_about_as_much() -> None:
    """The blood goes round: even in labelled subjects with a failing RV, it ejects something."""
    ed, es = heart(10.0), heart(7.0)
    still, wild = es.copy(), heart(9.0)
    still[still == Label.RV] = 0
    still[ed == Label.RV] = Label.RV  # an RV that does not contract
    wild[(wild == Label.RV) & (np.arange(48)[None, :, None] > 17)] = 0  # and one that hardly leaves anything
    larger = ed.copy()
    larger[0:8, 4:44, 2:-2] = Label.RV
    strokes = {"rv_stroke_over_lv", "lv_stroke_over_rv"}
    for first, last, broken in (
        (ed, es, set()),
        (ed, still, {"rv_stroke_over_lv"}),
        (larger, wild, {"lv_stroke_over_rv"}),
    ):
        rules = judge_motion(np.stack([first, last]), VOXEL_ML, 1).rules
        assert {rule.rule for rule in rules if not rule.passed} & strokes == broken
