import json

import numpy as np
import pytest

from cinesynth.errors import DataError, InputError, WeightsError
from cinesynth.physiology import SYSTOLE_FRACTION_RANGE, USUAL_CYCLE_MS
from cinesynth.types import CONDITIONS, ClinicalPrior, Diagnosis
from cinesynth.weights.prior import EmpiricalPrior
from cinesynth.weights.prior_fit import fit
from tests.bundles import HEARTS, people, record, records


@pytest.fixture(scope="module")
def prior() -> EmpiricalPrior:
    return fit(records())


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
    prior = fit([*few, *many])
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
    completed = prior.complete(asked, 1, ())
    assert (completed.diagnosis, completed.lv_edv_ml, completed.lv_esv_ml) == (Diagnosis.HCM, 120.0, None)
    assert prior.complete(ClinicalPrior(slices=11), 1).slices == 11


def test_timing_is_the_subjects(prior: EmpiricalPrior) -> None:
    assert prior.group(Diagnosis.NOR).systolic_fraction == pytest.approx(0.4)
    assert prior.frame_time_ms(Diagnosis.NOR, 25) == pytest.approx(32.0)
    assert prior.frame_time_ms(Diagnosis.NOR, 50) == pytest.approx(16.0)  # the beat does not get longer


def test_unknown_frame_times_and_volumes_are_left_out() -> None:
    known = [record("a", Diagnosis.NOR, 120.0, 60.0, frame_time_ms=None)]
    prior = fit([*known, record("b", Diagnosis.DCM, None, 20.0)])
    assert prior.overall.count == 1
    assert Diagnosis.DCM not in prior.groups
    assert prior.frame_time_ms(Diagnosis.NOR, 30) == pytest.approx(USUAL_CYCLE_MS / 30)
    assert prior.draw(0).lv_edv_ml == pytest.approx(120.0, abs=0.1)


def test_refused() -> None:
    with pytest.raises(DataError, match="split test"):
        fit([record("a", Diagnosis.NOR, 120.0, 60.0, split="test")])
    with pytest.raises(DataError, match="none of 1"):
        fit([record("a", Diagnosis.NOR, None, 60.0)])
    with pytest.raises(InputError, match="no training subject has the diagnosis MINF"):
        fit(records(3)).draw(0, Diagnosis.MINF)
    with pytest.raises(WeightsError):
        EmpiricalPrior.from_json({"overall": {}})


def test_pairs_of_frames_tell_nothing_about_the_time_of_es() -> None:
    timed = [record(f"a{i}", Diagnosis.NOR, 130.0, 62.0, slices=9) for i in range(4)]  # ES at frame 10 of 25
    pairs = [record(f"b{i}", Diagnosis.NOR, 130.0, 62.0, frames_in_cycle=2, es_index_from_ed=1) for i in range(8)]
    assert fit([*timed, *pairs]).group(Diagnosis.NOR).systolic_fraction == pytest.approx(0.4, abs=0.02)


# --- What a request leaves open is drawn as people have it -----------------------------------------------------------


@pytest.fixture(scope="module")
def joint() -> EmpiricalPrior:
    return fit(*people())


def test_an_rv_that_was_not_asked_for_is_as_large_as_people_have_it(joint: EmpiricalPrior) -> None:
    for edv, ef in ((110.0, 60.0), (150.0, 66.0)):
        asked = ClinicalPrior.from_ef(Diagnosis.NOR, edv, ef)
        drawn = [joint.complete(asked, seed, CONDITIONS) for seed in range(100)]
        assert np.mean([p.rv_edv_ml for p in drawn]) == pytest.approx(edv, rel=0.05)
        assert np.std([p.rv_edv_ml / edv for p in drawn]) == pytest.approx(0.05, abs=0.03)
        assert np.mean([p.myo_mass_g for p in drawn]) == pytest.approx(0.8 * edv, rel=0.05)
        odds = np.log(ef / (100.0 - ef)) / 2
        rv_ef = np.mean([1.0 - p.rv_esv_ml / p.rv_edv_ml for p in drawn])
        assert rv_ef == pytest.approx(1.0 / (1.0 + np.exp(-odds)), abs=0.03)


