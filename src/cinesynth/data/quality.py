"""What a person should look at: checks on one study, each with what was measured and the limits it should keep.

The limits are wide: a flag asks for a look, it is no verdict, and nothing is dropped for it. Where a reason names
ACDC or M&Ms, it gives what their 80 and 64 patients measure.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cinesynth.physiology import (
    FRAMES_IN_CYCLE_RANGE,
    LV_BY_DIAGNOSIS,
    LV_RANGES,
    MYO_ES_PERCENT_RANGE,
    MYO_RANGE_ML,
    RV_EDV_RANGE_ML,
    SLICE_STEP_RANGE_MM,
)
from cinesynth.types import STRUCTURES, BoolArray, Diagnosis, FloatArray, Label, Study, volumes_ml

BLACK_PERCENT = 5.0
"""Least standard deviation of a frame or slice, of the whole study's; in ACDC and M&Ms 28 % and more."""
FLICKER_PERCENT = 4.0
"""Most that a slice may be brighter or darker than in the frames around it; in whole cycles at hand up to 2.8 %."""
PAIR_FLICKER_PERCENT = 7.5
"""The same, from the mean of both, where only ED and ES are stored; 8 of ACDC have them scaled apart, none of M&Ms."""

SPREADS = 3.0
"""Standard deviations between a study and its group: one of 370 lies farther off where the group is a normal one."""
EXCESS_PERCENT = 10.0
"""Most that the cavity of another frame may exceed that of ED, or fall short of that of ES: then it is ED, or ES."""

PARTS_PERCENT = 5.0
"""Most of a structure that may lie apart from its largest part; in ACDC and M&Ms up to 4.7 %."""
REACH_MM = 130.0
"""Farthest that a label may lie from the centre of the LV, in the plane; dilated RVs of M&Ms reach 114 mm."""
MOTION_RATIO = 1.2
"""Least change over time under the labels, of that elsewhere: hearts move, chests do not. ACDC has 2.7 and more."""
STILL = 1e-3
"""Change, of the mean brightness, below which nothing moves: noise alone is more."""
MARGIN_MM = 10.0
"""Around the labels the image still moves with the heart."""

SHIFT_MM = 10.0
"""Most that a slice may lie beside the middle of its neighbours: breath-holds differ by less. 3 of ACDC, 6 of M&Ms."""
LARGE_SLICE = 0.3
"""Share of the largest slice's area from which on the centre of a slice is that of the heart, not of its tip."""

Limits = tuple[float, float]


@dataclass(frozen=True)
class Check:
    """One thing measured on a study, and the limits between which it raises no question."""

    name: str
    value: float
    low: float = -math.inf
    high: float = math.inf
    unit: str = ""
    where: str = ""

    @property
    def flagged(self) -> bool:
        """Whether the value lies outside its limits, or is no number."""
        return not self.low <= self.value <= self.high

    @property
    def limits(self) -> str:
        """The limits in words."""
        if math.isinf(self.low):
            return f"at most {self.high:.4g}"
        return f"at least {self.low:.4g}" if math.isinf(self.high) else f"{self.low:.4g} to {self.high:.4g}"

    def __str__(self) -> str:
        measured = f"{self.value:.4g} {self.unit}".rstrip()
        return f"{self.name} {measured} (expected {self.limits})" + (f", {self.where}" if self.where else "")


def flags(study: Study) -> tuple[Check, ...]:
    """The checks of ``study`` that ask for a look."""
    return tuple(check for check in checks(study) if check.flagged)


def checks(study: Study) -> tuple[Check, ...]:
    """All that can be checked on ``study``; what its labels and frames say nothing about is left out."""
    return (*image_checks(study), *volume_checks(study), *label_checks(study), *stack_checks(study))


def image_checks(study: Study) -> Iterator[Check]:
    """Black frames and slices, flicker, and frames that are one and the same."""
    image = study.image.astype(np.float32)
    spread = float(image.std()) / 100.0 or math.inf
    for name, axes in (("contrast of a frame", (1, 2, 3)), ("contrast of a slice", (1, 2))):
        spreads = image.std(axis=axes)
        place = _place(spreads.argmin(), spreads.shape)
        yield Check(name, float(spreads[place]) / spread, BLACK_PERCENT, unit="%", where=_where(study, *place))
    change = brightness_change_percent(image)
    place = _place(change.argmax(), change.shape)
    if len(image) > 3:
        yield Check("flicker", float(change[place]), high=FLICKER_PERCENT, unit="%", where=_where(study, *place))
    else:
        where = _where(study, place[0])
        yield Check("flicker", float(change[place]), high=PAIR_FLICKER_PERCENT, unit="%", where=where)
    yield Check("frames that differ", len({frame.tobytes() for frame in study.image}), low=len(image))
    if study.frames_in_cycle > 2:
        yield Check("frames in the cycle", study.frames_in_cycle, *FRAMES_IN_CYCLE_RANGE)


