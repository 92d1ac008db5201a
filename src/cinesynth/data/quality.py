"""Quality control of one study: measured values and the limits within which they raise no question.

The limits are wide. A flagged check asks a person to look; nothing is dropped because of it. What `plausibility` knows
may refuse a study; `flags` lists both. Values given for ACDC and
M&Ms are those of 80 and 64 of their patients.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import scipy
from numpy.typing import NDArray

from cinesynth import physiology
from cinesynth.data.flag import Flag
from cinesynth.data.label_shape import largest_part
from cinesynth.data.plausibility import implausible
from cinesynth.types import STRUCTURES, BoolArray, Diagnosis, FloatArray, Label, Study, volumes_ml


class QualityLimits(NamedTuple):
    """The limits that are not of human hearts but of images and labels (those of hearts are in `physiology`)."""

    min_contrast_percent: float = 5.0
    """Standard deviation of a frame or slice in percent of the whole study's; 28 % and more in ACDC and M&Ms."""
    max_flicker_percent: float = 4.0
    """Brightness of a slice relative to the frames around it; up to 2.8 % in the whole cycles at hand."""
    max_pair_flicker_percent: float = 7.5
    """The same relative to the mean of ED and ES, where only these are stored; exceeded by 8 of ACDC, none of M&Ms."""
    max_group_deviation: float = 3.0
    """Standard deviations from the mean of the diagnosis group; 1 of 370 of a normal distribution lies farther off."""
    max_phase_excess_percent: float = 10.0
    """Cavity of another frame above that of ED, or below that of ES: that frame is then rather ED, or ES."""
    max_apart_percent: float = 5.0
    """Part of a structure that is not connected to its largest piece; up to 4.7 % in ACDC and M&Ms."""
    max_reach_mm: float = 130.0
    """In-plane distance of a label from the centre of the LV; dilated RVs of M&Ms reach 114 mm."""
    min_motion_ratio: float = 1.2
    """Change over time under the labels relative to the rest of the image; 2.7 and more in ACDC."""
    motion_margin_mm: float = 10.0
    """Distance from the labels within which the image still moves with the heart."""
    max_shift_mm: float = 10.0
    """Distance of a slice from midway between its neighbours, mostly by breathing; exceeded by 3 of ACDC, 6 of M&Ms."""
    min_slice_fraction: float = 0.3
    """Smallest area, relative to the largest slice, at which a slice shows the heart's centre and not just its tip."""


LIMITS = QualityLimits()
Limits = tuple[float, float]


class QualityCheck(NamedTuple):
    """One value measured on a study, and its limits."""

    name: str
    value: float
    low: float = -math.inf
    high: float = math.inf
    unit: str = ""
    where: str = ""

    @property
    def flagged(self) -> bool:
        """Whether the value lies outside its limits, or is NaN."""
        return not self.low <= self.value <= self.high

    @property
    def limits(self) -> str:
        """The limits as text."""
        if math.isinf(self.low):
            return f"at most {self.high:.4g}"
        return f"at least {self.low:.4g}" if math.isinf(self.high) else f"{self.low:.4g} to {self.high:.4g}"

    def __str__(self) -> str:
        measured = f"{self.value:.4g} {self.unit}".rstrip()
        return f"{self.name} {measured} (expected {self.limits})" + (f", {self.where}" if self.where else "")


def flags(study: Study) -> tuple[Flag, ...]:
    """Everything about ``study`` that its user should know, each with its grade; those that stop it come first."""
    known = (*implausible(study), *oddities(study))
    return (*sorted(known, key=lambda flag: flag.grade != "stops"), *_looks(study))


def _looks(study: Study) -> Iterator[Flag]:
    return (Flag(check.name, "look", str(check)) for check in flagged_checks(study))


def oddities(study: Study) -> Iterator[Flag]:
    """What is rare but may be right: skewed voxels, and annotated structures without a voxel."""
    axes = study.affine[:3, :3] / study.spacing_mm
    if (skew := float(np.abs(axes.T @ axes - np.eye(3)).max())) > 0.01:
        yield Flag("skew", "look", f"voxel edges are not perpendicular (cosine {skew:.2f})")
    for name, index in (("ED", study.ed_index), ("ES", study.es_index)):
        frame = np.flatnonzero(study.frame_index == index)[0]
        seen, covered = set(np.unique(study.label[frame]).tolist()), study.coverage[frame].any(axis=0)
        if empty := [s.name for i, s in enumerate(STRUCTURES) if covered[i] and s not in seen]:
            yield Flag("empty", "look", f"{', '.join(empty)} was annotated at {name} but has no voxels")


def flagged_checks(study: Study) -> tuple[QualityCheck, ...]:
    """The checks of ``study`` that a person should look at."""
    return tuple(check for check in quality_checks(study) if check.flagged)


