"""The rules say yes to hearts of the same kind and no to others, at the counts of real life."""

import numpy as np
import pytest

from cinesynth.evaluation.comparison import one_sided_test, separation, two_sided_test
from cinesynth.evaluation.statistics import mean_interval, mean_known


def normal(seed: int, count: int, mean: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(mean, 1.0, count)


def test_hearts_of_one_kind_are_hardly_ever_judged_otherwise() -> None:
    for judge in (
        lambda s: two_sided_test("x", normal(s, 17), normal(s + 1000, 64), normal(s + 2000, 17), comparisons=5),
        lambda s: one_sided_test(
            "x", normal(s, 17), normal(s + 1000, 64), normal(s + 2000, 17), high_is_bad=True, comparisons=5
        ),
    ):
        verdicts = [judge(seed).judgement for seed in range(30)]
        assert verdicts.count("fail") == 0
        assert verdicts.count("warn") <= 2


@pytest.mark.parametrize("count", [12, 50])
def test_hearts_of_another_kind_are_told(count: int) -> None:
    far, real, held = normal(1, count, 2.5), normal(2, 64), normal(3, 17)
    assert two_sided_test("x", far, real, held, comparisons=5).judgement == "fail"
    assert one_sided_test("x", far, real, held, high_is_bad=True, comparisons=5).judgement == "fail"
    better = one_sided_test("x", far, real, held, high_is_bad=False, comparisons=5)
    assert better.judgement == "pass"


def test_a_large_cohort_that_differs_by_little_passes() -> None:
    slightly = normal(1, 2000, 0.2)
    result = two_sided_test("x", slightly, normal(2, 2000), normal(3, 17))
    assert result.judgement == "pass"
    assert result.count == 17  # the smaller set decides


def test_the_distance_of_shifted_samples_is_the_shift() -> None:
    distance, p = separation(np.arange(20.0), np.arange(20.0) + 7.0)
    assert distance == pytest.approx(7.0)
    assert p < 0.05


def test_few_hearts_are_not_judged() -> None:
    result = one_sided_test("x", np.array([1.0, np.nan, np.nan]), normal(0, 9), normal(0, 9), high_is_bad=True)
    assert result.value is None
    assert "only 1 generated" in result.missing


def test_means_are_of_what_is_known() -> None:
    values = np.array([[1.0, np.nan], [3.0, 5.0], [np.nan, np.nan]])
    np.testing.assert_array_equal(mean_known(values, axis=1), [1.0, 4.0, np.nan])
    low, high = mean_interval(normal(0, 400, 10.0))
    assert low < 10.0 < high
    assert high - low == pytest.approx(2 * 1.96 / 20, rel=0.2)
