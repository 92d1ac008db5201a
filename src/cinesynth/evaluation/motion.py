"""How one heart moves: volume curves, their shape and timing, and what changes from frame to frame.

Every number is of one heart from ED on. What it cannot tell is NaN: curves where a structure was not annotated at
every frame, rates without a frame time, and all but the change from ED to ES where there is no whole cycle.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.distance import cdist

from cinesynth.evaluation.cases import Case
from cinesynth.evaluation.measure import Measurer
from cinesynth.types import STRUCTURES, BoolArray, Label, LabelArray, is_contiguous

PHASES = 32
"""Points of a resampled curve, evenly spaced in time, the first at ED."""
PROMINENT = 0.1
"""Share of the stroke volume below which a dip of the volume curve is no second minimum."""
MARGIN_MM, WIDE_MARGIN_MM = 10.0, 45.0
"""Around all annotated hearts, and around those without an RV, which lies within the wider one."""
GREYS = 255.0

CURVE = ("es_shift", "systole", "ejection", "filling", "minima", "roughness", "above_ed")
CYCLE = ("closure", "step", "jump", "boiling", "flicker")
PAIR = ("pair_outside", "pair_inside")
Curve = NDArray[np.float64]


def motion() -> Measurer:
    """The measurer of everything in this module; its arrays are ``motion.curves`` and those of `CURVE` ..."""
    return Measurer("motion", "1", measure_motion)


def measure_motion(case: Case) -> dict[str, object]:
    """All numbers of a heart, and 1 or 0 for what it has: `whole` cycle, something imaged `around` the heart in it,
    the LV `known` at each of its frames, and these `timed`.
    """
    beat = _Beat.of(case)
    unknown = {name: np.nan for name in (*CURVE, *CYCLE)}
    found: dict[str, object] = {**unknown, **_has(beat), "curves": beat.curves(), "path": beat.path(), **_pair(beat)}
    if case.whole_cycle:
        found |= _of_cycle(beat)
        if beat.known[Label.LV] and beat.volumes[Label.LV][0] > 0:
            found |= of_curve(beat.volumes[Label.LV], beat.es, case.frame_time_ms)
    return found


def _has(beat: _Beat) -> dict[str, bool]:
    whole, known = beat.case.whole_cycle, beat.known[Label.LV]
    around, timed = beat.outside.size > 0, beat.case.frame_time_ms is not None
    return {"whole": whole, "around": whole and around, "known": known, "timed": known and timed}


def of_curve(volumes_ml: Curve, es: int, frame_time_ms: float | None) -> dict[str, float]:
    """Shape and timing of an LV volume curve ``T`` that begins at ED; ``es`` is the declared index of ES.

    Shares of the cycle (`es_shift`, `systole`), EDV/s, a count, the ratio of second to first differences, and the
    share by which another frame is larger than ED.
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
    """Dips of a periodic curve that are deeper than `PROMINENT` of its range, seen from its largest value on."""
    least, falling, turn, count = PROMINENT * float(np.ptp(v)), True, float(v.max()), 0
    for value in map(float, [*np.roll(v, -int(v.argmax())), v.max()]):
        if falling and value > turn + least:
            falling, turn, count = False, value, count + 1
        elif not falling and value < turn - least:
            falling, turn = True, value
        turn = min(turn, value) if falling else max(turn, value)
    return count


def _of_cycle(beat: _Beat) -> dict[str, float]:
    """Changes of the image over the cycle, in percent of the range of grey values, and their ratios."""
    away = cdist(beat.inside, beat.inside, "cityblock") / beat.inside.shape[1]
    steps, frames = np.diagonal(away, 1), len(away)
    step, pairs = float(steps.mean()), float(away.sum() / (frames * (frames - 1)))
    result = {"step": 100.0 * step / GREYS}
    if step > 0:
        result |= {"closure": float(away[0, -1]) / step, "jump": step / pairs}
    if beat.outside.size:
        mean = beat.outside.mean(axis=1)
        bend = mean - 0.5 * (np.roll(mean, 1) + np.roll(mean, -1))
        result |= {
            "boiling": 100.0 * float(beat.outside.std(axis=0).mean()) / GREYS,
            "flicker": 100.0 * float(np.abs(bend).max() / mean.mean()),
        }
    return result


def _pair(beat: _Beat) -> dict[str, float]:
    """Mean change from ED to ES in and around the heart, percent of the range; every study has these two frames."""
    parts = {"pair_inside": beat.inside, "pair_outside": beat.outside}
    return {
        name: 100.0 * float(np.abs(x[0] - x[beat.es]).mean()) / GREYS if x.size else np.nan for name, x in parts.items()
    }