def test_the_rv_of_those_that_never_show_it_follows_from_the_others(joint: EmpiricalPrior) -> None:
    # Large DCM hearts are GE's, whose RV is not annotated: it is drawn by the slopes of all.
    asked = ClinicalPrior.from_ef(Diagnosis.DCM, 330.0, 20.0)
    assert np.mean([joint.complete(asked, seed, CONDITIONS).rv_edv_ml for seed in range(60)]) > 230.0


def test_vendors_are_drawn_by_their_share_of_hearts_like_this_one(joint: EmpiricalPrior) -> None:
    small, large = (
        np.mean([joint.complete(ClinicalPrior.from_ef(Diagnosis.DCM, edv, 20.0), s, CONDITIONS).vendor == "GE"
                 for s in range(100)])
        for edv in (210.0, 380.0)
    )  # fmt: skip
    assert small < 0.3 < 0.7 < large
    normal = {joint.complete(ClinicalPrior(Diagnosis.NOR), seed, CONDITIONS).vendor for seed in range(50)}
    assert normal == {"Siemens"}


def test_what_is_stated_stays_and_what_weights_do_not_know_stays_open(joint: EmpiricalPrior) -> None:
    asked = ClinicalPrior(Diagnosis.HCM, 120.0, 40.0, 9, 150.0, 70.0, 180.0, "unknown")
    assert joint.complete(asked, 0, CONDITIONS) == asked
    core = joint.complete(ClinicalPrior(Diagnosis.HCM), 0)
    assert core.rv_edv_ml is core.rv_esv_ml is core.myo_mass_g is core.vendor is None
    assert core.lv_edv_ml is not None
    assert core.lv_esv_ml is not None
    for seed in range(40):  # a stated RV EDV or ESV is never contradicted
        rv = joint.complete(ClinicalPrior(Diagnosis.NOR, rv_edv_ml=190.0), seed, CONDITIONS)
        assert rv.rv_edv_ml == 190.0
        assert 0.0 < rv.rv_esv_ml < 190.0
        alone = joint.complete(ClinicalPrior(Diagnosis.NOR, rv_esv_ml=250.0, lv_esv_ml=240.0), seed, CONDITIONS)
        assert (alone.rv_edv_ml, alone.rv_esv_ml, alone.lv_edv_ml, alone.lv_esv_ml) == (None, 250.0, None, 240.0)


def test_the_time_of_es_varies_as_among_people() -> None:
    timed = [record(f"a{i}", Diagnosis.NOR, 130.0, 62.0, slices=9, es_index_from_ed=8 + i % 5) for i in range(20)]
    prior = fit(timed)
    drawn = [prior.es_index(Diagnosis.NOR, 100, seed) for seed in range(300)]
    assert np.std(drawn) == pytest.approx(100 * np.std([r.es_index_from_ed / 25 for r in timed]), rel=0.3)
    assert min(drawn) >= 100 * SYSTOLE_FRACTION_RANGE[0]
    assert max(drawn) <= 100 * SYSTOLE_FRACTION_RANGE[1]
    assert fit(timed[:1]).es_index(Diagnosis.NOR, 25, 3) == 8  # one heart tells no spread


def test_the_joint_distribution_is_written_and_read_whole(joint: EmpiricalPrior) -> None:
    assert EmpiricalPrior.from_json(json.loads(json.dumps(joint.to_json(), allow_nan=False))) == joint


def test_priors_of_the_first_format_complete_what_they_know() -> None:
    values = fit(records()).to_json()
    for group in (values["overall"], *values["groups"].values()):
        del group["vendors"], group["systolic_spread"]
    old = EmpiricalPrior.from_json({key: value for key, value in values.items() if key not in ("axes", "format")})
    found = old.complete(ClinicalPrior(Diagnosis.NOR, 130.0), 1, CONDITIONS)
    assert found.slices is not None
    assert found.lv_esv_ml is not None
    assert found.rv_edv_ml is found.myo_mass_g is found.vendor is None
    assert old.es_index(Diagnosis.NOR, 25, 0) == 10
