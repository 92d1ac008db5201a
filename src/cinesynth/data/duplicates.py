"""The same images under two names: one person twice in a dataset, and perhaps on both sides of a split."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from cinesynth.data.phantom import PHANTOM
from cinesynth.types import FloatArray, Study

SIDE = 24
"""Pixels of a sketch along each edge."""
ALIKE = 0.95
"""Smallest correlation of twins. Copies that were rescaled or turned have 0.9997; 171 hearts of five datasets, 0.78."""


@dataclass(frozen=True)
class Twins:
    """Two studies, by their place in the list, that show the same images."""

    first: int
    second: int
    correlation: float


def sketch(study: Study) -> FloatArray:
    """The slices of ED as ``Z SIDE SIDE`` with mean 0 and length 1; flat ones are 0.

    Analytic hearts, which are nobody's and may look alike, have no slices.
    """
    if study.dataset == PHANTOM:
        return np.zeros((0, SIDE, SIDE), dtype=np.float32)
    volume = study.image[np.flatnonzero(study.frame_index == study.ed_index)[0]].astype(np.float64)  # X Y Z
    x, y = (_averages(size) for size in volume.shape[:2])
    small = np.einsum("ax,xyz,by->zab", x, volume, y, optimize=True)
    small -= small.mean(axis=(1, 2), keepdims=True)
    length = np.linalg.norm(small, axis=(1, 2), keepdims=True)
    return np.asarray(small / np.where(length > 1e-9, length, np.inf), dtype=np.float32)


def find_twins(sketches: Sequence[FloatArray]) -> list[Twins]:
    """All pairs whose slices look alike, however each stack is turned, ordered, scaled or cut short."""
    seen = [number for number, one in enumerate(sketches) if len(one)]
    if len(seen) < 2:
        return []
    sizes = np.array([len(sketches[number]) for number in seen])
    slices = np.concatenate([sketches[number] for number in seen]).reshape(sizes.sum(), -1)  # of all studies
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    found: list[Twins] = []
    for i, first in enumerate(seen[:-1]):
        later = starts[i + 1]
        best = _likeness(sketches[first], slices[later:], starts[i + 1 :] - later)
        found += [Twins(first, seen[i + 1 + j], float(best[j])) for j in np.flatnonzero(best >= ALIKE).tolist()]
    return found


def one_person(sketches: Sequence[FloatArray]) -> list[int]:
    """The number of the person behind each study: that of twins, and of twins of twins, is one."""
    pairs = [(twins.first, twins.second) for twins in find_twins(sketches)]
    first, second = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    graph = coo_array((np.ones(len(pairs)), (first, second)), shape=(len(sketches), len(sketches)))
    return [int(person) for person in connected_components(graph, directed=False)[1]]


def _likeness(one: FloatArray, slices: FloatArray, starts: NDArray[np.int_]) -> NDArray[np.float64]:
    """Mean correlation with each stack in ``slices``, over the slices of the shorter of the two, of the best turn."""
    sizes = np.diff([*starts, len(slices)])
    results = []
    for turned in _turns(one):
        match = turned.reshape(len(one), -1) @ slices.T
        mine = np.maximum.reduceat(match, starts, axis=1).mean(axis=0)
        theirs = np.add.reduceat(match.max(axis=0), starts) / sizes
        results.append(np.where(sizes < len(one), theirs, mine))
    return np.asarray(np.max(results, axis=0), dtype=np.float64)


def _turns(one: FloatArray) -> Iterator[FloatArray]:
    """The eight ways in which rows and columns can be exchanged and reversed."""
    for plane in (one, one.transpose(0, 2, 1)):
        for x in (1, -1):
            for y in (1, -1):
                yield np.ascontiguousarray(plane[:, ::x, ::y])


def _averages(size: int) -> NDArray[np.float64]:
    """Weights ``SIDE size`` that average a row of pixels over equal parts of it."""
    edges, pixels = np.linspace(0, size, SIDE + 1)[:, None], np.arange(size)
    shared = np.clip(np.minimum(edges[1:], pixels + 1) - np.maximum(edges[:-1], pixels), 0.0, None)
    return np.asarray(shared / shared.sum(axis=1, keepdims=True), dtype=np.float64)
