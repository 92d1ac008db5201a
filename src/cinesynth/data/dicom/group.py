"""Finds the short-axis cine among the images of one examination, by geometry and time, never by file name."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cinesynth.data.dicom.files import SkippedImages
from cinesynth.data.dicom.header import DicomFrame
from cinesynth.data.dicom.series import SliceCine, grouped, read_slices, read_stills, skip
from cinesynth.data.nifti import SLICE_STEP_MM
from cinesynth.errors import DataError
from cinesynth.physiology import SLICE_RANGE


class _Tolerance(NamedTuple):
    """How closely the slices of a short-axis stack must fit together."""

    same_place_mm: float = 1.0  # images closer than this show the same slice
    parallel: float = math.cos(math.radians(3.0))  # smallest cosine between image axes of one plane
    along_body: float = math.cos(math.radians(15.0))  # beyond it, a normal belongs to a transverse or similar stack
    in_line_mm: float = 2.0  # slices whose corner is farther from the common line were shifted in the plane
    uneven: float = 0.1  # largest relative deviation of a slice step from the median
    complete: float = 0.75  # smallest fraction of slices left after cutting uneven ends; less means a gap in the heart


TOLERANCE = _Tolerance()
SliceReader = Callable[[list[list[DicomFrame]]], tuple[list[SliceCine], list[SkippedImages]]]
SHORT = re.compile(r"(?<![a-z])(sax|sa|short[ _-]*ax\w*|kurzachse|kurze[ _-]achse)(?![a-z])")
LONG = re.compile(r"(?<![a-z])([234] ?-?_?(ch|kammer|chamber)\w*|lax|la|long[ _-]*ax\w*|hla|vla|lvot|rvot)(?![a-z])")


@dataclass(frozen=True)
class ShortAxisStack:
    """A short-axis cine: evenly spaced parallel slices along their normal, phases in temporal order."""

    slices: tuple[tuple[DicomFrame, ...], ...]  # Z T
    skipped: tuple[SkippedImages, ...]


def short_axis(frames: list[DicomFrame], stills: bool = False) -> ShortAxisStack:
    """The short-axis cine among the images of one examination, and the images that were skipped.

    The plane with the most parallel slices is the short axis, unless series descriptions tell otherwise; transverse
    stacks are the last choice. Slices with a different number of phases use the image nearest in the cycle. With
    ``stills``, a stack of one image per slice is accepted if there is no cine. `DataError` if there is none, or if a
    slice is missing.
    """
    unique, copies = _without_copies(frames)
    candidates, skipped = _candidates(unique, read_slices)
    if stills and not candidates:
        candidates, skipped = _candidates(unique, read_stills)
    skipped = copies + skipped
    if not candidates:
        raise DataError(
            "no short-axis cine: " + _reasons(skipped),
            hint=f"a short-axis cine has at least {SLICE_RANGE[0]} parallel slices",
        )
    best = max(candidates, key=_rank)
    for slices in candidates:
        if slices is not best:
            skipped += skip(_frames(slices), f"another stack of {len(slices)} slices")
    complete, left = _of_one_cycle(best)
    whole, shifted = _even(complete)
    return ShortAxisStack(whole, (*skipped, *left, *shifted))


def _candidates(frames: list[DicomFrame], read: SliceReader) -> tuple[list[list[SliceCine]], list[SkippedImages]]:
    """The planes that ``read`` turns into a stack, and the images of the others."""
    candidates: list[list[SliceCine]] = []
    skipped: list[SkippedImages] = []
    for plane in _planes(frames):
        slices, left = read(_places(plane))
        skipped += left
        if len(slices) >= SLICE_RANGE[0]:
            candidates.append(slices)
        else:
            skipped += skip(_frames(slices), _few(len(slices)))
    return candidates, skipped


def _without_copies(frames: list[DicomFrame]) -> tuple[list[DicomFrame], list[SkippedImages]]:
    """Each image once. Anonymised files may share identifiers, so place and time must agree, too."""
    groups = grouped(frames, lambda f: (f.uid, f.number, f.position, f.orientation, f.trigger_ms, f.phase, f.instance))
    copies = (frame for group in groups.values() for frame in group[1:])
    return [group[0] for group in groups.values()], skip(copies, "a copy of another file")


def _planes(frames: list[DicomFrame]) -> list[list[DicomFrame]]:
    """Groups of images with the same orientation, spacing and size."""
    planes: list[list[DicomFrame]] = []
    for frame in frames:
        home = next((plane for plane in planes if _parallel(plane[0], frame)), None)
        if home is None:
            planes.append([frame])
        else:
            home.append(frame)
    return planes


def _parallel(a: DicomFrame, b: DicomFrame) -> bool:
    if a.shape != b.shape or not all(map(_close, a.spacing_mm, b.spacing_mm)):
        return False
    pairs = ((a.orientation[i : i + 3], b.orientation[i : i + 3]) for i in (0, 3))
    return all(sum(p * q for p, q in zip(u, v, strict=True)) >= TOLERANCE.parallel for u, v in pairs)


def _close(a: float, b: float) -> bool:
    return math.isclose(a, b, rel_tol=0.01)


def _places(plane: list[DicomFrame]) -> list[list[DicomFrame]]:
    """Images of one plane by slice position, along the normal."""
    normal = plane[0].normal
    places: list[list[DicomFrame]] = []
    for frame in sorted(plane, key=lambda f: float(normal @ f.position)):
        near = (p for p in reversed(places) if math.dist(p[0].position, frame.position) < TOLERANCE.same_place_mm)
        home = next(near, None)
        if home is None:
            places.append([frame])
        else:
            home.append(frame)
    return places


def _rank(slices: list[SliceCine]) -> tuple[int, bool, int, str]:
    """Sort key, the short axis last: by series description, direction, number of slices, and time of acquisition."""
    first = slices[0].frames[0]
    name = first.description.lower()
    named = int(bool(SHORT.search(name))) - int(bool(LONG.search(name)))
    return named, float(np.abs(first.normal).max()) < TOLERANCE.along_body, len(slices), first.acquired


def _of_one_cycle(slices: list[SliceCine]) -> tuple[list[tuple[DicomFrame, ...]], list[SkippedImages]]:
    """All slices with the most common number of phases; slices with less than half of it are skipped."""
    counts = Counter(len(s.frames) for s in slices)
    count = max(counts, key=lambda n: (counts[n], n))
    beat = float(np.median([s.beat for s in slices if len(s.frames) == count]))
    skipped = [
        group
        for s in slices
        if len(s.frames) < count / 2
        for group in skip(s.frames, f"{len(s.frames)} phases of {count}")
    ]
    return [s.at(count, beat) for s in slices if len(s.frames) >= count / 2], skipped


def _even(slices: list[tuple[DicomFrame, ...]]) -> tuple[tuple[tuple[DicomFrame, ...], ...], list[SkippedImages]]:
    """The longest evenly spaced run of slices; `DataError` if it lacks more than a quarter of them."""
    along, off = _line(slices)
    shifted = [s for s, distance in zip(slices, off, strict=True) if distance > TOLERANCE.in_line_mm]
    straight = [s for s in slices if s not in shifted]
    skipped = skip((f for s in shifted for f in s), "shifted in the plane against the other slices")
    steps = np.diff(along[off <= TOLERANCE.in_line_mm])
    run = _longest_run(steps)
    kept = straight[run]
    if len(kept) < max(SLICE_RANGE[0], TOLERANCE.complete * len(straight)):
        raise DataError(
            f"slices are missing: {len(straight)} with steps of {', '.join(f'{step:.1f}' for step in steps)} mm",
            hint="copy all images of the short-axis stack, or remove the examination",
        )
    low, high = SLICE_STEP_MM
    if not low <= float(np.median(steps)) <= high:
        raise DataError(f"slices {np.median(steps):.1f} mm apart", hint=f"expected slices {low:g}-{high:g} mm apart")
    cut = (f for s in (*straight[: run.start], *straight[run.stop :]) for f in s)
    return tuple(kept), skipped + skip(cut, "beyond a gap in the stack")


def _line(slices: list[tuple[DicomFrame, ...]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Position of each slice along the normal, and distance of its corner from the line through all corners, mm.

    Medians fit the line, so that a few shifted slices do not move it.
    """
    first = slices[0][0]
    corners = np.array([s[0].position for s in slices])
    along = corners @ first.normal
    plane = corners @ np.array(first.orientation).reshape(2, 3).T
    gaps = np.diff(along)
    apart = gaps > TOLERANCE.same_place_mm
    slope = np.median(np.diff(plane, axis=0)[apart] / gaps[apart, None], axis=0) if apart.any() else np.zeros(2)
    rest = plane - along[:, None] * slope
    return along, np.linalg.norm(rest - np.median(rest, axis=0), axis=1)


def _longest_run(steps: NDArray[np.float64]) -> slice:
    """The longest run of slices between which all ``steps`` are equal within the tolerance."""
    typical = float(np.median(steps)) if len(steps) else 0.0
    breaks = np.flatnonzero(np.abs(steps - typical) > TOLERANCE.uneven * typical)
    edges = [0, *(int(b) + 1 for b in breaks), len(steps) + 1]
    start, stop = max(pairwise(edges), key=lambda edge: edge[1] - edge[0])
    return slice(start, stop)


def _frames(slices: list[SliceCine]) -> list[DicomFrame]:
    return [frame for s in slices for frame in s.frames]


def _few(count: int) -> str:
    return f"{count} parallel slice{'s' if count > 1 else ''}: a long-axis view or a scout"


def _reasons(skipped: list[SkippedImages]) -> str:
    counts: Counter[str] = Counter()
    for images in skipped:
        counts[images.reason] += len(images.names)
    return "; ".join(f"{count} images: {reason}" for reason, count in counts.most_common(4)) or "no images"