def quality_checks(study: Study) -> tuple[QualityCheck, ...]:
    """All checks that the frames and labels of ``study`` allow."""
    return (*image_checks(study), *volume_checks(study), *label_checks(study), *stack_checks(study))


def image_checks(study: Study) -> Iterator[QualityCheck]:
    """Contrast of frames and slices, flicker, repeated frames, and the number of frames."""
    image = study.image.astype(np.float32)
    spread = float(image.std()) / 100.0 or math.inf
    for name, axes in (("contrast of a frame", (1, 2, 3)), ("contrast of a slice", (1, 2))):
        spreads = image.std(axis=axes)
        where = _where(study, *np.unravel_index(spreads.argmin(), spreads.shape))
        yield QualityCheck(name, float(spreads.min()) / spread, LIMITS.min_contrast_percent, unit="%", where=where)
    # Flicker: how far each slice's mean is from the median over its frame and the two around it; of up to three frames,
    # how far each frame's mean is from that of all.
    brightness = image.mean(axis=(1, 2), dtype=np.float64) - float(image.min())  # T Z
    whole = len(image) > 3
    if whole:
        usual = np.median([np.roll(brightness, step, axis=0) for step in (-1, 0, 1)], axis=0)
    else:
        brightness = brightness.mean(axis=1, keepdims=True)
        usual = brightness.mean(axis=0, keepdims=True)
    change = 100.0 * np.abs(brightness - usual) / np.maximum(brightness.mean(axis=0), 1e-9)
    frame, place = np.unravel_index(change.argmax(), change.shape)
    most = LIMITS.max_flicker_percent if whole else LIMITS.max_pair_flicker_percent
    where = _where(study, frame, place) if whole else _where(study, frame)
    yield QualityCheck("flicker", float(change.max()), high=most, unit="%", where=where)
    yield QualityCheck("frames that differ", len({frame.tobytes() for frame in study.image}), low=len(image))
    if study.frames_in_cycle > 2:
        yield QualityCheck("frames in the cycle", study.frames_in_cycle, *physiology.FRAMES_IN_CYCLE_RANGE)


def lv_limits(diagnosis: Diagnosis) -> tuple[Limits, Limits, Limits]:
    """Limits of EDV and ESV in mL and of EF in percent: those of the group, where narrower than those of all hearts."""
    if diagnosis not in physiology.LV_BY_DIAGNOSIS:
        return physiology.LV_RANGES
    edv, esv, ef = (
        (max(low, mean - LIMITS.max_group_deviation * spread), min(high, mean + LIMITS.max_group_deviation * spread))
        for (low, high), (mean, spread) in zip(physiology.LV_RANGES, physiology.LV_BY_DIAGNOSIS[diagnosis], strict=True)
    )
    return edv, esv, ef


def volume_checks(study: Study) -> Iterator[QualityCheck]:
    """Volumes, ejection fraction and choice of ED and ES, for annotated structures."""
    curves = {structure: volume_curve(study, structure) for structure in STRUCTURES}
    ed, es = (int(np.flatnonzero(study.frame_index == index)[0]) for index in (study.ed_index, study.es_index))
    yield from _lv_checks(study, curves[Label.LV], ed, es)
    ranges = (("RV EDV", Label.RV, physiology.RV_EDV_RANGE_ML), ("MYO at ED", Label.MYO, physiology.MYO_RANGE_ML))
    for name, structure, limits in ranges:
        if np.isfinite(curves[structure][ed]):
            yield QualityCheck(name, float(curves[structure][ed]), *limits, unit="mL")
    muscle_ed, muscle_es = curves[Label.MYO][[ed, es]]
    if muscle_ed > 0 and np.isfinite(muscle_es):
        percent = 100.0 * float(muscle_es / muscle_ed)
        yield QualityCheck("MYO at ES of ED", percent, *physiology.MYO_ES_PERCENT_RANGE, unit="%")


def volume_curve(study: Study, structure: Label) -> FloatArray:
    """Volume of ``structure`` in each stored frame, mL, shape ``T``; NaN where it was not annotated in any slice."""
    covered = study.coverage[..., STRUCTURES.index(structure)].any(axis=1)
    return np.where(covered, volumes_ml(study.label, structure, study.voxel_ml), np.float32(np.nan))


