"""How one heart moves: volume curves, their shape and timing, and the changes from frame to frame.

All numbers are of one heart, from ED on. Unknown ones are NaN: curves of a structure that was not annotated at every
frame, rates without a frame time, and everything except the change from ED to ES where there is no whole cycle.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cinesynth.evaluation.cases import Case
from cinesynth.evaluation.measure import Measurer
from cinesynth.types import STRUCTURES, BoolArray, Label, is_contiguous, voxel_counts

PHASES = 32
"""Points of a resampled curve, evenly spaced in time, the first at ED."""
MIN_DIP = 0.1
"""Fraction of the stroke volume below which a dip of the volume curve is not a second minimum."""
MAX_GREY = 255.0

CURVE = ("es_shift", "systole", "ejection", "filling", "minima", "roughness", "above_ed")
CYCLE = ("closure", "step", "consecutive_change", "background_temporal_sd", "flicker")
ED_ES = ("ed_es_change_outside", "ed_es_change_inside")
Curve = NDArray[np.float64]


def measure_motion(case: Case) -> dict[str, object]:
    """``curves``, ``path`` and the numbers of `CURVE`, `CYCLE` and `ED_ES`; and 1 or 0 for what the heart has: a
    ``whole`` cycle, something imaged ``around`` the heart in it, the LV ``known`` at every frame, and these ``timed``.
    """
    cycle = _Cycle.of(case)
    whole, known = case.whole_cycle, cycle.known[Label.LV]
    found: dict[str, object] = {name: np.nan for name in (*CURVE, *CYCLE)}
    found |= {"whole": whole, "around": whole and bool(cycle.outside.any())}
    found |= {"known": known, "timed": known and case.frame_time_ms is not None}
    # mean change from ED to ES in and around the heart, in percent of the grey range; every study has both frames
    change = np.abs(np.subtract(*cycle.case.image[[0, cycle.case.es]], dtype=np.int16))  # X Y Z
    for name, where in zip(ED_ES, (cycle.outside, cycle.near), strict=True):
        found[name] = 100.0 * float(change[where].mean()) / MAX_GREY if where.any() else np.nan
    found |= {"curves": cycle.curves(), "path": cycle.path()}
    if whole:
        found |= _of_cycle(cycle)
        if known and cycle.volumes[Label.LV][0] > 0:
            found |= of_curve(cycle.volumes[Label.LV], cycle.case.es, case.frame_time_ms)
    return found


MOTION = Measurer("motion", "2", measure_motion)


def of_curve(volumes_ml: Curve, es: int, frame_time_ms: float | None) -> dict[str, float]:
    """Shape and timing of an LV volume curve ``T`` that begins at ED; ``es`` is the declared index of ES.

    ``es_shift`` and ``systole`` are fractions of the cycle, ``ejection`` and ``filling`` are in EDV/s, ``roughness`` is
    the ratio of second to first differences, ``above_ed`` the fraction by which another frame is larger than ED.
    """
    v, frames = volumes_ml / volumes_ml[0], len(volumes_ml)
    steps, lowest = np.diff(v, append=v[0]), int(v.argmin())
    per_second = 1000.0 / frame_time_ms if frame_time_ms else np.nan
    bends = np.abs(np.diff(steps, append=steps[0])).mean()
    return {
        "es_shift": abs(lowest - es) / frames,
        "systole": lowest / frames,
        "ejection": float(-steps.min() * per_second),
        "filling": float(steps.max() * per_second),
        "minima": float(_minima(v)),
        "roughness": float(bends / np.abs(steps).mean()) if steps.any() else np.nan,
        "above_ed": float(v.max() - 1.0),
    }


def _minima(v: Curve) -> int:
    """Dips of a periodic curve deeper than `MIN_DIP` of its range, counted from its largest value on."""
    least, falling, turn, count = MIN_DIP * float(np.ptp(v)), True, float(v.max()), 0
    for value in map(float, [*np.roll(v, -int(v.argmax())), v.max()]):
        if falling and value > turn + least:
            falling, turn, count = False, value, count + 1
        elif not falling and value < turn - least:
            falling, turn = True, value
        turn = min(turn, value) if falling else max(turn, value)
    return count


def _of_cycle(cycle: _Cycle) -> dict[str, float]:
    """Changes of the image over the cycle, in percent of the grey range, and their ratios."""
    image, outside = cycle.case.image, cycle.outside
    inside = image[:, cycle.near].reshape(len(image), -1)  # T V
    away = np.zeros((len(image), len(image)))
    for a, b in combinations(range(len(image)), 2):
        away[a, b] = away[b, a] = _difference(inside[a], inside[b]) / inside.shape[1]
    steps, frames = np.diagonal(away, 1), len(away)
    step, pairs = float(steps.mean()), float(away.sum() / (frames * (frames - 1)))
    result = {"step": 100.0 * step / MAX_GREY}
    if step > 0:
        result |= {"closure": float(away[0, -1]) / step, "consecutive_change": step / pairs}
    if outside.any():
        columns = (frame.sum(axis=-1, dtype=np.uint32) for frame in image)  # X Y
        mean = np.array([column[~cycle.near].sum() for column in columns]) / outside.sum()
        bend = mean - 0.5 * (np.roll(mean, 1) + np.roll(mean, -1))
        result |= {
            "background_temporal_sd": 100.0 * float(_temporal_sd(image)[outside].mean()) / MAX_GREY,
            "flicker": 100.0 * float(np.abs(bend).max() / mean.mean()),
        }
    return result


def _difference(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> int:
    """Sum of absolute differences, exact, and several times as fast as with wider numbers."""
    return int((np.maximum(a, b) - np.minimum(a, b)).sum(dtype=np.uint64))


def _temporal_sd(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Standard deviation over time of each voxel of ``T X Y Z``: ``X Y Z``. The sums are exact."""
    total, squares = (np.zeros_like(image[0], dtype=np.uint32) for _ in range(2))
    for frame in image:
        grey = frame.astype(np.uint32)
        total += grey
        squares += grey * grey
    return np.asarray(np.sqrt(np.maximum(squares / len(image) - (total / len(image)) ** 2, 0.0)))


