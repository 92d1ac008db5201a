"""Finds the short-axis cine among the images of one examination, by geometry and time, never by file name."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Hashable, Iterable
from functools import partial
from itertools import pairwise
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from cinesynth.data.dicom.files import SkippedImages
from cinesynth.data.dicom.header import DicomFrame
from cinesynth.data.nifti import SLICE_STEP_MM
from cinesynth.errors import DataError
from cinesynth.physiology import SLICE_RANGE

Key = TypeVar("Key", bound=Hashable)
Phases = tuple[DicomFrame, ...]
"""Images of one slice in temporal order."""

SAME_PLACE_MM = 1.0  # images closer than this show the same slice
PARALLEL = math.cos(math.radians(3.0))  # smallest cosine between image axes of one plane
ALONG_BODY = math.cos(math.radians(15.0))  # beyond it, a normal belongs to a transverse or similar stack
IN_LINE_MM = 2.0  # slices whose corner is farther from the common line were shifted in the plane
UNEVEN = 0.1  # largest relative deviation of a slice step from the median
COMPLETE = 0.75  # smallest fraction of slices left after cutting uneven ends; less means a gap in the heart
SHORT = re.compile(r"(?<![a-z])(sax|sa|short[ _-]*ax\w*|kurzachse|kurze[ _-]achse)(?![a-z])")
LONG = re.compile(r"(?<![a-z])([234] ?-?_?(ch|kammer|chamber)\w*|lax|la|long[ _-]*ax\w*|hla|vla|lvot|rvot)(?![a-z])")


def grouped(frames: Iterable[DicomFrame], key: Callable[[DicomFrame], Key]) -> dict[Key, list[DicomFrame]]:
    """Frames by ``key``, in order of appearance."""
    groups: dict[Key, list[DicomFrame]] = {}
    for frame in frames:
        groups.setdefault(key(frame), []).append(frame)
    return groups


def short_axis(frames: list[DicomFrame], stills: bool = False) -> tuple[tuple[Phases, ...], tuple[SkippedImages, ...]]:
    """The short-axis cine among the images of one examination, by slice and phase, and the images that were skipped.

    The plane with the most parallel slices is the short axis, unless series descriptions tell otherwise; transverse
    stacks are the last choice. Slices with a different number of phases use the image nearest in the cycle. With
    ``stills``, a stack of one image per slice is accepted if there is no cine. `DataError` if there is none, or if a
    slice is missing.
    """
    # Anonymised files may share identifiers, so place and time of copies must agree, too.
    groups = grouped(frames, lambda f: (f.uid, f.number, f.position, f.orientation, f.trigger_ms, f.phase, f.instance))
    unique = [group[0] for group in groups.values()]
    candidates, skipped = _candidates(unique, _read_slices)
    if stills and not candidates:
        candidates, skipped = _candidates(unique, _read_stills)
    skipped = _skip((frame for group in groups.values() for frame in group[1:]), "a copy of another file") + skipped
    if not candidates:
        counts: Counter[str] = Counter()
        for images in skipped:
            counts[images.reason] += len(images.names)
        reasons = "; ".join(f"{count} images: {reason}" for reason, count in counts.most_common(4)) or "no images"
        hint = f"a short-axis cine has at least {SLICE_RANGE[0]} parallel slices"
        raise DataError(f"no short-axis cine: {reasons}", hint=hint)
    best = max(candidates, key=_rank)
    for slices in candidates:
        if slices is not best:
            skipped += _skip((f for s in slices for f in s.frames), f"another stack of {len(slices)} slices")
    complete, left = _of_one_cycle(best)
    whole, shifted = _even(complete)
    return whole, (*skipped, *left, *shifted)


def _skip(frames: Iterable[DicomFrame], reason: str) -> list[SkippedImages]:
    """``frames`` as one `SkippedImages`; an empty list if there are none."""
    names = tuple(str(frame) for frame in frames)
    return [SkippedImages(names, reason)] if names else []


# --- The cine of one slice -------------------------------------------------------------------------------------------

MIN_CINE_FRAMES = 6
"""Smallest number of phases of a slice that makes a cine."""
TIMES_OF: tuple[Callable[[DicomFrame], float | None], ...] = (
    lambda frame: None if frame.trigger_ms is None else round(frame.trigger_ms, 1),
    lambda frame: frame.phase,
    lambda frame: float(frame.instance + frame.number),
)
"""What can order the images of a slice in time, the most trusted first: ms after the R wave, phase, image number."""


class SliceCine(NamedTuple):
    """The images of one slice in temporal order; times in steps from one image to the next."""

    frames: Phases
    places: NDArray[np.float64]  # of each image, from the first: 0, 1, 2, 4 where the fourth was lost
    beat: float  # length of the heart beat


SliceReader = Callable[[list[list[DicomFrame]]], tuple[list[SliceCine], list[SkippedImages]]]


def _read_slices(places: list[list[DicomFrame]]) -> tuple[list[SliceCine], list[SkippedImages]]:
    """One `SliceCine` for each place (all images at one slice position) with enough phases.

    If a slice was acquired more than once, the kind of series that covers most places is used, and the latest of that
    kind, because slices are repeated when they have failed. Images derived from others are the last choice.
    """
    slices: list[SliceCine] = []
    skipped: list[SkippedImages] = []
    takes = [_takes(frames) for frames in places]
    kinds = Counter(kind for taken in takes for kind in {_kind(take[0]) for take in taken})
    for frames, taken in zip(places, takes, strict=True):
        if not taken:
            skipped += _skip(frames, f"fewer than {MIN_CINE_FRAMES} phases: no cine")
            continue
        best = max(taken, key=lambda take: (take[0].original, kinds[_kind(take[0])], max(map(_when, take))))
        slices.append(_in_time(best))
        kept, others = set(slices[-1].frames), set(frames) - set(best)
        skipped += _skip((f for f in best if f not in kept), "another image of the same slice and time")
        skipped += _skip((f for f in frames if f in others), "another series of the same slice")
    return slices, skipped


def _read_stills(places: list[list[DicomFrame]]) -> tuple[list[SliceCine], list[SkippedImages]]:
    """One `SliceCine` for each place with a single image."""
    slices = [SliceCine(tuple(frames), np.zeros(1), 1.0) for frames in places if len(frames) == 1]
    several = [_skip(frames, "several images of a slice, too few for a cine") for frames in places if len(frames) > 1]
    return slices, [images for one in several for images in one]


def _kind(frame: DicomFrame) -> str:
    """The kind of a series: its description without slice and repetition numbers."""
    return re.sub(r"\d+", "", frame.description).strip().lower()


def _when(frame: DicomFrame) -> tuple[str, int, int, str]:
    return frame.acquired, frame.series_number, frame.instance, str(frame)


def _takes(frames: list[DicomFrame]) -> list[list[DicomFrame]]:
    """The cines among the images of one place: series, or acquisitions within a series, with enough phases."""
    takes: list[list[DicomFrame]] = []
    for series in _cines(frames, lambda frame: frame.series) or _cines(frames, lambda _: ""):
        acquisitions = _cines(series, lambda frame: frame.acquisition)
        takes += acquisitions if sum(map(len, acquisitions)) == len(series) else [series]
    return takes


def _cines(frames: list[DicomFrame], key: Callable[[DicomFrame], Hashable]) -> list[list[DicomFrame]]:
    return [group for group in grouped(frames, key).values() if len(_phases(group)) >= MIN_CINE_FRAMES]


def _phases(frames: list[DicomFrame]) -> dict[float, DicomFrame]:
    """The latest image at each time, by the first of `TIMES_OF` that distinguishes enough images."""
    phases: dict[float, DicomFrame] = {}
    for time_of in TIMES_OF:
        times = [(time_of(frame), frame) for frame in sorted(frames, key=_when)]
        phases = {time: frame for time, frame in times if time is not None}
        if len(phases) >= MIN_CINE_FRAMES and all(time is not None for time, _ in times):
            break
    return phases


def _in_time(frames: list[DicomFrame]) -> SliceCine:
    phases = _phases(frames)
    times = sorted(phases)
    ordered = tuple(phases[time] for time in times)
    values = np.array(times, dtype=np.float64)
    step = float(np.median(np.diff(values))) if len(times) > 1 else 1.0
    places = (values - values[0]) / step
    # The heart beat is the RR interval if known in the unit of the times, otherwise it ends with the last image.
    timed = [TIMES_OF[0](frame) for frame in ordered] == times
    interval, last = ordered[0].interval_ms if timed else None, float(places[-1]) + 1.0
    return SliceCine(ordered, places, max(interval / step, last) if interval else last)


# --- The stack of slices ---------------------------------------------------------------------------------------------


def _candidates(frames: list[DicomFrame], read: SliceReader) -> tuple[list[list[SliceCine]], list[SkippedImages]]:
    """The planes that ``read`` turns into a stack, and the images of the others."""
    candidates: list[list[SliceCine]] = []
    skipped: list[SkippedImages] = []
    for plane in _together(frames, _parallel):
        normal = plane[0].normal
        along = np.argsort([normal @ frame.position for frame in plane], kind="stable")
        ordered = (plane[i] for i in along)
        slices, left = read(
            _together(ordered, lambda a, b: math.dist(a.position, b.position) < SAME_PLACE_MM, latest_first=True)
        )
        skipped += left
        if len(slices) >= SLICE_RANGE[0]:
            candidates.append(slices)
        else:
            few = f"{len(slices)} parallel slice{'s' if len(slices) > 1 else ''}: a long-axis view or a scout"
            skipped += _skip((f for s in slices for f in s.frames), few)
    return candidates, skipped


def _together(
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


def _parallel(a: DicomFrame, b: DicomFrame) -> bool:
    """Whether two images have the same orientation, spacing and size."""
    if a.shape != b.shape or not all(map(partial(math.isclose, rel_tol=0.01), a.spacing_mm, b.spacing_mm)):
        return False
    pairs = ((a.orientation[i : i + 3], b.orientation[i : i + 3]) for i in (0, 3))
    return all(sum(p * q for p, q in zip(u, v, strict=True)) >= PARALLEL for u, v in pairs)


def _rank(slices: list[SliceCine]) -> tuple[int, bool, int, str]:
    """Sort key, the short axis last: by series description, direction, number of slices, and time of acquisition."""
    first = slices[0].frames[0]
    name = first.description.lower()
    named = int(bool(SHORT.search(name))) - int(bool(LONG.search(name)))
    return named, float(np.abs(first.normal).max()) < ALONG_BODY, len(slices), first.acquired


def _of_one_cycle(slices: list[SliceCine]) -> tuple[list[Phases], list[SkippedImages]]:
    """All slices with the most common number of phases; slices with less than half of it are skipped."""
    counts = Counter(len(s.frames) for s in slices)
    count = max(counts, key=lambda n: (counts[n], n))
    beat = float(np.median([s.beat for s in slices if len(s.frames) == count]))
    complete: list[Phases] = []
    skipped: list[SkippedImages] = []
    for s in slices:
        if len(s.frames) == count:
            complete.append(s.frames)
        elif len(s.frames) >= count / 2:  # each phase is the nearest image in the cycle
            wanted = np.arange(count) * s.beat / beat
            complete.append(tuple(s.frames[i] for i in np.abs(wanted[:, None] - s.places).argmin(axis=1)))
        else:
            skipped += _skip(s.frames, f"{len(s.frames)} phases of {count}")
    return complete, skipped


def _even(slices: list[Phases]) -> tuple[tuple[Phases, ...], list[SkippedImages]]:
    """The longest evenly spaced run of slices; `DataError` if it lacks more than a quarter of them."""
    first = slices[0][0]
    corners = np.array([s[0].position for s in slices])
    along = corners @ first.normal
    plane = corners @ np.array(first.orientation).reshape(2, 3).T
    gaps = np.diff(along)
    apart = gaps > SAME_PLACE_MM
    # The line through all corners is fitted by medians, so that a few shifted slices do not move it.
    slope = np.median(np.diff(plane, axis=0)[apart] / gaps[apart, None], axis=0) if apart.any() else np.zeros(2)
    rest = plane - along[:, None] * slope
    off = np.linalg.norm(rest - np.median(rest, axis=0), axis=1)  # distance of each slice's corner from it, mm
    shifted = [s for s, distance in zip(slices, off, strict=True) if distance > IN_LINE_MM]
    straight = [s for s in slices if s not in shifted]
    skipped = _skip((f for s in shifted for f in s), "shifted in the plane against the other slices")
    steps = np.diff(along[off <= IN_LINE_MM])
    typical = float(np.median(steps)) if len(steps) else 0.0
    breaks = np.flatnonzero(np.abs(steps - typical) > UNEVEN * typical)
    edges = [0, *(int(b) + 1 for b in breaks), len(steps) + 1]
    start, stop = max(pairwise(edges), key=lambda edge: edge[1] - edge[0])
    kept = straight[start:stop]
    if len(kept) < max(SLICE_RANGE[0], COMPLETE * len(straight)):
        raise DataError(
            f"the stack has gaps: its {len(straight)} slices lie {', '.join(f'{step:.1f}' for step in steps)} mm apart",
            hint="copy all images of the short-axis stack, or remove the examination",
        )
    low, high = SLICE_STEP_MM
    if not low <= typical <= high:
        raise DataError(f"slices {typical:.1f} mm apart", hint=f"expected slices {low:g}-{high:g} mm apart")
    cut = (f for s in (*straight[:start], *straight[stop:]) for f in s)
    return tuple(kept), skipped + _skip(cut, "beyond a gap in the stack")