def _lv_checks(study: Study, curve: FloatArray, ed: int, es: int) -> Iterator[QualityCheck]:
    edv, esv = float(curve[ed]), float(curve[es])
    edv_limits, esv_limits, ef_limits = lv_limits(study.diagnosis)
    if math.isfinite(edv):
        yield QualityCheck("LV EDV", edv, *edv_limits, unit="mL")
    if math.isfinite(esv):
        yield QualityCheck("LV ESV", esv, *esv_limits, unit="mL")
    if not edv > 0 or not esv > 0:
        return
    yield QualityCheck("EF", 100.0 * (1.0 - esv / edv), *ef_limits, unit="%")
    coverage = study.coverage[..., STRUCTURES.index(Label.LV)]
    alike = (coverage == coverage[es]).all(axis=1)
    largest, smallest = int(np.nanargmax(curve)), int(np.nanargmin(np.where(alike, curve, np.nan)))
    above, below = 100.0 * (float(curve[largest]) / edv - 1.0), 100.0 * (1.0 - float(curve[smallest]) / esv)
    for name, percent, frame in (("LV above ED", above, largest), ("LV below ES", below, smallest)):
        where = _where(study, frame)
        yield QualityCheck(name, percent, high=LIMITS.max_phase_excess_percent, unit="%", where=where)


def label_checks(study: Study) -> Iterator[QualityCheck]:
    """Structures in several pieces, and labels that are not where the heart is."""
    for structure in STRUCTURES:
        if (study.label == structure).any():
            parts = ((study.label[t] == structure, int(t)) for t in np.flatnonzero(study.labelled))
            apart = [(100.0 * (1.0 - largest_part(part)) if part.any() else 0.0, t) for part, t in parts]
            percent, frame = max(apart)
            yield QualityCheck(
                f"{structure.name} apart", percent, high=LIMITS.max_apart_percent, unit="%", where=_where(study, frame)
            )
    heart, cavity = (np.asarray(mask.any(axis=(0, 3))) for mask in (study.label > 0, study.label == Label.LV))  # X Y
    if not heart.any():
        return
    centre = _centre(cavity if cavity.any() else heart, study)
    offsets = np.argwhere(heart) * study.spacing_mm[:2] - centre
    yield QualityCheck("reach of the labels", float(np.hypot(*offsets.T).max()), high=LIMITS.max_reach_mm, unit="mm")
    near = scipy.ndimage.distance_transform_edt(~heart, sampling=study.spacing_mm[:2]) <= LIMITS.motion_margin_mm
    if len(study.image) > 1 and not near.all():
        image = study.image.astype(np.float32) - float(study.image.min())
        image /= np.maximum(image.mean(axis=(1, 2, 3), keepdims=True), 1e-9)  # each frame has mean 1
        motion = image.std(axis=0).mean(axis=-1)  # X Y
        ratio = float(motion[near].mean()) / max(float(motion[~near].mean()), 1e-3)  # less than noise alone makes
        yield QualityCheck("motion under the labels", ratio, low=LIMITS.min_motion_ratio)


def stack_checks(study: Study) -> Iterator[QualityCheck]:
    """Slice step, and gaps and shifts between slices as shown by the labels."""
    yield QualityCheck("slice step", study.spacing_mm[2], *physiology.SLICE_STEP_RANGE_MM, unit="mm")
    present = np.stack([(study.label == structure).any(axis=(1, 2)) for structure in STRUCTURES], axis=-1)  # T Z S
    if not present.any():
        return
    begun, to_come = (np.logical_or.accumulate(part, axis=1) for part in (present, present[:, ::-1]))
    gaps = (begun & to_come[:, ::-1] & ~present).sum(axis=1)  # T S
    yield QualityCheck("slices without labels between labelled ones", int(gaps.max()), high=0)
    shifts = slice_shifts_mm(study)
    if np.isfinite(shifts).any():
        worst = int(np.nanargmax(shifts))
        yield QualityCheck(
            "shift of a slice", float(shifts[worst]), high=LIMITS.max_shift_mm, unit="mm", where=f"slice {worst}"
        )


def slice_shifts_mm(study: Study) -> NDArray[np.float64]:
    """In-plane distance of the LV in each slice from midway between its neighbours, ``Z``; NaN where one is small."""
    weight = (study.label >= Label.MYO)[study.labelled].mean(axis=0, dtype=np.float64)  # X Y Z, cavity and wall
    area = weight.sum(axis=(0, 1))
    result = np.full(len(area), np.nan)
    large = area >= max(LIMITS.min_slice_fraction * float(area.max(initial=0.0)), 1e-9)
    for z in range(1, len(area) - 1):
        if large[z - 1 : z + 2].all():
            before, here, after = (_centre(weight[..., i], study) for i in (z - 1, z, z + 1))
            result[z] = np.hypot(*(here - (before + after) / 2))
    return result


def _centre(weight: NDArray[np.float64] | BoolArray, study: Study) -> NDArray[np.float64]:
    """Centre of mass of a weight ``X Y``, mm."""
    return np.asarray(scipy.ndimage.center_of_mass(weight)) * study.spacing_mm[:2]


def _where(study: Study, frame: int | np.intp, slice_index: int | np.intp | None = None) -> str:
    name = f"frame {study.frame_index[frame]}"
    return name if slice_index is None else f"{name}, slice {slice_index}"
