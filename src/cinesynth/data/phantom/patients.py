"""Who the phantom is: volumes and disease drawn for each of the five groups of ACDC.

LV volumes and ejection fractions are the statistics of the complete ACDC (Bernard et al., IEEE TMI 2018);
myocardial and RV numbers are those of its labels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cinesynth.errors import InputError
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
