"""How far apart two sets of points are: Frechet distance, MMD, and what of one lies within the other.

Sets are ``N D`` arrays, or index arrays into a square matrix over all points: then a thousand permutations cost a
thousand look-ups.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

Points = NDArray[np.float64]
Indices = NDArray[np.intp]

KERNEL_DEGREE = 3
BOOTSTRAPS = 1000
NEIGHBOURS = 3
"""k of precision and recall (Kynkaanniemi et al., 2019)."""
COVERED = 0.9
"""Coverage that two sets of one distribution should reach: it decides k (Naeem et al., 2020)."""


def frechet(x: Points, y: Points) -> float:
    """Frechet distance of the Gaussians fitted to two sets: ``|mx - my|^2 + tr(Sx + Sy - 2 (Sx Sy)^(1/2))``.

    With centred points ``A`` and ``B``, the eigenvalues of ``Sx Sy`` are the squared singular values of ``A B^T`` over
    ``(n - 1)(m - 1)``: exact for any dimension, also where it exceeds the counts, and no complex square root.
    """
    a, b = x - x.mean(axis=0), y - y.mean(axis=0)
    n, m = len(x) - 1, len(y) - 1
    shared = np.linalg.svd(a @ b.T, compute_uv=False).sum() / np.sqrt(n * m)
    spread = (a**2).sum() / n + (b**2).sum() / m
    return float(((x.mean(axis=0) - y.mean(axis=0)) ** 2).sum() + spread - 2 * shared)


def kernel(points: Points) -> Points:
    """The polynomial kernel of KID (Binkowski et al., 2018), ``(x.y / D + 1)^3``, of all pairs: ``N N``."""
    return np.asarray((points @ points.T / points.shape[1] + 1.0) ** KERNEL_DEGREE)


def mmd2(gram: Points, x: Indices, y: Indices) -> float:
    """Unbiased squared maximum mean discrepancy of two sets of places in ``gram``; 0 on average if they are alike."""
    return _weighted_mmd2(gram[np.ix_(x, x)], gram[np.ix_(y, y)], gram[np.ix_(x, y)], np.ones(len(x)), np.ones(len(y)))


def mmd2_interval(gram: Points, x: Indices, y: Indices, seed: int = 0) -> tuple[float, float]:
    """Bootstrap interval of 95 % of `mmd2`. A heart drawn twice is not a pair: it would feign likeness."""
    rng = np.random.default_rng(seed)
    xx, yy, xy = gram[np.ix_(x, x)], gram[np.ix_(y, y)], gram[np.ix_(x, y)]
    drawn = [_weighted_mmd2(xx, yy, xy, _weights(rng, len(x)), _weights(rng, len(y))) for _ in range(BOOTSTRAPS)]
    low, high = np.percentile(drawn, (2.5, 97.5))
    return float(low), float(high)


def _weights(rng: np.random.Generator, count: int) -> NDArray[np.float64]:
    """How often each of ``count`` things is drawn with replacement; at least two of them are."""
    while True:
        weights = np.bincount(rng.integers(count, size=count), minlength=count).astype(np.float64)
        if (weights > 0).sum() > 1:
            return weights


def _weighted_mmd2(xx: Points, yy: Points, xy: Points, u: NDArray[np.float64], v: NDArray[np.float64]) -> float:
    within = [
        (w @ square @ w - w**2 @ np.diag(square)) / (w.sum() ** 2 - (w**2).sum()) for square, w in ((xx, u), (yy, v))
    ]
    return float(sum(within) - 2 * (u @ xy @ v) / (u.sum() * v.sum()))


def distances(points: Points) -> Points:
    """Euclidean distances of all pairs, ``N N``."""
    return np.asarray(cdist(points, points))


@dataclass(frozen=True)
class Overlap:
    """Precision, recall (Kynkaanniemi et al., 2019), density and coverage (Naeem et al., 2020)."""

    precision: float
    recall: float
    density: float
    coverage: float


def overlap(away: Points, x: Indices, y: Indices, k: int) -> Overlap:
    """How the set ``x`` lies in the real set ``y``, both places in the distances ``away``.

    Precision and recall use `NEIGHBOURS`, density and coverage ``k``; `InputError` is the caller's: both sets must
    have more members than neighbours.
    """
    between = away[np.ix_(x, y)]  # x y
    near_y, near_x = _radius(away, y, NEIGHBOURS), _radius(away, x, NEIGHBOURS)
    balls = between <= _radius(away, y, k)
    return Overlap(
        precision=float((between <= near_y).any(axis=1).mean()),
        recall=float((between <= near_x[:, None]).any(axis=0).mean()),
        density=float(balls.sum() / (k * len(x))),
        coverage=float(balls.any(axis=0).mean()),
    )


def _radius(away: Points, places: Indices, k: int) -> NDArray[np.float64]:
    """Distance of each member of a set to its k-th neighbour in it, itself not counted."""
    return np.asarray(np.partition(away[np.ix_(places, places)], k, axis=1)[:, k])


def neighbours(count: int, reference: int) -> int:
    """The smallest k at which ``count`` points of the reference's own distribution are expected to cover `COVERED`
    of ``reference`` others; at least `NEIGHBOURS`, at most a third of them."""
    missed = 1.0
    for k in range(1, max(reference // 3, NEIGHBOURS) + 1):
        missed *= (reference - k) / (count + reference - k)
        if k >= NEIGHBOURS and 1.0 - missed >= COVERED:
            return k
    return max(reference // 3, NEIGHBOURS)
