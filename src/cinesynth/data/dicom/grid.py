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
MANY = 0.62  # smallest fraction of a row of smaller steps that is filled where slices of it were lost
SAME_CELL = 0.05  # largest distance of a slice from a grid that it belongs to, in steps
MOST_PLACES = 60  # among which stacks are looked for; more are no examination
NEAR = 5  # places to the next slice of a stack, and cells that holes may be long
OVERLAP = 1.5  # slices this many times as thick as their step are of two stacks


class Run(NamedTuple):
    """The longest evenly spaced run of slices; indices into those in line."""

    in_line: NDArray[np.bool_]  # not shifted in the plane against the others
    start: int
    stop: int
    steps_mm: Places  # between slices in line
    step_mm: float
    missing: bool  # slices were lost, so that steps of two sizes are left

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
    return Run(in_line, start, stop, steps, typical, typical > 0 and slices_missing(along[in_line], typical))


def stacks_among(
    along: Places, stated_mm: float | None, thickness_mm: float | None
) -> tuple[list[list[int]], list[int]]:
    """Indices of each evenly spaced stack among places in one direction, and of the strays between their slices.

    ``stated_mm`` is the step that headers state: a row of half that step is two stacks, taken half a step apart.
    ``thickness_mm`` tells the same where slices would overlap; None where the slices belong together by their series.
    Stacks may have holes. One stack of all places if too many would be strays.
    """
    everything = list(range(len(along)))
    if not SLICE_RANGE[0] < len(along) <= MOST_PLACES or (grid := _best_grid(along)) is None:
        return [everything], []
    step, origin = grid
    if slices_missing(along, step):
        return [everything], []
    cells = (along - origin) / step
    on_grid = np.abs(cells - np.rint(cells)) <= SAME_CELL
    first = np.flatnonzero(on_grid).tolist()
    count = _stacks_by_step(step, stated_mm, thickness_mm)
    parts = [[i for i in first if round(cells[i]) % count == part] for part in range(count)]
    stacks = parts if min(map(len, parts)) >= SLICE_RANGE[0] else [first]
    # What is left lies between: another stack of the same step, shifted, or strays.
    shifted: list[list[int]] = []
    for i in np.flatnonzero(~on_grid).tolist():
        home = next((row for row in shifted if cell_of(along[row], float(along[i]), step) is not None), None)
        if home is None:
            shifted.append([i])
        else:
            home.append(i)
    stacks += [row for row in shifted if len(row) >= SLICE_RANGE[0]]
    strays = [i for row in shifted if len(row) < SLICE_RANGE[0] for i in row]
    few = len(strays) <= (1 - COMPLETE) * len(along)
    return (stacks, strays) if few else ([everything], [])


def _stacks_by_step(step_mm: float, stated_mm: float | None, thickness_mm: float | None) -> int:
    """How many stacks, shifted against each other, make up an even row of slices."""
    if stated_mm and (count := round(stated_mm / step_mm)) in (2, 3) and abs(stated_mm / step_mm / count - 1) < UNEVEN:
        return count
    return 2 if not stated_mm and thickness_mm and thickness_mm > OVERLAP * step_mm else 1


def _best_grid(along: Places) -> tuple[float, float] | None:
    """Step and origin of the grid on which most places lie, of which few cells are empty; the fuller of two."""
    best, most = None, (0, 0.0)
    for i, start in enumerate(along.tolist()):
        for end in along[i + 1 : i + NEAR].tolist():
            for step in ((end - start) / part for part in range(1, NEAR)):
                if SLICE_STEP_MM[0] <= step <= SLICE_STEP_MM[1]:
                    cells = (along - start) / step
                    on_grid = np.rint(cells[np.abs(cells - np.rint(cells)) <= SAME_CELL])
                    if (score := _filled(on_grid)) > most and score[0] >= SLICE_RANGE[0]:
                        best, most = (step, start), score
    return best


def _filled(cells: Places) -> tuple[int, float]:
    """The number of cells in a row of which few are empty, and the fraction that is filled."""
    row = sorted(set(cells.tolist()))
    while len(row) < COMPLETE * (row[-1] - row[0] + 1):
        row = row[1:] if row[1] - row[0] >= row[-1] - row[-2] else row[:-1]
    return len(row), len(row) / (row[-1] - row[0] + 1)


def slices_missing(along: Places, step_mm: float) -> bool:
    """Whether all slices lie in a row of a half or a third of ``step_mm`` and fill most of it: some were lost.

    Not if they are whole stacks of ``step_mm``, shifted against each other.
    """
    for part in (2, 3):
        cells = (along - along[0]) / step_mm * part
        row = np.rint(cells)
        if np.abs(cells - row).max() > UNEVEN or not (row % part).any() or len(row) < MANY * (row[-1] + 1):
            continue
        shifted = [int((row % part == phase).sum()) for phase in range(part)]
        if any(0 < count < COMPLETE * len(range(phase, int(row[-1]) + 1, part)) for phase, count in enumerate(shifted)):
            return True
    return False


def step_of(along: Places) -> float | None:
    """The step of a stack, which may have holes; None if its slices are on no grid."""
    steps = np.diff(along)
    for step in (float(np.median(steps)), float(steps.min())):
        cells = (along - along[0]) / step if step > SAME_PLACE_MM else along
        if step > SAME_PLACE_MM and np.abs(cells - np.rint(cells)).max() <= UNEVEN:
            return step
    return None


def cell_of(along: Places, other: float, step_mm: float) -> int | None:
    """The cell of the grid of ``along`` in which another slice lies, from 0; None if it lies between two."""
    cell = (other - float(along[0])) / step_mm
    return round(cell) if abs(cell - round(cell)) <= SAME_CELL else None