def brightness_change_percent(image: FloatArray) -> NDArray[np.float64]:
    """How far the mean of each slice, ``T Z``, leaves the median of its own and the two frames around it.

    Of up to three frames, as ``T 1``: how far the mean of each leaves that of all.
    """
    brightness = image.mean(axis=(1, 2), dtype=np.float64) - float(image.min())  # T Z
    if len(image) > 3:
        usual = np.median([np.roll(brightness, step, axis=0) for step in (-1, 0, 1)], axis=0)
    else:
        brightness = brightness.mean(axis=1, keepdims=True)
        usual = brightness.mean(axis=0, keepdims=True)
    level = np.maximum(brightness.mean(axis=0), 1e-9)
    return np.asarray(100.0 * np.abs(brightness - usual) / level)


def lv_limits(diagnosis: Diagnosis) -> tuple[Limits, Limits, Limits]:
    """Limits of EDV and ESV in mL and of EF in percent: those of the group, within those of anyone."""
    if diagnosis not in LV_BY_DIAGNOSIS:
        return LV_RANGES
    edv, esv, ef = (
        (max(low, mean - SPREADS * spread), min(high, mean + SPREADS * spread))
        for (low, high), (mean, spread) in zip(LV_RANGES, LV_BY_DIAGNOSIS[diagnosis], strict=True)
    )
    return edv, esv, ef


def volume_checks(study: Study) -> Iterator[Check]:
    """Volumes, ejection fraction and phases against what hearts have; of annotated structures only."""
    curves = {structure: volume_curve(study, structure) for structure in STRUCTURES}
    ed, es = (int(np.flatnonzero(study.frame_index == index)[0]) for index in (study.ed_index, study.es_index))
    yield from _lv_checks(study, curves[Label.LV], ed, es)
    for name, structure, limits in (("RV EDV", Label.RV, RV_EDV_RANGE_ML), ("MYO at ED", Label.MYO, MYO_RANGE_ML)):
        if np.isfinite(curves[structure][ed]):
            yield Check(name, float(curves[structure][ed]), *limits, unit="mL")
    muscle_ed, muscle_es = curves[Label.MYO][[ed, es]]
    if muscle_ed > 0 and np.isfinite(muscle_es):
        yield Check("MYO at ES of ED", 100.0 * float(muscle_es / muscle_ed), *MYO_ES_PERCENT_RANGE, unit="%")


def volume_curve(study: Study, structure: Label) -> FloatArray:
    """Volume of ``structure`` in each stored frame, mL, shape ``T``; NaN where no slice of it was annotated."""
    covered = study.coverage[..., STRUCTURES.index(structure)].any(axis=1)
    return np.where(covered, volumes_ml(study.label, structure, study.voxel_ml), np.float32(np.nan))


def _lv_checks(study: Study, curve: FloatArray, ed: int, es: int) -> Iterator[Check]:
    edv, esv = float(curve[ed]), float(curve[es])
    edv_limits, esv_limits, ef_limits = lv_limits(study.diagnosis)
    if math.isfinite(edv):
        yield Check("LV EDV", edv, *edv_limits, unit="mL")
    if math.isfinite(esv):
        yield Check("LV ESV", esv, *esv_limits, unit="mL")
    if not edv > 0 or not esv > 0:
        return
    yield Check("EF", 100.0 * (1.0 - esv / edv), *ef_limits, unit="%")
    coverage = study.coverage[..., STRUCTURES.index(Label.LV)]
    alike = (coverage == coverage[es]).all(axis=1)
    largest, smallest = int(np.nanargmax(curve)), int(np.nanargmin(np.where(alike, curve, np.nan)))
    above, below = 100.0 * (float(curve[largest]) / edv - 1.0), 100.0 * (1.0 - float(curve[smallest]) / esv)
    yield Check("LV above ED", above, high=EXCESS_PERCENT, unit="%", where=_where(study, largest))
    yield Check("LV below ES", below, high=EXCESS_PERCENT, unit="%", where=_where(study, smallest))


