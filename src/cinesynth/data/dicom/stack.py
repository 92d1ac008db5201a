"""Stacks: takes of parallel slices that were acquired together, built before any slice is taken from another one."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable
from functools import partial
from itertools import groupby
from typing import NamedTuple, TypeVar

import numpy as np

from cinesynth.data.dicom.grid import IN_LINE_MM, SAME_PLACE_MM, Run, cell_of, longest_run, stacks_among, step_of
from cinesynth.data.dicom.header import DicomFrame
from cinesynth.data.dicom.takes import Take, folder_of
from cinesynth.physiology import SLICE_RANGE

Key = TypeVar("Key", bound=Hashable)

PARALLEL = math.cos(math.radians(3.0))  # smallest cosine between image axes of one plane
WHOLE = 0.75  # phases of a repeated slice, relative to the others, and part of the heart beat that a take covers
REPEATED_MM = 0.5  # between a slice and the same slice, acquired again
SHEAR = 0.5  # in the plane from slice to slice, relative to their step; more is another stack
ECHO = 0.4  # largest difference of echo times of one kind, relative to the longer; tagging has 3 times it
SIMILAR = 0.75  # number of phases of two kinds of series that can be parts of one stack, the smaller to the larger


class Slice(NamedTuple):
    """One take at its place in a plane."""

    take: Take
    place: int  # number of the place among those of the plane
    along_mm: float


class Stack(NamedTuple):
    """Slices of different places, in their order along the normal."""

    slices: tuple[Slice, ...]
    own: tuple[Slice, ...]
    """What was acquired together; ``slices`` may hold others in their place, or beyond them."""

    @property
    def first(self) -> DicomFrame:
        """The first image of the first slice."""
        return self.slices[0].take.first

    @property
    def phases(self) -> int:
        """The most common number of phases."""
        counts = Counter(len(s.take.frames) for s in self.slices)
        return max(counts, key=lambda n: (counts[n], n))

    @property
    def run(self) -> Run:
        """Which of its slices are evenly spaced; those of few phases do not count."""
        used = [s.take.first for s in self.slices if 2 * len(s.take.frames) >= self.phases]
        return longest_run(np.array([f.position for f in used]), np.array(used[0].orientation).reshape(2, 3))


class Plane(NamedTuple):
    """All takes of parallel slices of one size: the stacks of three slices and more, and single slices."""

    slices: tuple[Slice, ...]
    stacks: tuple[Stack, ...]

    @property
    def places(self) -> int:
        """Number of places at which there is a cine."""
        return len({s.place for s in self.slices})


def together(
    frames: Iterable[DicomFrame], same: Callable[[DicomFrame, DicomFrame], bool], latest_first: bool = False
) -> list[list[DicomFrame]]:
    """Groups of frames: each joins the first group (or the latest) whose first frame is the same, or opens one."""
    groups: list[list[DicomFrame]] = []
    for frame in frames:
        home = next((group for group in (groups[::-1] if latest_first else groups) if same(group[0], frame)), None)
        if home is None:
            groups.append([frame])
        else:
            home.append(frame)
    return groups


def parallel(a: DicomFrame, b: DicomFrame) -> bool:
    """Whether two images have the same orientation, spacing and size."""
    if a.shape != b.shape or not all(map(partial(math.isclose, rel_tol=0.01), a.spacing_mm, b.spacing_mm)):
        return False
    pairs = ((a.orientation[i : i + 3], b.orientation[i : i + 3]) for i in (0, 3))
    return all(sum(p * q for p, q in zip(u, v, strict=True)) >= PARALLEL for u, v in pairs)


def places_of(plane: list[DicomFrame]) -> list[list[DicomFrame]]:
    """The images of parallel slices by place, in the order of the normal."""
    normal = plane[0].normal
    along = np.argsort([normal @ frame.position for frame in plane], kind="stable")
    ordered = (plane[i] for i in along)
    return together(ordered, lambda a, b: math.dist(a.position, b.position) < SAME_PLACE_MM, latest_first=True)


def plane_of(takes: list[list[Take]]) -> Plane:
    """The plane of the ``takes`` of each place, in the order of the normal."""
    normal = next((take.first.normal for place in takes for take in place), np.zeros(3))
    slices = tuple(
        Slice(take, place, float(normal @ take.first.position)) for place, own in enumerate(takes) for take in own
    )
    stacks = [Stack(tuple(s), tuple(s)) for source in _sources(slices) for s in _stacks_of(source)]
    if not any(len(stack.slices) >= SLICE_RANGE[0] for stack in stacks):  # each slice may have a name of its own
        stacks = [Stack(tuple(s), tuple(s)) for s in _stacks_of(list(slices))] if slices else []
    built = [_completed(stack, stacks, slices) for stack in stacks if len(stack.slices) >= SLICE_RANGE[0]]
    return Plane(slices, tuple(built))


# --- What was acquired together --------------------------------------------------------------------------------------


def _by(slices: Iterable[Slice], key: Callable[[Slice], Key]) -> dict[Key, list[Slice]]:
    groups: dict[Key, list[Slice]] = defaultdict(list)
    for s in slices:
        groups[key(s)].append(s)
    return groups


def _several(groups: dict[Key, list[Slice]]) -> set[Key]:
    """The keys with as many places as a stack has."""
    return {key for key, group in groups.items() if len({s.place for s in group}) >= SLICE_RANGE[0]}


def _sources(slices: Iterable[Slice]) -> list[list[Slice]]:
    """Slices by series where series have several, by kind where they do not or were removed.

    Where these repeat a place, folders of several slices tell repeats apart.
    """
    series = _several(_by(slices, lambda s: s.take.first.series)) - {""}

    def source(s: Slice) -> tuple[object, ...]:
        first = s.take.first
        return first.series in series and first.series, first.stack, first.original, s.take.kind

    result: list[list[Slice]] = []
    for group in _by(slices, source).values():
        folders = _several(_by(group, lambda s: folder_of(s.take.first)))
        repeated = len({s.place for s in group}) < len(group) and len(folders) > 1
        parts = _by(group, lambda s: folder_of(s.take.first) if repeated else "")  # noqa: B023  # used at once
        result += parts.values()
    return result


def _stacks_of(source: list[Slice]) -> list[list[Slice]]:
    """The stacks of one source, among them single slices: passes through the heart, evenly spaced."""
    stacks: list[list[Slice]] = []
    one_series = len({s.take.first.series for s in source} - {""}) == 1
    for ordered in (line for one in _passes(source) for line in _lines(one)):
        stated = _median(s.take.first.stated_step_mm for s in ordered)
        thickness = None if one_series else _median(s.take.first.thickness_mm for s in ordered)
        even, strays = stacks_among(np.array([s.along_mm for s in ordered]), stated, thickness)
        stacks += [[ordered[i] for i in stack] for stack in (*even, *([i] for i in strays))]
    return stacks


def _lines(slices: list[Slice]) -> list[list[Slice]]:
    """Slices whose corners lie in one line, in the order of the normal; other lines are shifted in the plane."""
    lines: list[list[Slice]] = []
    for s in sorted(slices, key=lambda s: s.along_mm):
        off = []
        for line in lines:
            gap = s.along_mm - line[-1].along_mm
            distance = math.dist(s.take.first.position, line[-1].take.first.position)
            in_plane = math.sqrt(max(distance**2 - gap**2, 0.0))
            off.append(in_plane if in_plane <= IN_LINE_MM + SHEAR * gap else math.inf)
        if min(off, default=math.inf) == math.inf:
            lines.append([s])
        else:
            lines[off.index(min(off))].append(s)
    return lines


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value]
    return float(np.median(known)) if known else None


def _passes(source: list[Slice]) -> list[list[Slice]]:
    """Passes through the places of ``source`` in the order of time; a new one begins where a place comes again.

    A slice repeated at once, or a few that are not neighbours, are passes of their own, of one slice.
    """
    passes: list[list[Slice]] = [[]]
    again: list[list[Slice]] = []
    for s in sorted(source, key=lambda s: s.take.begun):
        if s.place not in {other.place for other in passes[-1]}:
            passes[-1].append(s)
        elif passes[-1][-1].place == s.place:
            again.append([s])
        else:
            passes.append([s])
    longest = max(passes, key=len)
    order = {place: n for n, place in enumerate(sorted(s.place for s in longest))}
    result: list[list[Slice]] = []
    for one in passes:
        repeats = one is not longest and {s.place for s in one} <= set(order)
        result += _neighbours(one, order) if repeats else [one]
    return result + again


def _neighbours(slices: list[Slice], order: dict[int, int]) -> list[list[Slice]]:
    """Slices whose places follow each other in ``order``."""
    ranked = enumerate(sorted(slices, key=lambda s: order[s.place]))
    return [[s for _, s in run] for _, run in groupby(ranked, key=lambda ns: order[ns[1].place] - ns[0])]


# --- Slices from other takes -----------------------------------------------------------------------------------------


def _completed(stack: Stack, stacks: list[Stack], slices: Iterable[Slice]) -> Stack:
    """``stack`` with single slices that were repeated later, and with slices of other stacks where it has none."""
    chosen = {s.place: s for s in stack.slices}
    size = {id(s): len(each.slices) for each in stacks for s in each.slices}
    for s in sorted(slices, key=lambda s: s.take.begun):
        if s.place in chosen and _replaces(s, chosen[s.place], stack, single=size[id(s)] < SLICE_RANGE[0]):
            chosen[s.place] = s
    return Stack(tuple(sorted(_filled(stack, chosen, slices, size), key=lambda s: s.along_mm)), stack.own)


def _filled(stack: Stack, chosen: dict[int, Slice], slices: Iterable[Slice], size: dict[int, int]) -> Iterable[Slice]:
    """``chosen`` and, on the grid of ``stack``, takes of the slices that it lacks or that continue it."""
    along = np.array([s.along_mm for s in stack.slices])
    if (step := step_of(along)) is None:
        return chosen.values()
    cells = {round((s.along_mm - along[0]) / step) for s in chosen.values()}
    free: dict[int, Slice] = {}
    # Of several takes, one of the same kind, of the larger stack, and then the latest, comes last.
    for s in sorted(slices, key=lambda s: (_like(s, stack), size[id(s)], s.take.begun)):
        cell = cell_of(along, s.along_mm, step)
        if cell is not None and cell not in cells and s.place not in chosen and _fits(s, stack):
            free[cell] = s
    low, high = min(cells), max(cells)
    while low - 1 in free and free[low - 1].take.first.original == stack.first.original:
        low -= 1
    while high + 1 in free and free[high + 1].take.first.original == stack.first.original:
        high += 1
    return [*chosen.values(), *(s for cell, s in free.items() if low <= cell <= high)]


def _like(s: Slice, stack: Stack) -> bool:
    """Whether a slice is of the same kind as those of a stack."""
    one, first = s.take.first, stack.first
    same_echo = one.echo_ms is None or first.echo_ms is None or math.isclose(one.echo_ms, first.echo_ms, rel_tol=ECHO)
    return s.take.kind == stack.slices[0].take.kind and one.original == first.original and same_echo


def _whole(s: Slice, stack: Stack) -> bool:
    return len(s.take.frames) >= WHOLE * stack.phases


def _replaces(s: Slice, other: Slice, stack: Stack, single: bool) -> bool:
    """Whether a take of the same place is better: later, but never less complete."""
    if s is other or not _like(s, stack) or not _whole(s, stack) or abs(s.along_mm - other.along_mm) > REPEATED_MM:
        return False
    return not _whole(other, stack) or (single and s.take.begun > other.take.begun)


def _fits(s: Slice, stack: Stack) -> bool:
    """Whether a slice can stand where a stack has none: of its kind, or at least with about as many phases."""
    frames, phases = len(s.take.frames), stack.phases
    return 2 * frames >= phases if _like(s, stack) else min(frames, phases) >= SIMILAR * max(frames, phases)
