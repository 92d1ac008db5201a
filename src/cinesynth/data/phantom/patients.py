"""Who the phantom is: volumes and disease drawn for each of the five groups of ACDC.

LV volumes and ejection fractions are the statistics of the complete ACDC (Bernard et al., IEEE TMI 2018);
myocardial and RV numbers are those of its labels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cinesynth.errors import InputError
from cinesynth.physiology import SYSTOLE_FRACTION_RANGE
from cinesynth.types import ClinicalPrior, Diagnosis


@dataclass(frozen=True)
class Group:
    """Population of one diagnosis: (mean, SD) pairs in mL and percent, and what the disease does to the shape."""

    edv: tuple[float, float]
    ef: tuple[float, float]
    rv_ef: tuple[float, float]
    myo_per_edv: float
    slenderness: float  # LV length over the cube root of its volume
    heart_rate: float
    septal_hypertrophy: float = 0.0
    septal_flattening: float = 0.0
    akinesia: float = 0.0


GROUPS = {
    Diagnosis.NOR: Group((129.5, 28.2), (62.5, 5.8), (56.0, 5.0), 0.75, 1.58, 66.0),
    Diagnosis.DCM: Group((283.1, 50.8), (19.7, 8.2), (36.0, 8.0), 0.60, 1.45, 76.0),
    Diagnosis.HCM: Group((131.9, 33.8), (69.9, 9.1), (63.0, 6.0), 1.30, 1.60, 66.0, septal_hypertrophy=1.0),
    Diagnosis.MINF: Group((180.7, 44.9), (30.9, 8.0), (52.0, 7.0), 0.66, 1.50, 70.0, akinesia=0.97),
    Diagnosis.RV: Group((114.7, 36.5), (56.9, 7.2), (32.0, 5.0), 0.68, 1.62, 74.0, septal_flattening=0.30),
}


@dataclass(frozen=True)
class Patient:
    """Volumes in millilitres, ``heart_rate`` per minute, and the group's disease."""

    diagnosis: Diagnosis
    group: Group
    lv_edv_ml: float
    lv_esv_ml: float
    rv_edv_ml: float
    rv_esv_ml: float
    myo_ml: float
    heart_rate: float


def truncated_normal(rng: np.random.Generator, mean: float, sd: float, limit: float = 1.8) -> float:
    """A normal draw held within ``limit`` standard deviations."""
    return mean + sd * float(np.clip(rng.standard_normal(), -limit, limit))


def draw_patient(
    rng: np.random.Generator, diagnosis: Diagnosis, lv_edv_ml: float | None, ef_percent: float | None
) -> Patient:
    """A patient of the group; given volumes replace drawn ones. `InputError` for no group or an impossible LV."""
    group = GROUPS.get(diagnosis)
    if group is None:
        known = ", ".join(d.value for d in GROUPS)
        raise InputError(f"there is no phantom of diagnosis {diagnosis.value}", hint=f"one of {known}")
    drawn_edv = max(55.0, truncated_normal(rng, *group.edv))
    drawn_ef = max(8.0, truncated_normal(rng, *group.ef))
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
    return Patient(diagnosis, group, edv, prior.lv_esv_ml, rv_edv, rv_esv, myo, rate)


# --- Timing of one heart beat ----------------------------------------------------------------------------------------


ISOVOLUMIC_MS = 60.0
KICK_END = 0.985


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
    """Frame of end systole; ejection time 413 - 1.7 HR ms (Weissler et al., Circulation 1968)."""
    fraction = (413.0 - 1.7 * heart_rate + ISOVOLUMIC_MS) * heart_rate / 60_000.0
    first, last = math.ceil(SYSTOLE_FRACTION_RANGE[0] * frames), math.floor(SYSTOLE_FRACTION_RANGE[1] * frames)
    return max(1, min(max(round(fraction * frames), first), max(first, last)))


def ejected_at(tau: NDArray[np.float64], systole: float, kick: float) -> NDArray[np.float64]:
    """Ejected share of the stroke volume at cycle times ``tau`` in [0, 1).

    Ejection ends at ``systole``; rapid filling, diastasis and an atrial kick of share ``kick`` follow. Periodic.
    """
    tau = np.mod(tau, 1.0)
    diastole = 1.0 - systole
    # A short isovolumic pause opens systole, another one opens diastole.
    ejection = smooth_step((tau - 0.06 * systole) / (0.94 * systole))
    rapid = smooth_step((tau - systole - 0.04 * diastole) / (0.48 * diastole))
    atrial = smooth_step((tau - (KICK_END - 0.24 * diastole)) / (0.24 * diastole))
    return ejection - (1.0 - kick) * rapid - kick * atrial


def make_beat(frames: int, heart_rate: float, kick: float) -> Beat:
    """A beat of ``frames`` equal steps at ``heart_rate`` per minute whose ES falls exactly on a frame."""
    es_index = es_index_of(frames, heart_rate)
    ejected = ejected_at(np.arange(frames) / frames, es_index / frames, kick)
    # Isovolumic relaxation would hold the minimum for more than one sample: let it rise from ES on.
    after = np.arange(frames) > es_index
    ejected[after] = np.minimum(ejected[after], 1.0 - 1e-3 * (np.arange(frames)[after] - es_index))
    return Beat(ejected, es_index, 60_000.0 / heart_rate / frames)