@dataclass(frozen=True, eq=False)
class _Beat:
    """A heart's frames from ED on."""

    case: Case
    image: NDArray[np.uint8]  # T X Y Z
    label: LabelArray  # T X Y Z
    coverage: BoolArray  # T Z S
    es: int

    @classmethod
    def of(cls, case: Case) -> _Beat:
        """The same heart, with ED as frame 0."""
        image, label = (np.roll(volumes, -case.ed, axis=0) for volumes in (case.image, case.label))
        coverage = np.roll(case.coverage, -case.ed, axis=0)
        return cls(case, image, label, coverage, (case.es - case.ed) % len(image))

    @cached_property
    def known(self) -> dict[Label, bool]:
        """Structures whose volume is known at every frame of a whole cycle."""
        return {
            s: self.case.whole_cycle and all(is_contiguous(frame) for frame in self.coverage[..., i])
            for i, s in enumerate(STRUCTURES)
        }

    @cached_property
    def volumes(self) -> dict[Label, Curve]:
        """Millilitres ``T`` by structure."""
        shown = [(self.label == s).reshape(len(self.label), -1).sum(axis=1) for s in STRUCTURES]
        return {s: n * self.case.voxel_ml for s, n in zip(STRUCTURES, shown, strict=True)}

    def curves(self) -> Curve:
        """Volumes as shares of those at ED, ``S PHASES``; NaN where a structure is not known throughout."""
        rows = [self.volumes[s] / v0 if self.known[s] and (v0 := self.volumes[s][0]) else None for s in STRUCTURES]
        return np.stack([np.full(PHASES, np.nan) if row is None else resampled(row) for row in rows])

    def path(self) -> Curve:
        """In-plane displacement of the centre of the LV from where it is at ED, ``2 PHASES``, centimetres."""
        if not self.known[Label.LV] or not self.volumes[Label.LV].all():
            return np.full((2, PHASES), np.nan)
        centres = [ndimage.center_of_mass((frame == Label.LV).sum(axis=-1)) for frame in self.label]
        cm = (np.array(centres) - centres[0]) * np.array(self.case.spacing_mm[:2]) / 10.0  # T 2
        return np.stack([resampled(axis) for axis in cm.T])

    @cached_property
    def inside(self) -> NDArray[np.float32]:
        """Grey values ``T V`` of the columns of voxels around the heart."""
        return self.image[:, self._near].reshape(len(self.image), -1).astype(np.float32)

    @cached_property
    def outside(self) -> NDArray[np.float32]:
        """Grey values ``T V`` of all others that are not black throughout."""
        far = self.image[:, ~self._near].reshape(len(self.image), -1)
        return far[:, far.any(axis=0)].astype(np.float32)

    @cached_property
    def _near(self) -> BoolArray:
        """The plane (``X Y``) within a margin of what is annotated of the heart in any slice and frame."""
        heart: BoolArray = np.asarray(self.label.any(axis=(0, 3)), dtype=np.bool_)
        if not heart.any():
            return np.ones(heart.shape, dtype=np.bool_)
        with_rv = bool(self.coverage[..., STRUCTURES.index(Label.RV)].any())
        away_mm = ndimage.distance_transform_edt(~heart, sampling=self.case.spacing_mm[:2])
        return np.asarray(away_mm <= (MARGIN_MM if with_rv else WIDE_MARGIN_MM), dtype=np.bool_)


def resampled(values: Curve) -> Curve:
    """A periodic curve ``T`` at `PHASES` times."""
    frames = len(values)
    return np.interp(np.arange(PHASES) / PHASES * frames, np.arange(frames), values, period=frames)


# --- Volume curves as a picture --------------------------------------------------------------------------------------


GENERATED, PEOPLE = "#b3430f", "#2f6fa8"
SHOWN = 60
"""Curves of a set that are drawn."""

Curves = Sequence[NDArray[np.float64]]


def draw_curves(generated: Curves, people: Curves) -> bytes:
    """LV volumes over EDV against the share of the cycle, as PNG: thin lines for hearts, thick ones for medians."""
    figure = Figure(figsize=(7.0, 3.4), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for curves, colour, name in ((people, PEOPLE, "people"), (generated, GENERATED, "generated")):
        if len(curves):
            whole = np.array([[*curve, curve[0]] for curve in curves])
            times = np.linspace(0.0, 1.0, whole.shape[1])
            axes.plot(times, whole[:SHOWN].T, color=colour, linewidth=0.6, alpha=0.3)
            axes.plot(times, np.median(whole, axis=0), color=colour, linewidth=2.2, label=f"{name}, median")
    axes.set(xlabel="share of the cycle after ED", ylabel="LV volume / EDV", xlim=(0, 1), ylim=(0, None))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower right")
    picture = io.BytesIO()
    figure.savefig(picture, format="png", metadata={"Software": None})
    return picture.getvalue()