def label_checks(study: Study) -> Iterator[Check]:
    """Structures in pieces, and labels that do not lie where the heart is."""
    for structure in STRUCTURES:
        if (study.label == structure).any():
            apart = [(_apart_percent(study.label[t] == structure), int(t)) for t in np.flatnonzero(study.labelled)]
            percent, frame = max(apart)
            yield Check(f"{structure.name} apart", percent, high=PARTS_PERCENT, unit="%", where=_where(study, frame))
    heart, cavity = _projected(study.label > 0), _projected(study.label == Label.LV)  # X Y
    if not heart.any():
        return
    centre = _centre(cavity if cavity.any() else heart, study)
    offsets = np.argwhere(heart) * study.spacing_mm[:2] - centre
    yield Check("reach of the labels", float(np.hypot(*offsets.T).max()), high=REACH_MM, unit="mm")
    near = ndimage.distance_transform_edt(~heart, sampling=study.spacing_mm[:2]) <= MARGIN_MM
    if len(study.image) > 1 and not near.all():
        yield Check("motion under the labels", _motion_ratio(study, near), low=MOTION_RATIO)


def stack_checks(study: Study) -> Iterator[Check]:
    """The slices: their step, and shifts and gaps that the labels show."""
    yield Check("slice step", study.spacing_mm[2], *SLICE_STEP_RANGE_MM, unit="mm")
    present = np.stack([(study.label == structure).any(axis=(1, 2)) for structure in STRUCTURES], axis=-1)  # T Z S
    if not present.any():
        return
    yield Check("slices without labels between labelled ones", int(_gaps(present).max()), high=0)
    shifts = slice_shifts_mm(study)
    if np.isfinite(shifts).any():
        worst = int(np.nanargmax(shifts))
        yield Check("shift of a slice", float(shifts[worst]), high=SHIFT_MM, unit="mm", where=f"slice {worst}")


def slice_shifts_mm(study: Study) -> NDArray[np.float64]:
    """In-plane distance of the LV in each slice from midway between its neighbours, ``Z``; NaN where they are small."""
    weight = (study.label >= Label.MYO)[study.labelled].mean(axis=0, dtype=np.float64)  # X Y Z, cavity and wall
    area = weight.sum(axis=(0, 1))
    result = np.full(len(area), np.nan)
    large = area >= max(LARGE_SLICE * float(area.max(initial=0.0)), 1e-9)
    for z in range(1, len(area) - 1):
        if large[z - 1 : z + 2].all():
            before, here, after = (_centre(weight[..., i], study) for i in (z - 1, z, z + 1))
            result[z] = np.hypot(*(here - (before + after) / 2))
    return result


def _gaps(present: BoolArray) -> NDArray[np.int64]:
    """Empty slices between full ones along ``Z`` of ``T Z S``, shape ``T S``."""
    begun = np.logical_or.accumulate(present, axis=1)
    to_come = np.logical_or.accumulate(present[:, ::-1], axis=1)[:, ::-1]
    return np.asarray((begun & to_come & ~present).sum(axis=1))


def _apart_percent(mask: BoolArray) -> float:
    """Share of an ``X Y Z`` mask outside its largest part; parts that touch at a corner are one."""
    where = np.nonzero(mask)
    if not len(where[0]):
        return 0.0
    box = tuple(slice(int(axis.min()), int(axis.max()) + 1) for axis in where)
    parts, _ = ndimage.label(mask[box], np.ones((3, 3, 3)))
    sizes = np.bincount(parts.ravel())[1:]
    return 100.0 * (1.0 - float(sizes.max()) / float(sizes.sum()))


def _motion_ratio(study: Study, near: BoolArray) -> float:
    image = study.image.astype(np.float32) - float(study.image.min())
    image /= np.maximum(image.mean(axis=(1, 2, 3), keepdims=True), 1e-9)
    motion = image.std(axis=0).mean(axis=-1)  # X Y
    return float(motion[near].mean()) / max(float(motion[~near].mean()), STILL)


def _projected(mask: BoolArray) -> BoolArray:
    """Where a ``T X Y Z`` mask is set in any frame and slice, ``X Y``."""
    return np.asarray(mask.any(axis=(0, 3)), dtype=np.bool_)


def _centre(weight: NDArray[np.float64] | BoolArray, study: Study) -> NDArray[np.float64]:
    """Centre of mass of an ``X Y`` weight, mm."""
    return np.asarray(ndimage.center_of_mass(weight)) * study.spacing_mm[:2]


def _place(flat: np.intp, shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(int(i) for i in np.unravel_index(flat, shape))


def _where(study: Study, frame: int, slice_index: int | None = None) -> str:
    name = f"frame {study.frame_index[frame]}"
    return name if slice_index is None else f"{name}, slice {slice_index}"
