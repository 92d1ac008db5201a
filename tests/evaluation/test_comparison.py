"""Distances of sets against closed forms, and the counts they are compared at."""

import numpy as np
import pytest
from scipy.linalg import sqrtm
from scipy.spatial.distance import cdist

from cinesynth.evaluation.comparison import Comparison
from cinesynth.evaluation.statistics import (
    frechet,
    kernel,
    manifolds,
    mmd2,
    mmd2_interval,
    neighbours,
    p_value,
)


def white(rng: np.random.Generator, count: int, size: int) -> np.ndarray:
    """Points whose mean is exactly 0 and whose covariance is exactly the identity."""
    points = rng.standard_normal((count, size))
    orthogonal, _ = np.linalg.qr(points - points.mean(axis=0))
    return orthogonal * np.sqrt(count - 1)


def pairwise(points: np.ndarray) -> np.ndarray:
    return cdist(points, points)


def test_frechet_of_two_known_gaussians() -> None:
    rng = np.random.default_rng(0)
    shift, a, b = np.array([1.0, -2.0, 0.5]), np.array([1.0, 2.0, 3.0]), np.array([0.5, 2.0, 4.0])
    x, y = white(rng, 40, 3) * a, white(rng, 25, 3) * b + shift
    assert frechet(x, y) == pytest.approx(np.sum(shift**2) + np.sum((a - b) ** 2), rel=1e-9)
    assert frechet(x, x[::-1]) == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("size", [4, 30])  # fewer and more features than points
def test_frechet_agrees_with_the_matrix_square_root(size: int) -> None:
    rng = np.random.default_rng(1)
    x, y = (rng.standard_normal((n, size)) @ rng.standard_normal((size, size)) + 0.3 for n in (12, 20))
    s, t = np.cov(x.T), np.cov(y.T)
    half = np.real(sqrtm(s))
    root = np.real(sqrtm(half @ t @ half))  # of a symmetric matrix, also where it is singular
    expected = np.sum((x.mean(axis=0) - y.mean(axis=0)) ** 2) + np.trace(s + t - 2 * root)
    assert frechet(x, y) == pytest.approx(expected, rel=1e-3)


def test_mmd_is_the_mean_over_pairs_that_are_no_heart_with_itself() -> None:
    points = np.random.default_rng(2).standard_normal((7, 3))
    gram, x, y = kernel(points), np.arange(3), np.arange(3, 7)
    within = [np.mean([gram[i, j] for i in s for j in s if i != j]) for s in (x, y)]
    assert mmd2(gram, x, y) == pytest.approx(sum(within) - 2 * gram[np.ix_(x, y)].mean())
    assert gram[0, 1] == pytest.approx((points[0] @ points[1] / 3 + 1) ** 3)


def test_mmd_of_one_distribution_is_zero_on_average() -> None:
    rng = np.random.default_rng(3)
    found = [mmd2(kernel(rng.standard_normal((24, 4))), np.arange(8), np.arange(8, 24)) for _ in range(600)]
    assert abs(np.mean(found)) < 3 * np.std(found) / np.sqrt(len(found))
    assert min(found) < 0  # unbiased: it has to fall below 0 as well


def test_the_interval_holds_zero_for_one_distribution_and_not_for_two() -> None:
    rng = np.random.default_rng(4)
    points = rng.standard_normal((60, 4))
    x, y = np.arange(20), np.arange(20, 60)
    low, high = mmd2_interval(kernel(points), x, y)
    assert low < 0 < high
    points[x] += 2.0
    low, high = mmd2_interval(kernel(points), x, y)
    assert 0 < low < mmd2(kernel(points), x, y) < high


def test_overlap_of_clusters() -> None:
    rng = np.random.default_rng(5)
    spot = rng.uniform(-1, 1, (40, 2))
    left, right = spot[:20], spot[20:] + 100
    points = np.concatenate([left, right, left + 1e-3, rng.uniform(-1, 1, (20, 2)) + 1e4])
    away, real = pairwise(points), np.arange(40)
    one_mode = manifolds(away, np.arange(40, 60), real, k=3)
    assert (one_mode.precision, one_mode.recall, one_mode.coverage) == (1.0, 0.5, 0.5)
    assert one_mode.density > 0.9
    elsewhere = manifolds(away, np.arange(60, 80), real, k=3)
    assert (elsewhere.precision, elsewhere.recall, elsewhere.density, elsewhere.coverage) == (0, 0, 0, 0)


@pytest.mark.parametrize(("count", "reference"), [(17, 55), (50, 50), (12, 80)])
def test_k_gives_the_coverage_that_was_meant(count: int, reference: int) -> None:
    rng, k = np.random.default_rng(6), neighbours(count, reference)
    sets = np.arange(count), np.arange(count, count + reference)
    found = [manifolds(pairwise(rng.standard_normal((count + reference, 3))), *sets, k).coverage for _ in range(40)]
    assert 0.9 - 0.03 < np.mean(found) < 0.98


# --- comparisons -----------------------------------------------------------------------------------------------------


def test_sets_are_compared_at_equal_counts() -> None:
    sets = Comparison(train=30, held_out=7, synthetic=20)
    assert sets.count == 7
    for group, first, size in (("held_out", 30, 7), ("synthetic", 37, 20)):
        drawn = sets.groups(group)
        assert all(len(g) == 7 and len(set(g)) == 7 and g.min() >= first and g.max() < first + size for g in drawn)
    small, large = sets.divisions[0]
    assert sorted([*small, *large]) == list(range(37))
    assert len(small) == 7
    assert "7 of 20 generated and 7 of 7 held-out against 30 train" in sets.describe()


def difference_of_means(values: np.ndarray):
    return lambda x, y: float(values[x].mean() - values[y].mean())


def test_people_pass_and_others_do_not() -> None:
    sets, rng = Comparison(40, 10, 30), np.random.default_rng(7)
    values = rng.standard_normal(80)
    found = sets.metric("x", difference_of_means(values), "both")
    assert (found.judgement, found.count) == ("pass", 10)
    assert found.floor == pytest.approx(values[40:50].mean() - values[:40].mean())
    values[50:] += 2.0
    assert sets.metric("x", difference_of_means(values), "high").judgement == "fail"
    assert sets.metric("x", difference_of_means(values), "low").judgement == "pass"


def test_what_is_too_few_is_said() -> None:
    found = Comparison(40, 3, 30).metric("x", lambda x, y: 0.0, "high")
    assert (found.value, found.judgement) == (None, None)
    assert "only 3 held-out" in found.missing


def test_p_values_count_the_value_itself() -> None:
    real = np.arange(999.0)
    assert p_value(2000.0, real, "high") == p_value(-1.0, real, "low") == pytest.approx(0.001)
    assert p_value(2000.0, real, "both") == pytest.approx(0.002)
    assert p_value(500.0, real, "both") == pytest.approx(1.0, abs=0.01)
    assert p_value(0.0, np.zeros(999), "low") == 1.0  # ties are no evidence
