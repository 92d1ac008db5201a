"""The phases of one slice: which acquisition of it counts, and the order of its images in time."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from cinesynth.data.dicom.files import Aside
from cinesynth.data.dicom.header import Frame

MIN_FRAMES = 6
"""Fewer images of one slice are no cine."""
Clock = Callable[[Frame], float | None]
Key = TypeVar("Key", bound=Hashable)

CLOCKS: tuple[Clock, ...] = (
    lambda frame: None if frame.trigger_ms is None else round(frame.trigger_ms, 1),
    lambda frame: frame.phase,
    lambda frame: float(frame.instance + frame.number),
)
"""What may order the images of a slice in time, the most trusted first: delay after the R wave, phase, number."""


@dataclass(frozen=True)
class Slice:
    """Images of one slice in the order of time."""

    frames: tuple[Frame, ...]
    times: NDArray[np.float64]  # of the clock that ordered them; only their ratios count
    interval: float | None  # of the heart beat on that clock

    @property
    def places(self) -> NDArray[np.float64]:
        """Images in steps from the first: 0, 1, 2, 4 where the fourth was lost."""
        return np.asarray((self.times - self.times[0]) / self._step, dtype=np.float64)

    @property
    def beat(self) -> float:
        """Length of the heart beat in steps: by its duration where the header tells, else to the last image."""
        last = float(self.places[-1]) + 1.0
        return max(self.interval / self._step, last) if self.interval else last

    @property
    def _step(self) -> float:
        return float(np.median(np.diff(self.times))) if len(self.times) > 1 else 1.0

    def at(self, count: int, beat: float) -> tuple[Frame, ...]:
        """``count`` phases, each the image nearest in the cycle; ``beat`` is that of slices with ``count`` images."""
        if len(self.frames) == count:
            return self.frames
        wanted = np.arange(count) * self.beat / beat
        nearest = np.abs(wanted[:, None] - self.places).argmin(axis=1)
        return tuple(self.frames[i] for i in nearest)


def grouped(frames: Iterable[Frame], key: Callable[[Frame], Key]) -> dict[Key, list[Frame]]:
    """Frames by ``key``, in the order of appearance."""
    groups: dict[Key, list[Frame]] = {}
    for frame in frames:
        groups.setdefault(key(frame), []).append(frame)
    return groups


def leave(frames: Iterable[Frame], reason: str) -> list[Aside]:
    """One entry for all ``frames``, none if there are none."""
    names = tuple(str(frame) for frame in frames)
    return [Aside(names, reason)] if names else []


def family(frame: Frame) -> str:
    """The kind of a series: its description without the numbers that count slices and repetitions."""
    return re.sub(r"\d+", "", frame.description).strip().lower()


def read_slices(places: list[list[Frame]]) -> tuple[list[Slice], list[Aside]]:
    """One `Slice` for each place (the images taken there), if it was a cine.

    Of a slice taken more than once counts the kind of series that covers most places, and of one kind the latest,
    because a slice is taken again when it had failed. What the scanner computed from other images comes last.
    """
    slices: list[Slice] = []
    aside: list[Aside] = []
    takes = [_takes(frames) for frames in places]
    kinds = Counter(kind for taken in takes for kind in {family(take[0]) for take in taken})
    for frames, taken in zip(places, takes, strict=True):
        if not taken:
            aside += leave(frames, f"fewer than {MIN_FRAMES} phases: no cine")
            continue
        best = max(taken, key=lambda take: (take[0].original, kinds[family(take[0])], max(map(_when, take))))
        slices.append(_in_time(best))
        kept, others = set(slices[-1].frames), set(frames) - set(best)
        aside += leave((f for f in best if f not in kept), "another image of the same slice and time")
        aside += leave((f for f in frames if f in others), "another series of the same slice")
    return slices, aside


def read_stills(places: list[list[Frame]]) -> tuple[list[Slice], list[Aside]]:
    """One `Slice` for each place of which there is one image alone."""
    slices: list[Slice] = []
    aside: list[Aside] = []
    for frames in places:
        if len(frames) == 1:
            slices.append(Slice(tuple(frames), np.zeros(1), None))
        else:
            aside += leave(frames, "several images of a slice, too few for a cine")
    return slices, aside


def _takes(frames: list[Frame]) -> list[list[Frame]]:
    """The cines among the images of one place: the series, and acquisitions in them, that have phases enough."""
    series = _cines(frames, lambda frame: frame.series) or _cines(frames, lambda _: "")
    return [take for whole in series for take in _acquisitions(whole)]


def _acquisitions(frames: list[Frame]) -> list[list[Frame]]:
    takes = _cines(frames, lambda frame: frame.acquisition)
    return takes if sum(map(len, takes)) == len(frames) else [frames]


def _cines(frames: list[Frame], key: Callable[[Frame], Hashable]) -> list[list[Frame]]:
    return [group for group in grouped(frames, key).values() if len(_phases(group)) >= MIN_FRAMES]


def _phases(frames: list[Frame], clocks: tuple[Clock, ...] = CLOCKS) -> dict[float, Frame]:
    """The latest image of each time, by the first clock that tells enough of them apart."""
    clock, *others = clocks
    times = [(clock(frame), frame) for frame in sorted(frames, key=_when)]
    phases = {time: frame for time, frame in times if time is not None}
    known = len(phases) >= MIN_FRAMES and all(time is not None for time, _ in times)
    return phases if known or not others else _phases(frames, tuple(others))


def _in_time(frames: list[Frame]) -> Slice:
    phases = _phases(frames)
    times = sorted(phases)
    ordered = tuple(phases[time] for time in times)
    timed = [CLOCKS[0](frame) for frame in ordered] == times
    return Slice(ordered, np.array(times, dtype=np.float64), ordered[0].interval_ms if timed else None)


def _when(frame: Frame) -> tuple[str, int, int, str]:
    return frame.acquired, frame.series_number, frame.instance, str(frame)
