"""Near-duplicates: the same person under two names in a dataset, perhaps in two splits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy
from numpy.typing import NDArray

from cinesynth.data.phantom import PHANTOM
from cinesynth.types import FloatArray, Study

SIDE = 24
"""Edge length of a sketch in pixels."""


class DuplicatePair(NamedTuple):
    """Two studies, by their index in a list, that show the same images."""

    first: int
    second: int
    correlation: float


def sketch(study: Study) -> FloatArray:
    """The slices at ED, averaged to ``Z SIDE SIDE`` and normalised to mean 0 and norm 1; uniform slices are 0.

    Phantoms may look alike without being one person: their sketch has no slices.
    """
    if study.dataset == PHANTOM:
        return np.zeros((0, SIDE, SIDE), dtype=np.float32)
    return thumbnails(study.image[np.flatnonzero(study.frame_index == study.ed_index)[0]])


def thumbnails(volume: NDArray[Any]) -> FloatArray:
    """The slices of ``volume`` ``X Y Z``, averaged to ``Z SIDE SIDE``, with mean 0 and norm 1; uniform ones are 0."""
    averages = []
    for size in volume.shape[:2]:  # weights SIDE size that average a row of pixels over SIDE equal parts
        edges, pixels = np.linspace(0, size, SIDE + 1)[:, None], np.arange(size)
        shared = np.clip(np.minimum(edges[1:], pixels + 1) - np.maximum(edges[:-1], pixels), 0.0, None)
        averages.append(shared / shared.sum(axis=1, keepdims=True))
    x, y = averages
    small = np.einsum("ax,xyz,by->zab", x, volume.astype(np.float64), y, optimize=True)
    small -= small.mean(axis=(1, 2), keepdims=True)
    length = np.linalg.norm(small, axis=(1, 2), keepdims=True)
    return np.asarray(small / np.where(length > 1e-9, length, np.inf), dtype=np.float32)


def find_duplicates(sketches: Sequence[FloatArray], min_correlation: float = 0.95) -> list[DuplicatePair]:
    """All pairs of studies whose slices correlate, however each stack is rotated, ordered, scaled or shortened.

    Rescaled or rotated copies correlate by 0.9997; the most similar of 171 persons in five datasets by 0.78.
    """
    seen = [number for number, one in enumerate(sketches) if len(one)]
    if len(seen) < 2:
        return []
    sizes = np.array([len(sketches[number]) for number in seen])
    slices = np.concatenate([sketches[number] for number in seen]).reshape(sizes.sum(), -1)  # of all studies
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    found: list[DuplicatePair] = []
    for i, first in enumerate(seen[:-1]):
        later = starts[i + 1]
        best = _correlations(sketches[first], slices[later:], starts[i + 1 :] - later)
        alike = np.flatnonzero(best >= min_correlation).tolist()
        found += [DuplicatePair(first, seen[i + 1 + j], float(best[j])) for j in alike]
    return found


def group_by_person(sketches: Sequence[FloatArray]) -> list[int]:
    """The number of the person behind each study: duplicates, and duplicates of duplicates, share one."""
    pairs = [(pair.first, pair.second) for pair in find_duplicates(sketches)]
    first, second = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    graph = scipy.sparse.coo_array((np.ones(len(pairs)), (first, second)), shape=(len(sketches), len(sketches)))
    return [int(person) for person in scipy.sparse.csgraph.connected_components(graph, directed=False)[1]]


def _correlations(one: FloatArray, slices: FloatArray, starts: NDArray[np.int_]) -> NDArray[np.float64]:
    """Correlation of a sketch ``Z SIDE SIDE`` with each stack that begins at ``starts`` in ``slices``.

    Each slice of the shorter stack is compared with its best match in the other, and the mean is taken; of the eight
    in-plane orientations the best counts.
    """
    sizes = np.diff([*starts, len(slices)])
    turns = [plane[:, ::x, ::y] for plane in (one, one.transpose(0, 2, 1)) for x in (1, -1) for y in (1, -1)]
    results = []
    for turned in turns:  # rows and columns exchanged and reversed
        match = np.ascontiguousarray(turned).reshape(len(one), -1) @ slices.T  # slices of one, slices of all others
        mine = np.maximum.reduceat(match, starts, axis=1).mean(axis=0)
        theirs = np.add.reduceat(match.max(axis=0), starts) / sizes
        results.append(np.where(sizes < len(one), theirs, mine))
    return np.asarray(np.max(results, axis=0), dtype=np.float64)
