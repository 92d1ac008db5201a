"""How alike frames and slices are at low resolution: what belongs together resembles its neighbours."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def shrunk(image: NDArray[np.generic], side: int = 32) -> NDArray[np.float64]:
    """``T X Y Z`` at about ``side`` pixels, each the sum of four, every slice with mean 0 and norm 1 (0 if uniform)."""
    step = max(1, min(image.shape[1:3]) // side)
    x, y = (size // step * step for size in image.shape[1:3])
    starts = sorted({0, step // 2})
    exact = np.float32 if image.dtype.itemsize <= 2 else np.float64
    with np.errstate(over="ignore", invalid="ignore"):  # values that squares cannot hold are not compared
        small = np.asarray(sum(image[:, i:x:step, j:y:step].astype(exact) for i in starts for j in starts))
        small = small - small.mean(axis=(1, 2), keepdims=True)
        norm = np.sqrt(np.square(small).sum(axis=(1, 2), keepdims=True))
        small = small / np.where(norm > 1e-6, norm, np.inf)
    return np.asarray(np.nan_to_num(small, nan=0.0, posinf=0.0, neginf=0.0), dtype=np.float64)


def neighbours(small: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    """The correlation of each frame (``axis`` 0) or slice (3) with the next one; the last is followed by the first."""
    return correlation(small, np.roll(small, -1, axis), axis)


def correlation(one: NDArray[np.float64], other: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    """Correlation of two arrays of `shrunk` along ``axis`` (0: frames, 3: slices), averaged over the other of the two.

    Uniform slices are not compared; 1 where there is nothing to compare.
    """
    product = np.einsum("txyz,txyz->tz", one, other)
    seen = one.any(axis=(1, 2)) & other.any(axis=(1, 2))  # T Z
    over = 1 if axis == 0 else 0
    counts = seen.sum(axis=over)
    sums = np.where(seen, product, 0.0).sum(axis=over)
    return np.asarray(np.where(counts > 0, sums / np.maximum(counts, 1), 1.0), dtype=np.float64)


def interleaved_lead(small: NDArray[np.float64]) -> float:
    """By how much slices resemble their neighbours more if they are taken to be interleaved: 0, 2, 4, ..., 1, 3, ...

    Black slices are left out; 0 for fewer than five others.
    """
    seen = small[..., small.any(axis=(0, 1, 2))]
    count = seen.shape[3]
    if count < 5:
        return 0.0
    alike = np.einsum("txyz,txyw->zw", seen, seen) / len(seen)  # Z Z

    def together(order: NDArray[np.int64]) -> float:
        return float(alike[order[:-1], order[1:]].mean())

    even, odd = np.arange(0, count, 2), np.arange(1, count, 2)
    stored = [np.concatenate(halves) for halves in ((even, odd), (odd, even))]
    orders = [order for one in stored for order in (one, np.argsort(one))]
    return max(map(together, orders)) - together(np.arange(count))


def repeats_by_half(small: NDArray[np.float64]) -> float:
    """How much of what frames change in a quarter of their number they have changed back after half of it.

    1 and more in two equal beats; 0 and less in one, where frames half of it apart differ most.
    """
    count = len(small)
    next_one, quarter, *half = (
        float(correlation(small, np.roll(small, -n, 0), 0).mean())
        for n in (1, count // 4, count // 2 - 1, count // 2, count // 2 + 1)
    )
    return (max(half) - quarter) / max(next_one - quarter, 1e-6)