@dataclass(frozen=True, eq=False)
class _Cycle:
    """A heart with ED as frame 0."""

    case: Case

    @classmethod
    def of(cls, case: Case) -> _Cycle:
        image, label = (np.roll(volumes, -case.ed, axis=0) for volumes in (case.image, case.label))
        coverage = np.roll(case.coverage, -case.ed, axis=0)
        es = (case.es - case.ed) % len(image)
        return cls(replace(case, image=image, label=label, coverage=coverage, ed=0, es=es))

    @cached_property
    def known(self) -> dict[Label, bool]:
        """Structures whose volume is known at every frame of a whole cycle."""
        return {
            s: self.case.whole_cycle and all(is_contiguous(frame) for frame in self.case.coverage[..., i])
            for i, s in enumerate(STRUCTURES)
        }

    @cached_property
    def volumes(self) -> dict[Label, Curve]:
        """Millilitres ``T`` by structure."""
        return {s: voxel_counts(self.case.label, s) * self.case.voxel_ml for s in STRUCTURES}

    def curves(self) -> Curve:
        """Volumes over those at ED, ``S PHASES``; NaN for a structure that is not known at every frame."""
        rows = [self.volumes[s] / v0 if self.known[s] and (v0 := self.volumes[s][0]) else None for s in STRUCTURES]
        return np.stack([np.full(PHASES, np.nan) if row is None else resampled(row) for row in rows])

    def path(self) -> Curve:
        """In-plane displacement of the LV's centre from its place at ED, in cm, ``2 PHASES``."""
        if not self.known[Label.LV] or not self.volumes[Label.LV].all():
            return np.full((2, PHASES), np.nan)
        x, y = (np.flatnonzero(self._heart.any(axis=axis)) for axis in (1, 0))
        heart = self.case.label[:, x[0] : x[-1] + 1, y[0] : y[-1] + 1]
        centres = [ndimage.center_of_mass((frame == Label.LV).sum(axis=-1)) for frame in heart]
        cm = (np.array(centres) - centres[0]) * np.array(self.case.spacing_mm[:2]) / 10.0  # T 2
        return np.stack([resampled(axis) for axis in cm.T])

    @cached_property
    def outside(self) -> BoolArray:
        """Voxels ``X Y Z`` that are not `near` the heart, and not black at every frame."""
        return np.asarray(~self.near[..., None] & (self.case.image.max(axis=0) > 0))

    @cached_property
    def _heart(self) -> BoolArray:
        """Pixels ``X Y`` of anything annotated in any slice and frame."""
        return np.asarray(self.case.label.max(axis=0).any(axis=-1))

    @cached_property
    def near(self) -> BoolArray:
        """Pixels ``X Y`` in and near the heart: within a margin of `_heart`, in all slices."""
        if not self._heart.any():
            return np.ones_like(self._heart)
        with_rv = bool(self.case.coverage[..., STRUCTURES.index(Label.RV)].any())
        away_mm = ndimage.distance_transform_edt(~self._heart, sampling=self.case.spacing_mm[:2])
        return np.asarray(away_mm <= (10.0 if with_rv else 45.0), dtype=np.bool_)  # 45 mm from the LV hold the RV too


def resampled(values: Curve) -> Curve:
    """A periodic curve ``T`` at `PHASES` times."""
    frames = len(values)
    return np.interp(np.arange(PHASES) / PHASES * frames, np.arange(frames), values, period=frames)
