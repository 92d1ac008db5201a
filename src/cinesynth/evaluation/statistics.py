"""Bootstrap intervals, permutation p-values and distances between sets of points: their only home."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Numbers = NDArray[np.float32] | NDArray[np.float64]
Points = NDArray[np.float64]
"""``N D``, or a matrix over all pairs of points, ``N N``."""
Indices = NDArray[np.intp]
"""Members of a set, by their position among all points."""
Tail = Literal["high", "low", "both"]


def known(values: Numbers) -> NDArray[np.float64]:
    """The numbers that are not NaN."""
    return np.asarray(values[np.isfinite(values)], dtype=np.float64)


def mean_known(values: Numbers, axis: int) -> NDArray[np.float64]:
    """Mean along an axis of what is known; NaN where nothing is."""
    finite = np.isfinite(values)
    total = np.where(finite, values, 0.0).sum(axis=axis, dtype=np.float64)
    return np.asarray(np.where(finite.any(axis=axis), total / np.maximum(finite.sum(axis=axis), 1), np.nan))


# --- Bootstrap intervals ---------------------------------------------------------------------------------------------


def bootstrap_interval(
    statistic: Callable[..., NDArray[np.float64]], *paired: NDArray[np.float64], resamples: int = 999
) -> tuple[float, float] | None:
    """95 % percentile interval of ``statistic(*paired, axis)`` over hearts; None where most resamples have no value."""
    if len(paired[0]) < 2:  # scipy refuses it; every resample is the sample itself
        resampled = np.atleast_1d(statistic(*(sample[None] for sample in paired), axis=-1))
    else:
        resampled = stats.bootstrap(
            paired,
            statistic,
            n_resamples=resamples,
            method="percentile",
            paired=len(paired) > 1,
            vectorized=True,
            rng=np.random.default_rng(0),
        ).bootstrap_distribution
    finite = resampled[np.isfinite(resampled)]
    return _interval(finite) if 2 * len(finite) >= len(resampled) - 1 and len(finite) else None


def mean_interval(values: Numbers) -> tuple[float, float]:
    """95 % bootstrap interval of the mean of what is known; something must be."""
    low_high = bootstrap_interval(np.mean, known(values))
    assert low_high is not None
    return low_high


def crossed_interval(values: NDArray[np.float64], resamples: int = 5000) -> tuple[float, float]:
    """95 % bootstrap interval of the mean of ``A B`` values, where both factors are random.

    Each resample draws rows and, independently, columns with replacement, which `scipy.stats.bootstrap` cannot.
    """
    rng = np.random.default_rng(0)
    rows, columns = (
        rng.multinomial(n, np.full(n, 1.0 / n), size=resamples).astype(np.float64) / n for n in values.shape
    )
    return _interval(np.einsum("ra,ab,rb->r", rows, values, columns))


def _interval(resampled: NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.percentile(resampled, (2.5, 97.5))
    return float(low), float(high)


# --- Permutations ----------------------------------------------------------------------------------------------------


def permutations(count: int, number: int = 999) -> list[Indices]:
    """Random orders of ``count`` hearts.

    Not `scipy.stats.permutation_test`: several statistics share one set of orders (and what was computed for it), and
    small sets are judged by the same number of orders as large ones.
    """
    rng = np.random.default_rng(0)
    return [rng.permutation(count) for _ in range(number)]


def p_value(value: float, null: NDArray[np.float64], tail: Tail) -> float:
    """Share of permutations at least as extreme as ``value``, itself counted; the smaller tail twice for ``both``."""
    slack = 1e-9 * max(1.0, abs(value))  # rounding decides no tie
    above = (1 + (null >= value - slack).sum()) / (1 + len(null))
    below = (1 + (null <= value + slack).sum()) / (1 + len(null))
    return float({"high": above, "low": below, "both": min(1.0, 2 * min(above, below))}[tail])


# --- Distances between two sets of points ----------------------------------------------------------------------------
# Sets are points, or positions in a matrix over all points: a thousand permutations then cost a thousand look-ups.


NEIGHBOURS = 3
"""k of precision and recall (Kynkaanniemi et al., 2019)."""


def frechet(x: Points, y: Points) -> float:
    """Frechet distance of the Gaussians fitted to two sets: ``|mx - my|^2 + tr(Sx + Sy - 2 (Sx Sy)^(1/2))``.

    With centred points ``A`` and ``B``, the eigenvalues of ``Sx Sy`` are the squared singular values of ``A B^T`` over
    ``(n - 1)(m - 1)``: exact for any dimension, also where it exceeds the counts, and no complex square root.
    """
    a, b = x - x.mean(axis=0), y - y.mean(axis=0)
    n, m = len(x) - 1, len(y) - 1
    shared = np.linalg.svd(a @ b.T, compute_uv=False).sum() / np.sqrt(n * m)
    traces = (a**2).sum() / n + (b**2).sum() / m
    return float(((x.mean(axis=0) - y.mean(axis=0)) ** 2).sum() + traces - 2 * shared)


def kernel(points: Points) -> Points:
    """The polynomial kernel of KID (Binkowski et al., 2018), ``(x.y / D + 1)^3``, of all pairs: ``N N``."""
    return np.asarray((points @ points.T / points.shape[1] + 1.0) ** 3)


def mmd2(gram: Points, x: Indices, y: Indices) -> float:
    """Unbiased squared maximum mean discrepancy of two sets of positions in ``gram``; 0 on average if they are of one
    distribution."""
    return _weighted_mmd2(gram[np.ix_(x, x)], gram[np.ix_(y, y)], gram[np.ix_(x, y)], np.ones(len(x)), np.ones(len(y)))


def mmd2_interval(gram: Points, x: Indices, y: Indices, resamples: int = 1000) -> tuple[float, float]:
    """Bootstrap interval of 95 % of `mmd2`. Two draws of one heart are no pair: they would add similarity.

    Not `scipy.stats.bootstrap`, for which two draws of one heart are two hearts. A resample of a single heart has no
    value and is drawn again.
    """
    rng, squares = np.random.default_rng(0), (gram[np.ix_(x, x)], gram[np.ix_(y, y)], gram[np.ix_(x, y)])

    def times_drawn(count: int) -> NDArray[np.float64]:
        weights = np.zeros(count)
        while (weights > 0).sum() < 2:
            weights = np.bincount(rng.integers(count, size=count), minlength=count).astype(np.float64)
        return weights

    drawn = ((times_drawn(len(x)), times_drawn(len(y))) for _ in range(resamples))
    return _interval(np.array([_weighted_mmd2(*squares, *weights) for weights in drawn]))


def _weighted_mmd2(xx: Points, yy: Points, xy: Points, u: NDArray[np.float64], v: NDArray[np.float64]) -> float:
    within = [
        (w @ square @ w - w**2 @ np.diag(square)) / (w.sum() ** 2 - (w**2).sum()) for square, w in ((xx, u), (yy, v))
    ]
    return float(sum(within) - 2 * (u @ xy @ v) / (u.sum() * v.sum()))


@dataclass(frozen=True)
class Manifolds:
    """Precision, recall (Kynkaanniemi et al., 2019), density and coverage (Naeem et al., 2020)."""

    precision: float
    recall: float
    density: float
    coverage: float


def manifolds(away: Points, x: Indices, y: Indices, k: int) -> Manifolds:
    """How the set ``x`` lies in the real set ``y``, both positions in the Euclidean distances ``away`` (``N N``).

    Precision and recall use `NEIGHBOURS`, density and coverage ``k``. Both sets must have more members than neighbours.
    """
    between = away[np.ix_(x, y)]  # x y
    near_y, near_x = _radius(away, y, NEIGHBOURS), _radius(away, x, NEIGHBOURS)
    balls = between <= _radius(away, y, k)
    return Manifolds(
        precision=float((between <= near_y).any(axis=1).mean()),
        recall=float((between <= near_x[:, None]).any(axis=0).mean()),
        density=float(balls.sum() / (k * len(x))),
        coverage=float(balls.any(axis=0).mean()),
    )


def _radius(away: Points, places: Indices, k: int) -> NDArray[np.float64]:
    """Distance of each member of a set to its k-th nearest other member."""
    return np.asarray(np.partition(away[np.ix_(places, places)], k, axis=1)[:, k])


def neighbours(count: int, reference: int, covered: float = 0.9) -> int:
    """The k of density and coverage (Naeem et al., 2020): the smallest at which ``count`` points of the reference's own
    distribution are expected to cover a fraction ``covered`` of ``reference`` others; at least `NEIGHBOURS`, at most a
    third of them."""
    missed = 1.0
    for k in range(1, max(reference // 3, NEIGHBOURS) + 1):
        missed *= (reference - k) / (count + reference - k)
        if k >= NEIGHBOURS and 1.0 - missed >= covered:
            return k
    return max(reference // 3, NEIGHBOURS)
