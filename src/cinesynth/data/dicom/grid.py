"""Places of parallel slices along their normal: which are evenly spaced, and what lies between or beyond them."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cinesynth.data.nifti import SLICE_STEP_MM
from cinesynth.physiology import SLICE_RANGE

Places = NDArray[np.float64]
"""Of slices along their normal in mm, ascending."""

SAME_PLACE_MM = 1.0  # images closer than this show the same slice
IN_LINE_MM = 2.0  # slices whose corner is farther from the common line were shifted in the plane
UNEVEN = 0.1  # largest relative deviation of a slice step from the median
COMPLETE = 0.75  # smallest fraction of slices left after cutting uneven ends; less means a gap in the heart
AS_LONG = 0.6  # slices of a second stack in the plane, relative to those of the first
OVERLAP = 1.5  # slices this many times as thick as their step are of two stacks


class Run(NamedTuple):
    """The longest evenly spaced run of slices; indices into those in line."""

    in_line: NDArray[np.bool_]  # not shifted in the plane against the others
    start: int
    stop: int
    steps_mm: Places  # between slices in line
    step_mm: float

    @property
    def slices(self) -> int:
        """Number of slices of the run if it has no gap in the heart, otherwise 0."""
        count = self.stop - self.start
        low, high = SLICE_STEP_MM
        return (
            count if count >= max(SLICE_RANGE[0], COMPLETE * self.in_line.sum()) and low <= self.step_mm <= high else 0
        )


def longest_run(corners: NDArray[np.float64], orientation: NDArray[np.float64]) -> Run:
    """Of ``corners`` ``N 3`` in mm, ordered along the normal; ``orientation`` ``2 3`` are the axes of the plane."""
    along, plane = corners @ np.cross(*orientation), corners @ orientation.T
    gaps = np.diff(along)
    apart = gaps > SAME_PLACE_MM
    # The line through all corners is fitted by medians, so that a few shifted slices do not move it.
    slope = np.median(np.diff(plane, axis=0)[apart] / gaps[apart, None], axis=0) if apart.any() else np.zeros(2)
    rest = plane - along[:, None] * slope
    in_line = np.linalg.norm(rest - np.median(rest, axis=0), axis=1) <= IN_LINE_MM
    steps = np.diff(along[in_line])
    typical = float(np.median(steps)) if len(steps) else 0.0
    breaks = np.flatnonzero(np.abs(steps - typical) > UNEVEN * typical)
    edges = [0, *(int(b) + 1 for b in breaks), len(steps) + 1]
    start, stop = max(itertools.pairwise(edges), key=lambda edge: edge[1] - edge[0])
    return Run(in_line, start, stop, steps, typical)


def stacks_among(
    along: Places, stated_mm: float | None, thickness_mm: float | None
) -> tuple[list[list[int]], list[int]]:
    """Indices of each evenly spaced stack among places in one direction, and of the strays between their slices.

    ``stated_mm`` is the step that headers state: a row of half that step is two stacks, taken half a step apart.
    ``thickness_mm`` tells the same where slices would overlap; None where the slices belong together by their series.
    One stack of all places if there is none that leaves few strays, for then slices may be missing.
    """
    everything = list(range(len(along)))
    if len(along) <= SLICE_RANGE[0]:
        return [everything], []
    steps = np.diff(along)
    typical = float(np.median(steps))
    cells = (along - along[0]) / typical if typical > 0 else along
    if typical > 0 and np.abs(cells - np.rint(cells)).max() <= UNEVEN and COMPLETE * (cells[-1] + 1) <= len(along):
        count = _stacks_by_step(typical, stated_mm, thickness_mm)
        parts = [[i for i in everything if round(cells[i]) % count == part] for part in range(count)]
        return (parts if min(map(len, parts)) >= SLICE_RANGE[0] else [everything]), []
    stacks, strays = _rows(along)
    few = len(strays) <= (1 - COMPLETE) * len(along)
    return (stacks, strays) if stacks and few else ([everything], [])


def _stacks_by_step(step_mm: float, stated_mm: float | None, thickness_mm: float | None) -> int:
    """How many stacks, shifted against each other, make up an even row of slices."""
    if stated_mm and (count := round(stated_mm / step_mm)) in (2, 3) and abs(stated_mm / step_mm / count - 1) < UNEVEN:
        return count
    return 2 if not stated_mm and thickness_mm and thickness_mm > OVERLAP * step_mm else 1


def _rows(along: Places) -> tuple[list[list[int]], list[int]]:
    """The longest even row, others of the same step about as long, and the indices in none of them."""
    left = list(range(len(along)))
    stacks: list[list[int]] = []
    step = None
    while len(left) >= SLICE_RANGE[0]:
        row = _longest_row(along, left, step)
        if len(row) < max(SLICE_RANGE[0], AS_LONG * len(stacks[0]) if stacks else 0):
            break
        stacks.append(row)
        step = float(np.median(np.diff(along[row])))
        left = [i for i in left if i not in row]
    return stacks, left


def _longest_row(along: Places, among: list[int], step: float | None) -> list[int]:
    best: list[int] = []
    for n, i in enumerate(among):
        for j in among[n + 1 : n + 6]:
            size = float(along[j] - along[i])
            fits = SLICE_STEP_MM[0] <= size <= SLICE_STEP_MM[1] and (step is None or abs(size / step - 1) <= UNEVEN)
            row = _row(along, among, i, size) if fits else []
            best = max(best, row, key=len)  # of rows as long, that of the smallest step comes first
    return best


def _row(along: Places, among: list[int], start: int, step: float) -> list[int]:
    row = [start]
    while True:
        gap = np.abs(along[among] - along[row[-1]] - step)
        nearest = int(gap.argmin())
        if gap[nearest] > UNEVEN * step or among[nearest] <= row[-1]:
            return row
        row.append(among[nearest])


def cell_of(along: Places, other: float, step_mm: float) -> int | None:
    """The cell of the grid of ``along`` in which another slice lies, from 0; None if it lies between two."""
    cell = (other - float(along[0])) / step_mm
    return round(cell) if abs(cell - round(cell)) <= UNEVEN else None
