import json

import numpy as np
import pytest

from cinesynth.errors import DataError, InputError, WeightsError
from cinesynth.physiology import USUAL_CYCLE_MS
from cinesynth.types import ClinicalPrior, Diagnosis
from cinesynth.weights.prior import EmpiricalPrior
from tests.bundles import HEARTS, record, records


@pytest.fixture(scope="module")
def prior() -> EmpiricalPrior:
    return EmpiricalPrior.fit(records())


def test_draws_have_the_means_and_correlation_of_the_subjects(prior: EmpiricalPrior) -> None:
    drawn = [prior.draw(seed, Diagnosis.DCM) for seed in range(400)]
    edv = np.array([p.lv_edv_ml for p in drawn])
    seen = [r for r in records() if r.diagnosis is Diagnosis.DCM]
    assert np.median(edv) == pytest.approx(np.median([r.lv_edv_ml for r in seen]), rel=0.1)
    assert np.mean([p.ef_percent for p in drawn]) == pytest.approx(HEARTS[Diagnosis.DCM][1], abs=2.5)
    assert np.corrcoef(np.log(edv), [p.slices for p in drawn])[0, 1] > 0.4  # large hearts have more slices


def test_draws_stay_in_the_observed_range(prior: EmpiricalPrior) -> None:
    for seed in range(300):
        drawn = prior.draw(seed)
        seen = [r for r in records() if r.diagnosis is drawn.diagnosis]
        assert min(r.lv_edv_ml for r in seen) - 0.1 <= drawn.lv_edv_ml <= max(r.lv_edv_ml for r in seen) + 0.1
        assert min(r.slices for r in seen) <= drawn.slices <= max(r.slices for r in seen)


def test_diagnoses_are_drawn_by_their_share() -> None:
    few = [record(f"r{i}", Diagnosis.RV, 110.0 + i, 55.0) for i in range(5)]
    many = [record(f"n{i}", Diagnosis.NOR, 130.0 + i, 60.0) for i in range(15)]
    prior = EmpiricalPrior.fit([*few, *many])
    share = np.mean([prior.draw(seed).diagnosis is Diagnosis.RV for seed in range(400)])
    assert share == pytest.approx(0.25, abs=0.07)


def test_the_same_seed_draws_the_same(prior: EmpiricalPrior) -> None:
    assert prior.draw(3) == prior.draw(3)
    assert prior.draw(3) != prior.draw(4)


def test_what_is_given_stays_and_the_rest_is_drawn_given_it(prior: EmpiricalPrior) -> None:
    small, large = ([prior.draw(s, Diagnosis.DCM, lv_edv_ml=edv) for s in range(100)] for edv in (210.0, 390.0))
    assert {p.lv_edv_ml for p in small} == {210.0}
    assert np.mean([p.slices for p in large]) > np.mean([p.slices for p in small]) + 1
    assert len({p.ef_percent for p in small}) > 30
    few, many = ([prior.draw(s, Diagnosis.DCM, slices=slices) for s in range(100)] for slices in (8, 12))
    assert {p.slices for p in many} == {12}
    assert np.mean([p.lv_edv_ml for p in many]) > np.mean([p.lv_edv_ml for p in few]) + 50
    beyond = prior.draw(0, Diagnosis.NOR, lv_edv_ml=600.0, ef_percent=3.0)  # no training subject is like that
    assert (beyond.lv_edv_ml, beyond.ef_percent) == (600.0, pytest.approx(3.0))
    assert beyond.slices == max(r.slices for r in records() if r.diagnosis is Diagnosis.NOR)
    whole = prior.draw(0, Diagnosis.UNKNOWN, lv_edv_ml=150.0, ef_percent=50.0, slices=9)
    assert whole == ClinicalPrior.from_ef(Diagnosis.UNKNOWN, 150.0, 50.0, 9)


def test_json_is_lossless(prior: EmpiricalPrior) -> None:
    again = EmpiricalPrior.from_json(json.loads(json.dumps(prior.to_json(), allow_nan=False)))
    assert again == prior


def test_slices_follow_the_volume_and_nothing_else_changes(prior: EmpiricalPrior) -> None:
    small, large = (
        [prior.complete(ClinicalPrior(lv_edv_ml=edv), seed).slices for seed in range(60)] for edv in (90.0, 350.0)
    )
    assert np.mean(large) > np.mean(small) + 1
    asked = ClinicalPrior(Diagnosis.HCM, lv_edv_ml=120.0)
    completed = prior.complete(asked, 1)
    assert (completed.diagnosis, completed.lv_edv_ml, completed.lv_esv_ml) == (Diagnosis.HCM, 120.0, None)
    assert prior.complete(ClinicalPrior(slices=11), 1).slices == 11


def test_timing_is_the_subjects(prior: EmpiricalPrior) -> None:
    assert prior.group(Diagnosis.NOR).systolic_fraction == pytest.approx(0.4)
    assert prior.frame_time_ms(Diagnosis.NOR, 25) == pytest.approx(32.0)
    assert prior.frame_time_ms(Diagnosis.NOR, 50) == pytest.approx(16.0)  # the beat does not get longer


def test_unknown_frame_times_and_volumes_are_left_out() -> None:
    known = [record("a", Diagnosis.NOR, 120.0, 60.0, frame_time_ms=None)]
    prior = EmpiricalPrior.fit([*known, record("b", Diagnosis.DCM, None, 20.0)])
    assert prior.overall.count == 1
    assert Diagnosis.DCM not in prior.groups
    assert prior.frame_time_ms(Diagnosis.NOR, 30) == pytest.approx(USUAL_CYCLE_MS / 30)
    assert prior.draw(0).lv_edv_ml == pytest.approx(120.0, abs=0.1)


def test_refused() -> None:
    with pytest.raises(DataError, match="split test"):
        EmpiricalPrior.fit([record("a", Diagnosis.NOR, 120.0, 60.0, split="test")])
    with pytest.raises(DataError, match="none of 1"):
        EmpiricalPrior.fit([record("a", Diagnosis.NOR, None, 60.0)])
    with pytest.raises(InputError, match="no training subject has the diagnosis MINF"):
        EmpiricalPrior.fit(records(3)).draw(0, Diagnosis.MINF)
    with pytest.raises(WeightsError):
        EmpiricalPrior.from_json({"overall": {}})


def test_pairs_of_frames_tell_nothing_about_the_time_of_es() -> None:
    timed = [record(f"a{i}", Diagnosis.NOR, 130.0, 62.0, slices=9) for i in range(4)]  # ES at frame 10 of 25
    pairs = [record(f"b{i}", Diagnosis.NOR, 130.0, 62.0, frames_in_cycle=2, es_index_from_ed=1) for i in range(8)]
    assert EmpiricalPrior.fit([*timed, *pairs]).group(Diagnosis.NOR).systolic_fraction == pytest.approx(0.4, abs=0.02)
