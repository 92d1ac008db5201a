"""Takes: the cines of one slice. A slice that was acquired several times has several, and none is blended of two."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable
from itertools import pairwise
from pathlib import PurePosixPath
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from cinesynth.data.dicom.header import DicomFrame

Key = TypeVar("Key", bound=Hashable)
KeyOf = Callable[[DicomFrame], Hashable]
Phases = tuple[DicomFrame, ...]
"""Images of one slice in temporal order."""

MIN_CINE_FRAMES = 6
"""Smallest number of phases of a slice that makes a cine."""
BREATH_HOLD_S = 8.0  # images whose times are farther apart are of two breath-holds
SAME_SPAN = 0.5  # of the time after the R wave that takes cover; parts of one take follow each other instead
REGULAR = 0.25  # largest deviation of a time from a regular row, in steps
TIMES_OF: tuple[Callable[[DicomFrame], float | None], ...] = (
    lambda frame: None if frame.trigger_ms is None else round(frame.trigger_ms, 1),
    lambda frame: frame.phase,
    lambda frame: float(frame.instance + frame.number),
)
"""What can order the images of a slice in time, the most trusted first: ms after the R wave, phase, image number."""


def grouped(frames: Iterable[DicomFrame], key: Callable[[DicomFrame], Key]) -> dict[Key, list[DicomFrame]]:
    """Frames by ``key``, in order of appearance."""
    groups: dict[Key, list[DicomFrame]] = {}
    for frame in frames:
        groups.setdefault(key(frame), []).append(frame)
    return groups


class Take(NamedTuple):
    """One cine of one slice, its images in temporal order; times in steps from one image to the next."""

    frames: Phases
    times: NDArray[np.float64]  # of each image, from the first: 0, 1, 2, 4 where the fourth was lost
    beat: float  # length of the heart beat
    begun: tuple[str, int, int, int, str]  # sort key, the first acquired first
    twins: tuple[tuple[DicomFrame, DicomFrame], ...] = ()
    """Two images of one time, the first of which is in ``frames``; more than a few are two takes in one."""

    @property
    def first(self) -> DicomFrame:
        """Its first image, for what all have in common."""
        return self.frames[0]

    @property
    def kind(self) -> str:
        """The kind of its series: description and pulse sequence without slice and repetition numbers."""
        return re.sub(r"\d+", "", f"{self.first.description.strip()} {self.first.sequence}").strip().lower()

    @property
    def covered(self) -> float:
        """The fraction of the heart beat in which it has images."""
        return float(self.times[-1] + 1.0) / self.beat

    @property
    def regular(self) -> bool:
        """Whether its images follow each other in equal steps, apart from lost ones."""
        return bool(np.abs(np.diff(self.times) - np.rint(np.diff(self.times))).max(initial=0.0) <= REGULAR)


def folder_of(frame: DicomFrame) -> str:
    """The folder, on disk or in the archive, that holds an image."""
    return f"{frame.file.path.parent}/{PurePosixPath(frame.file.member).parent}"


def takes_of(frames: list[DicomFrame]) -> list[Take]:
    """The cines among all images of one place, each by itself.

    Series tell them apart, then exact places, acquisition numbers, times of acquisition, RR intervals, and the folders
    of the files: identifiers and times may have been removed. Series of few images are no takes if others have enough.
    """
    takes = _cines(frames, lambda frame: (frame.series, frame.stack)) or _cines(frames, lambda _: "")
    for key in (_position, _acquisition, _breath_hold):
        takes = [part for take in takes for part in _parted(take, key(take), strict=False)]
    for key in (_interval, _folder):
        takes = [part for take in takes for part in _parted(take, key(take), strict=True)]
    return [in_time(take) for take in takes]


def _position(_: list[DicomFrame]) -> KeyOf:
    return lambda frame: tuple(round(mm, 1) for mm in frame.position)


def _acquisition(_: list[DicomFrame]) -> KeyOf:
    return lambda frame: frame.acquisition


def _interval(_: list[DicomFrame]) -> KeyOf:
    return lambda frame: frame.interval_ms


def _folder(_: list[DicomFrame]) -> KeyOf:
    return folder_of


def _breath_hold(frames: list[DicomFrame]) -> KeyOf:
    """The number of the breath-hold, by pauses in the times of acquisition."""
    times = sorted({seconds for frame in frames if (seconds := _seconds(frame)) is not None})
    pauses = [later for earlier, later in pairwise(times) if later - earlier > BREATH_HOLD_S]

    def number(frame: DicomFrame) -> int:
        seconds = _seconds(frame)
        return -1 if seconds is None else sum(seconds >= pause for pause in pauses)

    return number


def _seconds(frame: DicomFrame) -> float | None:
    """Seconds of the day at which an image was acquired."""
    match = re.search(r"(\d\d)(\d\d)(\d\d(?:\.\d+)?)$", frame.acquired)
    return 3600.0 * int(match[1]) + 60.0 * int(match[2]) + float(match[3]) if match else None


def _parted(frames: list[DicomFrame], key: KeyOf, strict: bool) -> list[list[DicomFrame]]:
    """The takes that ``key`` tells apart; all ``frames`` where its parts are no takes, but follow each other.

    A part of too few images beside takes is left out; with ``strict`` there may be none, and times must be regular.
    """
    parts = list(grouped(frames, key).values())
    cines = [part for part in parts if len(_phases(part)) >= MIN_CINE_FRAMES]
    spans = [_span(part) for part in cines]
    apart = sum(map(len, cines)) > len(frames) / 2 and min(spans, default=0.0) >= SAME_SPAN * max(spans, default=0.0)
    if strict:
        apart = apart and len(cines) == len(parts) and all(in_time(part).regular for part in cines)
    return cines if apart and _overlap(cines) else [frames]


def _span(frames: list[DicomFrame]) -> float:
    """Time from the first to the last image in ms; in images where a time is not known."""
    times = _triggers(frames)
    return max(times) - min(times) if times else float(len(frames))


def _overlap(parts: list[list[DicomFrame]]) -> bool:
    """Whether takes cover the same part of the heart beat."""
    times = [_triggers(part) for part in parts]
    if not all(times):
        return True
    shared = min(map(max, times)) - max(map(min, times))
    return shared >= SAME_SPAN * max(max(t) - min(t) for t in times)


def _triggers(frames: list[DicomFrame]) -> list[float]:
    times = [frame.trigger_ms for frame in frames if frame.trigger_ms is not None]
    return times if len(times) == len(frames) else []


def _cines(frames: list[DicomFrame], key: KeyOf) -> list[list[DicomFrame]]:
    return [group for group in grouped(frames, key).values() if len(_phases(group)) >= MIN_CINE_FRAMES]


def _when(frame: DicomFrame) -> tuple[str, int, int, str]:
    return frame.acquired, frame.series_number, frame.instance, str(frame)


def _phases(frames: list[DicomFrame]) -> dict[float, DicomFrame]:
    """The latest image at each time, by the first of `TIMES_OF` that distinguishes enough images."""
    phases: dict[float, DicomFrame] = {}
    for time_of in TIMES_OF:
        times = [(time_of(frame), frame) for frame in sorted(frames, key=_when)]
        phases = {time: frame for time, frame in times if time is not None}
        if len(phases) >= MIN_CINE_FRAMES and all(time is not None for time, _ in times):
            break
    return phases


def in_time(frames: list[DicomFrame]) -> Take:
    """``frames`` of one take in temporal order."""
    phases = _phases(frames)
    times = sorted(phases)
    ordered = tuple(phases[time] for time in times)
    values = np.array(times, dtype=np.float64)
    step = float(np.median(np.diff(values))) if len(times) > 1 else 1.0
    places = (values - values[0]) / step
    # The heart beat is the RR interval if known in the unit of the times, otherwise it ends with the last image.
    time_of = next(each for each in TIMES_OF if [each(frame) for frame in ordered] == times)
    interval, last = ordered[0].interval_ms if time_of is TIMES_OF[0] else None, float(places[-1]) + 1.0
    kept = set(ordered)
    twins = tuple((phases[time], f) for f in frames if f not in kept and (time := time_of(f)) in phases)
    begun = min((f.acquired, f.series_number, f.acquisition, f.instance, str(f.file)) for f in ordered)
    return Take(ordered, places, max(interval / step, last) if interval else last, begun, twins)
