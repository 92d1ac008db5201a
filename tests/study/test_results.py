"""Means, gains and their intervals over subjects and seeds; agreement with the results of the paper."""

import numpy as np
import pytest

from cinesynth.errors import DataError
from cinesynth.study.metrics import COLUMNS, MEAN, Estimate, Results, estimate, read_scores, write_scores
from cinesynth.study.plan import Arm, TrainingRun
from cinesynth.study.report import PAPER_RESULTS

REAL, MORE = Arm("real", "real"), Arm("x1", "real + 1 x", ratio=1.0)


def results(gain: float, noise: float = 0.0) -> Results:
    """Three seeds of two arms on forty subjects that differ widely; the second arm gains ``gain`` in Dice."""
    rng = np.random.default_rng(1)
    subjects = rng.normal(0.8, 0.1, (40, 1))
    scores = {}
    for seed in range(3):
        for arm, more in ((REAL, 0.0), (MORE, gain)):
            dice = subjects + more + rng.normal(0, noise, (40, 1)) + np.zeros((40, len(COLUMNS)))
            scores[TrainingRun(10, arm, seed)] = {"away": {"dice": dice, "hd95_mm": 10 - dice, "assd_mm": 3 - dice}}
    return Results(scores)


def test_a_gain_is_paired_by_subject_and_seed() -> None:
    found = results(0.02, noise=0.01).estimates("away", 10, "dice", "x1", "real")[MEAN]
    assert found.value == pytest.approx(0.02, abs=0.004)
    assert 0.01 < found.low < found.value < found.high < 0.03  # far narrower than subjects differ
    assert (found.subjects, found.seeds) == (40, 3)
    alone = results(0.02, noise=0.01).estimates("away", 10, "dice", "x1")[MEAN]
    assert alone.high - alone.low > 3 * (found.high - found.low)


def test_an_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(100):
        found = estimate(rng.normal(0.0, 1.0, (5, 30)) + rng.normal(0.0, 1.0, (1, 30)))
        hits += found.low <= 0.0 <= found.high
    assert 88 <= hits <= 100


def test_subjects_with_an_unknown_structure_are_left_out() -> None:
    values = np.ones((2, 5))
    values[:, 3] = np.nan
    assert estimate(values).subjects == 4
    assert np.isnan(estimate(np.full((2, 3), np.nan)).value)


def test_only_seeds_finished_in_both_arms_count() -> None:
    found = dict(results(0.02).scores)
    del found[TrainingRun(10, MORE, 1)]
    some = Results(found)
    assert some.estimates("away", 10, "dice", "x1", "real")[MEAN].seeds == 2
    assert some.estimates("away", "all", "dice", "x1", "real") == {}


def test_scores_are_written_and_read(tmp_path) -> None:
    one = {m: np.array([np.nan, 0.5, 0.9]) for m in ("dice", "hd95_mm", "assd_mm")}
    write_scores(tmp_path / "scores.json", {"arm": "real"}, {"away": [one, one]})
    found = read_scores(tmp_path / "scores.json")
    assert found is not None
    assert found["away"]["dice"].shape == (2, len(COLUMNS))
    assert found["away"]["dice"][0, -1] == pytest.approx(0.7)  # over the annotated structures
    assert read_scores(tmp_path / "other.json") is None
    (tmp_path / "scores.json").write_text("{")
    with pytest.raises(DataError, match="is damaged"):
        read_scores(tmp_path / "scores.json")


def test_scores_of_an_earlier_release_are_read(tmp_path) -> None:
    old = """{"people": 4, "arm": "real", "seed": 0, "learned_from": ["acdc_patient001"],
        "tested": {"away": ["acdc_patient002"]}, "data_hash": "0", "code": "0123456789",
        "structures": ["RV", "MYO", "LV"], "groups": {"away":
        {"dice": [[null, 0.5, 0.75]], "hd95_mm": [[null, 8.0, 4.0]], "assd_mm": [[null, 2.0, 1.0]]}}}"""
    (tmp_path / "scores-0123456789.json").write_text(old)
    found = read_scores(tmp_path / "scores-0123456789.json")
    assert found is not None
    assert found["away"]["dice"][0, 1:].tolist() == [0.5, 0.75, 0.625]


@pytest.mark.parametrize(
    ("value", "low", "high", "verdict"),
    [
        (0.02, 0.01, 0.03, "reproduced"),
        (0.01, 0.005, 0.02, "better, but by less than the paper reports"),
        (0.02, -0.01, 0.05, "no effect shown"),
        (-0.02, -0.03, -0.01, "worse"),
        (float("nan"), 0.0, 0.0, "unknown"),
    ],
)
def test_agreement_on_dice(value: float, low: float, high: float, verdict: str) -> None:
    assert PAPER_RESULTS[0].verdict(Estimate(value, low, high, 20, 3)) == verdict


@pytest.mark.parametrize(
    ("value", "low", "high", "verdict"),
    [
        (-3.5, -5.0, -1.0, "reproduced"),
        (-1.0, -1.5, -0.5, "better, but by less than the paper reports"),
        (1.0, -0.5, 2.0, "no effect shown"),
        (2.0, 1.0, 3.0, "worse"),
    ],
)
def test_agreement_on_distance(value: float, low: float, high: float, verdict: str) -> None:
    assert PAPER_RESULTS[1].verdict(Estimate(value, low, high, 20, 3)) == verdict
