"""Draws a phantom patient (volumes, disease, heart rate) from one of ACDC's five groups, and its heart beat.

LV volumes and ejection fractions follow the statistics of the complete ACDC (`physiology.LV_BY_DIAGNOSIS`); RV and
myocardial values follow its labels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cinesynth.errors import InputError
from cinesynth.physiology import LV_BY_DIAGNOSIS, SYSTOLE_FRACTION_RANGE
from cinesynth.types import ClinicalPrior, Diagnosis


@dataclass(frozen=True)
class PhantomGroup:
    """Population of one diagnosis, besides its LV volumes, and the effect of the disease on the shape."""

    rv_ef: tuple[float, float]  # mean and SD, percent
    myo_per_edv: float  # myocardial volume over LV EDV
    slenderness: float  # LV length over the cube root of its volume
    heart_rate: float  # mean, per minute
    septal_hypertrophy: float = 0.0
    septal_flattening: float = 0.0
    akinesia: float = 0.0


GROUPS = {
    Diagnosis.NOR: PhantomGroup((56.0, 5.0), 0.75, 1.58, 66.0),
    Diagnosis.DCM: PhantomGroup((36.0, 8.0), 0.60, 1.45, 76.0),
    Diagnosis.HCM: PhantomGroup((63.0, 6.0), 1.30, 1.60, 66.0, septal_hypertrophy=1.0),
    Diagnosis.MINF: PhantomGroup((52.0, 7.0), 0.66, 1.50, 70.0, akinesia=0.97),
    Diagnosis.RV: PhantomGroup((32.0, 5.0), 0.68, 1.62, 74.0, septal_flattening=0.30),
}


@dataclass(frozen=True)
class PhantomPatient:
    """Volumes in millilitres, ``heart_rate`` per minute, and the disease of the group."""

    diagnosis: Diagnosis
    group: PhantomGroup
    lv_edv_ml: float
    lv_esv_ml: float
    rv_edv_ml: float
    rv_esv_ml: float
    myo_ml: float
    heart_rate: float


def truncated_normal(rng: np.random.Generator, mean: float, sd: float, limit: float = 1.8) -> float:
    """A normal draw clipped to ``limit`` standard deviations."""
    return mean + sd * float(np.clip(rng.standard_normal(), -limit, limit))


def draw_patient(
    rng: np.random.Generator, diagnosis: Diagnosis, lv_edv_ml: float | None, ef_percent: float | None
) -> PhantomPatient:
    """A patient of the group; given values replace drawn ones. `InputError` for a wrong group or an impossible LV."""
    group = GROUPS.get(diagnosis)
    if group is None:
        known = ", ".join(d.value for d in GROUPS)
        raise InputError(f"no phantom has the diagnosis {diagnosis.value}", hint=f"one of {known}")
    lv_edv, _, lv_ef = LV_BY_DIAGNOSIS[diagnosis.value]
    drawn_edv = max(55.0, truncated_normal(rng, *lv_edv))
    drawn_ef = max(8.0, truncated_normal(rng, *lv_ef))
    edv = drawn_edv if lv_edv_ml is None else lv_edv_ml
    prior = ClinicalPrior.from_ef(diagnosis, edv, drawn_ef if ef_percent is None else ef_percent)
    assert prior.lv_esv_ml is not None
    # Both ventricles pump the same blood, so the RV's size follows from its ejection fraction.
    stroke = (edv - prior.lv_esv_ml) * rng.uniform(0.94, 1.06)
    rv_ef = truncated_normal(rng, *group.rv_ef) / 100.0
    rv_edv = float(np.clip(stroke / rv_ef, 60.0, 320.0))
    rv_esv = rv_edv - min(stroke, 0.75 * rv_edv)
    myo = edv * group.myo_per_edv * rng.uniform(0.88, 1.12)
    rate = truncated_normal(rng, group.heart_rate, 9.0)
    return PhantomPatient(diagnosis, group, edv, prior.lv_esv_ml, rv_edv, rv_esv, myo, rate)


# --- Timing of one heart beat ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Beat:
    """One cardiac cycle. ``ejected`` (T,) is 0 at end diastole (frame 0) and 1 at end systole only."""

    ejected: NDArray[np.float64]
    es_index: int
    frame_time_ms: float


def smooth_step(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """0 below 0, 1 above 1, with zero slope at both ends."""
    u = np.clip(x, 0.0, 1.0)
    return np.asarray(u * u * (3.0 - 2.0 * u))


def es_index_of(frames: int, heart_rate: float) -> int:
    """Frame of end systole: isovolumic contraction, then ejection for 413 - 1.7 HR ms (Weissler, Circulation 1968)."""
    isovolumic_ms = 60.0
    fraction = (413.0 - 1.7 * heart_rate + isovolumic_ms) * heart_rate / 60_000.0
    first, last = math.ceil(SYSTOLE_FRACTION_RANGE[0] * frames), math.floor(SYSTOLE_FRACTION_RANGE[1] * frames)
    return max(1, min(max(round(fraction * frames), first), max(first, last)))


def ejected_at(tau: NDArray[np.float64], systole: float, kick: float) -> NDArray[np.float64]:
    """Ejected fraction of the stroke volume at cycle times ``tau`` in [0, 1); periodic.

    Ejection ends at ``systole``. Rapid filling, diastasis and an atrial kick, the fraction ``kick`` of filling, follow.
    """
    tau = np.mod(tau, 1.0)
    diastole = 1.0 - systole
    # A short isovolumic pause opens systole, another one opens diastole.
    ejection = smooth_step((tau - 0.06 * systole) / (0.94 * systole))
    rapid = smooth_step((tau - systole - 0.04 * diastole) / (0.48 * diastole))
    atrial = smooth_step((tau - (0.985 - 0.24 * diastole)) / (0.24 * diastole))
    return ejection - (1.0 - kick) * rapid - kick * atrial


def make_beat(frames: int, heart_rate: float, kick: float) -> Beat:
    """A beat of ``frames`` equal time steps at ``heart_rate`` per minute; ES falls exactly on a frame."""
    es_index = es_index_of(frames, heart_rate)
    ejected = ejected_at(np.arange(frames) / frames, es_index / frames, kick)
    # Isovolumic relaxation would keep the minimum for several frames: let the volume rise slightly from ES on.
    after = np.arange(frames) > es_index
    ejected[after] = np.minimum(ejected[after], 1.0 - 1e-3 * (np.arange(frames)[after] - es_index))
    return Beat(ejected, es_index, 60_000.0 / heart_rate / frames)
