"""Means, gains and their intervals over persons and seeds; whether a claim holds."""

import numpy as np
import pytest

from cinesynth.errors import DataError
from cinesynth.study.metrics import COLUMNS, MEAN, Effect, Results, effect, read_scores, write_scores
from cinesynth.study.report import CLAIMS
from cinesynth.study.runs import Arm, Cell

REAL, MORE = Arm("real", "real"), Arm("x1", "real + 1 x", ratio=1.0)


def results(gain: float, noise: float = 0.0) -> Results:
    """Three seeds of two arms on forty persons who differ much from each other; the second gains ``gain`` in Dice."""
    rng = np.random.default_rng(1)
    persons = rng.normal(0.8, 0.1, (40, 1))
    found = {}
    for seed in range(3):
        for arm, more in ((REAL, 0.0), (MORE, gain)):
            dice = persons + more + rng.normal(0, noise, (40, 1)) + np.zeros((40, len(COLUMNS)))
            found[Cell(10, arm, seed)] = {"away": {"dice": dice, "hd95_mm": 10 - dice, "assd_mm": 3 - dice}}
    return Results(found)


def test_a_gain_is_paired_by_person_and_seed() -> None:
    found = results(0.02, noise=0.01).gain("away", 10, "x1", "real", "dice")[MEAN]
    assert found.value == pytest.approx(0.02, abs=0.004)
    assert 0.01 < found.low < found.value < found.high < 0.03  # far narrower than persons differ
    assert (found.persons, found.seeds) == (40, 3)
    alone = results(0.02, noise=0.01).mean("away", 10, "x1", "dice")[MEAN]
    assert alone.high - alone.low > 3 * (found.high - found.low)


def test_an_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(100):
        found = effect(rng.normal(0.0, 1.0, (5, 30)) + rng.normal(0.0, 1.0, (1, 30)))
        hits += found.low <= 0.0 <= found.high
    assert 88 <= hits <= 100


def test_persons_of_whom_a_structure_is_unknown_are_left_out() -> None:
    values = np.ones((2, 5))
    values[:, 3] = np.nan
    assert effect(values).persons == 4
    assert np.isnan(effect(np.full((2, 3), np.nan)).value)


def test_only_seeds_that_are_there_in_both_arms_count() -> None:
    found = dict(results(0.02).found)
    del found[Cell(10, MORE, 1)]
    some = Results(found)
    assert some.gain("away", 10, "x1", "real", "dice")[MEAN].seeds == 2
    assert some.gain("away", "all", "x1", "real", "dice") == {}


def test_scores_are_kept(tmp_path) -> None:
    one = {m: np.array([np.nan, 0.5, 0.9]) for m in ("dice", "hd95_mm", "assd_mm")}
    write_scores(tmp_path / "scores.json", {"arm": "real"}, {"away": [one, one]})
    found = read_scores(tmp_path / "scores.json")
    assert found is not None
    assert found["away"]["dice"].shape == (2, len(COLUMNS))
    assert found["away"]["dice"][0, -1] == pytest.approx(0.7)  # of the structures that were annotated
    assert read_scores(tmp_path / "other.json") is None
    (tmp_path / "scores.json").write_text("{")
    with pytest.raises(DataError, match="is damaged"):
        read_scores(tmp_path / "scores.json")


@pytest.mark.parametrize(
    ("value", "low", "high", "said"),
    [
        (0.02, 0.01, 0.03, "holds"),
        (0.01, 0.005, 0.02, "helps, by less than claimed"),
        (0.02, -0.01, 0.05, "no effect is shown"),
        (-0.02, -0.03, -0.01, "harms"),
        (float("nan"), 0.0, 0.0, "not known"),
    ],
)
def test_a_claim_of_dice(value: float, low: float, high: float, said: str) -> None:
    assert CLAIMS[0].verdict(Effect(value, low, high, 20, 3)) == said


@pytest.mark.parametrize(
    ("value", "low", "high", "said"),
    [
        (-3.5, -5.0, -1.0, "holds"),
        (-1.0, -1.5, -0.5, "helps, by less than claimed"),
        (1.0, -0.5, 2.0, "no effect is shown"),
        (2.0, 1.0, 3.0, "harms"),
    ],
)
def test_a_claim_of_distance(value: float, low: float, high: float, said: str) -> None:
    assert CLAIMS[1].verdict(Effect(value, low, high, 20, 3)) == said
