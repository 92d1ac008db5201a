"""The cine of one slice: which of several acquisitions is used, and the order of its images in time."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from cinesynth.data.dicom.files import SkippedImages
from cinesynth.data.dicom.header import DicomFrame

MIN_CINE_FRAMES = 6
"""Smallest number of phases of a slice that makes a cine."""
TimeOf = Callable[[DicomFrame], float | None]
Key = TypeVar("Key", bound=Hashable)


def _trigger_time(frame: DicomFrame) -> float | None:
    """Milliseconds after the R wave."""
    return None if frame.trigger_ms is None else round(frame.trigger_ms, 1)


def _phase_number(frame: DicomFrame) -> float | None:
    return frame.phase


def _image_number(frame: DicomFrame) -> float:
    return float(frame.instance + frame.number)


TIMES_OF: tuple[TimeOf, ...] = (_trigger_time, _phase_number, _image_number)
"""What can order the images of a slice in time, the most trusted first."""


@dataclass(frozen=True)
class SliceCine:
    """The images of one slice in temporal order."""

    frames: tuple[DicomFrame, ...]
    times: NDArray[np.float64]  # that ordered them; in any unit, only ratios are used
    interval: float | None  # length of the heart beat in the same unit

    @property
    def places(self) -> NDArray[np.float64]:
        """Position of each image in steps from the first: 0, 1, 2, 4 where the fourth was lost."""
        return np.asarray((self.times - self.times[0]) / self._step, dtype=np.float64)

    @property
    def beat(self) -> float:
        """Length of the heart beat in steps, from the RR interval if known, otherwise up to the last image."""
        last = float(self.places[-1]) + 1.0
        return max(self.interval / self._step, last) if self.interval else last

    @property
    def _step(self) -> float:
        return float(np.median(np.diff(self.times))) if len(self.times) > 1 else 1.0

    def at(self, count: int, beat: float) -> tuple[DicomFrame, ...]:
        """``count`` phases, each the nearest image in the cycle; ``beat`` is that of slices with ``count`` images."""
        if len(self.frames) == count:
            return self.frames
        wanted = np.arange(count) * self.beat / beat
        nearest = np.abs(wanted[:, None] - self.places).argmin(axis=1)
        return tuple(self.frames[i] for i in nearest)


def grouped(frames: Iterable[DicomFrame], key: Callable[[DicomFrame], Key]) -> dict[Key, list[DicomFrame]]:
    """Frames by ``key``, in order of appearance."""
    groups: dict[Key, list[DicomFrame]] = {}
    for frame in frames:
        groups.setdefault(key(frame), []).append(frame)
    return groups


def skip(frames: Iterable[DicomFrame], reason: str) -> list[SkippedImages]:
    """``frames`` as one `SkippedImages`; an empty list if there are none."""
    names = tuple(str(frame) for frame in frames)
    return [SkippedImages(names, reason)] if names else []


def family(frame: DicomFrame) -> str:
    """The kind of a series: its description without slice and repetition numbers."""
    return re.sub(r"\d+", "", frame.description).strip().lower()


def read_slices(places: list[list[DicomFrame]]) -> tuple[list[SliceCine], list[SkippedImages]]:
    """One `SliceCine` for each place (all images at one slice position) with enough phases.

    If a slice was acquired more than once, the kind of series that covers most places is used, and the latest of that
    kind, because slices are repeated when they have failed. Images derived from others are the last choice.
    """
    slices: list[SliceCine] = []
    skipped: list[SkippedImages] = []
    takes = [_takes(frames) for frames in places]
    kinds = Counter(kind for taken in takes for kind in {family(take[0]) for take in taken})
    for frames, taken in zip(places, takes, strict=True):
        if not taken:
            skipped += skip(frames, f"fewer than {MIN_CINE_FRAMES} phases: no cine")
            continue
        best = max(taken, key=lambda take: (take[0].original, kinds[family(take[0])], max(map(_when, take))))
        slices.append(_in_time(best))
        kept, others = set(slices[-1].frames), set(frames) - set(best)
        skipped += skip((f for f in best if f not in kept), "another image of the same slice and time")
        skipped += skip((f for f in frames if f in others), "another series of the same slice")
    return slices, skipped


def read_stills(places: list[list[DicomFrame]]) -> tuple[list[SliceCine], list[SkippedImages]]:
    """One `SliceCine` for each place with a single image."""
    slices: list[SliceCine] = []
    skipped: list[SkippedImages] = []
    for frames in places:
        if len(frames) == 1:
            slices.append(SliceCine(tuple(frames), np.zeros(1), None))
        else:
            skipped += skip(frames, "several images of a slice, too few for a cine")
    return slices, skipped


def _takes(frames: list[DicomFrame]) -> list[list[DicomFrame]]:
    """The cines among the images of one place: series, or acquisitions within a series, with enough phases."""
    series = _cines(frames, lambda frame: frame.series) or _cines(frames, lambda _: "")
    return [take for whole in series for take in _acquisitions(whole)]


def _acquisitions(frames: list[DicomFrame]) -> list[list[DicomFrame]]:
    takes = _cines(frames, lambda frame: frame.acquisition)
    return takes if sum(map(len, takes)) == len(frames) else [frames]


def _cines(frames: list[DicomFrame], key: Callable[[DicomFrame], Hashable]) -> list[list[DicomFrame]]:
    return [group for group in grouped(frames, key).values() if len(_phases(group)) >= MIN_CINE_FRAMES]


def _phases(frames: list[DicomFrame], times_of: tuple[TimeOf, ...] = TIMES_OF) -> dict[float, DicomFrame]:
    """The latest image at each time, by the first of ``times_of`` that distinguishes enough images."""
    time_of, *others = times_of
    times = [(time_of(frame), frame) for frame in sorted(frames, key=_when)]
    phases = {time: frame for time, frame in times if time is not None}
    known = len(phases) >= MIN_CINE_FRAMES and all(time is not None for time, _ in times)
    return phases if known or not others else _phases(frames, tuple(others))


def _in_time(frames: list[DicomFrame]) -> SliceCine:
    phases = _phases(frames)
    times = sorted(phases)
    ordered = tuple(phases[time] for time in times)
    timed = [TIMES_OF[0](frame) for frame in ordered] == times
    return SliceCine(ordered, np.array(times, dtype=np.float64), ordered[0].interval_ms if timed else None)


def _when(frame: DicomFrame) -> tuple[str, int, int, str]:
    return frame.acquired, frame.series_number, frame.instance, str(frame)
