"""From the images of one examination to the short-axis cine among them: by geometry and time, never by file name."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from cinesynth.data.dicom.files import Aside
from cinesynth.data.dicom.header import Frame
from cinesynth.data.dicom.series import Slice, grouped, leave, read_slices, read_stills
from cinesynth.data.nifti import SLICE_STEP_MM
from cinesynth.errors import DataError
from cinesynth.physiology import SLICE_RANGE

SAME_PLACE_MM = 1.0
"""Images nearer to each other show one slice."""
PARALLEL = math.cos(math.radians(3.0))
ALONG_BODY = math.cos(math.radians(15.0))
"""A slice normal nearer to an axis of the body is that of a transverse, coronal or sagittal stack."""
IN_LINE_MM = 2.0
"""Slices whose corners lie further from the common line were shifted in the plane."""
UNEVEN = 0.1
"""Largest relative deviation of a slice step from the others."""
WHOLE = 0.75
"""Smallest share of the slices that a stack keeps when uneven ends are cut off; less is a hole in the heart."""
Read = Callable[[list[list[Frame]]], tuple[list[Slice], list[Aside]]]
SHORT = re.compile(r"(?<![a-z])(sax|sa|short[ _-]*ax\w*|kurzachse|kurze[ _-]achse)(?![a-z])")
LONG = re.compile(r"(?<![a-z])([234] ?-?_?(ch|kammer|chamber)\w*|lax|la|long[ _-]*ax\w*|hla|vla|lvot|rvot)(?![a-z])")


@dataclass(frozen=True)
class Stack:
    """A short-axis cine: evenly spaced parallel slices in the order of their normal, phases in the order of time."""

    slices: tuple[tuple[Frame, ...], ...]  # Z T
    aside: tuple[Aside, ...]


def short_axis(frames: list[Frame], stills: bool = False) -> Stack:
    """The short-axis cine among the images of one examination, and what was left out of it.

    The plane with the most parallel slices is the short axis, unless descriptions say otherwise; transverse stacks
    come last. Slices with another number of phases take the nearest in the cycle. With ``stills``, a stack of one
    image a slice is taken where there is no cine. `DataError` if there is none, or a slice is missing in it.
    """
    unique, copies = _without_copies(frames)
    candidates, aside = _candidates(unique, read_slices)
    if stills and not candidates:
        candidates, aside = _candidates(unique, read_stills)
    aside = copies + aside
    if not candidates:
        raise DataError(
            "no short-axis cine: " + _reasons(aside), hint=f"it has {SLICE_RANGE[0]} parallel slices or more"
        )
    best = max(candidates, key=_likeness)
    for slices in candidates:
        if slices is not best:
            aside += leave(_frames(slices), f"another stack of {len(slices)} slices")
    complete, left = _of_one_cycle(best)
    whole, shifted = _even(complete)
    return Stack(whole, (*aside, *left, *shifted))


def _candidates(frames: list[Frame], read: Read) -> tuple[list[list[Slice]], list[Aside]]:
    """The planes of which ``read`` makes a stack, and what is left of the others."""
    candidates: list[list[Slice]] = []
    aside: list[Aside] = []
    for plane in _planes(frames):
        slices, left = read(_places(plane))
        aside += left
        if len(slices) >= SLICE_RANGE[0]:
            candidates.append(slices)
        else:
            aside += leave(_frames(slices), _few(len(slices)))
    return candidates, aside


def _without_copies(frames: list[Frame]) -> tuple[list[Frame], list[Aside]]:
    """Each image once; anonymised files may share identifiers, so place and time must agree as well."""
    groups = grouped(frames, lambda f: (f.uid, f.number, f.position, f.orientation, f.trigger_ms, f.phase, f.instance))
    copies = (frame for group in groups.values() for frame in group[1:])
    return [group[0] for group in groups.values()], leave(copies, "a copy of another file")


def _planes(frames: list[Frame]) -> list[list[Frame]]:
    """Images of one orientation, spacing and size each."""
    planes: list[list[Frame]] = []
    for frame in frames:
        home = next((plane for plane in planes if _parallel(plane[0], frame)), None)
        if home is None:
            planes.append([frame])
        else:
            home.append(frame)
    return planes


def _parallel(a: Frame, b: Frame) -> bool:
    if a.shape != b.shape or not all(map(_close, a.spacing_mm, b.spacing_mm)):
        return False
    pairs = ((a.orientation[i : i + 3], b.orientation[i : i + 3]) for i in (0, 3))
    return all(sum(p * q for p, q in zip(u, v, strict=True)) >= PARALLEL for u, v in pairs)


def _close(a: float, b: float) -> bool:
    return math.isclose(a, b, rel_tol=0.01)


def _places(plane: list[Frame]) -> list[list[Frame]]:
    """Images of one plane by position, in the order of the normal."""
    normal = plane[0].normal
    places: list[list[Frame]] = []
    for frame in sorted(plane, key=lambda f: float(normal @ f.position)):
        near = (p for p in reversed(places) if math.dist(p[0].position, frame.position) < SAME_PLACE_MM)
        home = next(near, None)
        if home is None:
            places.append([frame])
        else:
            home.append(frame)
    return places


def _likeness(slices: list[Slice]) -> tuple[int, bool, int, str]:
    """How much a stack is like the short axis: by its name, its direction, its slices; the later of two equal ones."""
    first = slices[0].frames[0]
    name = first.description.lower()
    named = int(bool(SHORT.search(name))) - int(bool(LONG.search(name)))
    return named, float(np.abs(first.normal).max()) < ALONG_BODY, len(slices), first.acquired


def _of_one_cycle(slices: list[Slice]) -> tuple[list[tuple[Frame, ...]], list[Aside]]:
    """All slices with the number of phases that most have; those with less than half of it are left out."""
    counts = Counter(len(s.frames) for s in slices)
    count = max(counts, key=lambda n: (counts[n], n))
    beat = float(np.median([s.beat for s in slices if len(s.frames) == count]))
    aside = [
        entry
        for s in slices
        if len(s.frames) < count / 2
        for entry in leave(s.frames, f"{len(s.frames)} phases of {count}")
    ]
    return [s.at(count, beat) for s in slices if len(s.frames) >= count / 2], aside


def _even(slices: list[tuple[Frame, ...]]) -> tuple[tuple[tuple[Frame, ...], ...], list[Aside]]:
    """The longest evenly spaced run of slices; `DataError` if it is not nearly all of them."""
    along, off = _line(slices)
    shifted = [s for s, distance in zip(slices, off, strict=True) if distance > IN_LINE_MM]
    straight = [s for s in slices if s not in shifted]
    aside = leave((f for s in shifted for f in s), "shifted in the plane against the other slices")
    steps = np.diff(along[off <= IN_LINE_MM])
    run = _longest_run(steps)
    kept = straight[run]
    if len(kept) < max(SLICE_RANGE[0], WHOLE * len(straight)):
        raise DataError(
            f"slices are missing: {len(straight)} with steps of {', '.join(f'{step:.1f}' for step in steps)} mm",
            hint="copy all images of the short-axis stack, or leave the examination out",
        )
    low, high = SLICE_STEP_MM
    if not low <= float(np.median(steps)) <= high:
        raise DataError(f"slices {np.median(steps):.1f} mm apart", hint=f"a cine has slices of {low:g}-{high:g} mm")
    cut = (f for s in (*straight[: run.start], *straight[run.stop :]) for f in s)
    return tuple(kept), aside + leave(cut, "beyond a gap in the stack")


def _line(slices: list[tuple[Frame, ...]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Position of each slice along the normal, and the distance of its corner from the line of all corners, mm.

    Medians, so that a few slices that were shifted do not move the line.
    """
    first = slices[0][0]
    corners = np.array([s[0].position for s in slices])
    along = corners @ first.normal
    plane = corners @ np.array(first.orientation).reshape(2, 3).T
    gaps = np.diff(along)
    apart = gaps > SAME_PLACE_MM
    slope = np.median(np.diff(plane, axis=0)[apart] / gaps[apart, None], axis=0) if apart.any() else np.zeros(2)
    rest = plane - along[:, None] * slope
    return along, np.linalg.norm(rest - np.median(rest, axis=0), axis=1)


def _longest_run(steps: NDArray[np.float64]) -> slice:
    """The longest run of slices between which all ``steps`` are alike."""
    typical = float(np.median(steps)) if len(steps) else 0.0
    breaks = np.flatnonzero(np.abs(steps - typical) > UNEVEN * typical)
    edges = [0, *(int(b) + 1 for b in breaks), len(steps) + 1]
    start, stop = max(pairwise(edges), key=lambda edge: edge[1] - edge[0])
    return slice(start, stop)


def _frames(slices: list[Slice]) -> list[Frame]:
    return [frame for s in slices for frame in s.frames]


def _few(count: int) -> str:
    return f"{count} parallel slice{'s' if count > 1 else ''}: a long-axis view or a scout"


def _reasons(aside: list[Aside]) -> str:
    counts: Counter[str] = Counter()
    for entry in aside:
        counts[entry.reason] += len(entry.names)
    return "; ".join(f"{count} images: {reason}" for reason, count in counts.most_common(4)) or "no images"
