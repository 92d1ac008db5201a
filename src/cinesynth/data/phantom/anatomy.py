"""The phantom's patient, its heart beat, and its heart, solved so that all volumes equal the patient's exactly.

The patient is drawn from one of ACDC's five groups: LV volumes and ejection fractions follow the statistics of the
complete ACDC (`physiology.LV_BY_DIAGNOSIS`), RV and myocardial values its labels.

Heart coordinates are cylindrical about the LV long axis: ``s`` mm from the end-diastolic base plane toward the
apex, angle ``phi`` and radius in the short-axis plane. Wall functions are *squared* radii, in which areas are linear,
so every volume has a closed form (`scene.py` cuts the walls):

* cavity   ``R_endo^2 = f(xi) (1 + h(phi)) [r0^2 - D (1 - a(xi) q(phi))]``: ``D`` is the contraction of the frame,
  ``a q`` cancels it in an infarct; ``f`` is the profile of a truncated ellipsoid;
* myocardium ``R_epi^2 - R_endo^2 = m(xi) (1 + p(phi, xi)) L(ED) / L``: each fiber, and so the whole, keeps
  its volume as the heart shortens;
* RV ``R_rv^2 - R_epi^2 = 2 A(eta) psi(phi)``: a crescent on the septum of exactly the area ``A``.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import beta, ive

from cinesynth.errors import InputError
from cinesynth.physiology import LV_BY_DIAGNOSIS, SYSTOLE_FRACTION_RANGE
from cinesynth.types import ClinicalPrior, Diagnosis

Array = NDArray[np.float64]

# --- The patient -----------------------------------------------------------------------------------------------------


class PhantomGroup(NamedTuple):
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


class PhantomPatient(NamedTuple):
    """Volumes in millilitres, ``heart_rate`` per minute, and the disease of the group."""

    diagnosis: Diagnosis
    group: PhantomGroup
    lv_edv_ml: float
    lv_esv_ml: float
    rv_edv_ml: float
    rv_esv_ml: float
    myo_ml: float
    heart_rate: float


def _truncated_normal(rng: np.random.Generator, mean: float, sd: float) -> float:
    """A normal draw clipped to 1.8 standard deviations."""
    return mean + sd * float(np.clip(rng.standard_normal(), -1.8, 1.8))


def draw_patient(
    rng: np.random.Generator, diagnosis: Diagnosis, lv_edv_ml: float | None, ef_percent: float | None
) -> PhantomPatient:
    """A patient of the group; given values replace drawn ones. `InputError` for a wrong group or an impossible LV."""
    if diagnosis not in GROUPS:
        known = ", ".join(d.value for d in GROUPS)
        raise InputError(f"no phantom has the diagnosis {diagnosis.value}", hint=f"one of {known}")
    group = GROUPS[diagnosis]
    lv_edv, _, lv_ef = LV_BY_DIAGNOSIS[diagnosis.value]
    drawn_edv = max(55.0, _truncated_normal(rng, *lv_edv))
    drawn_ef = max(8.0, _truncated_normal(rng, *lv_ef))
    edv = drawn_edv if lv_edv_ml is None else lv_edv_ml
    prior = ClinicalPrior.from_ef(diagnosis, edv, drawn_ef if ef_percent is None else ef_percent)
    assert prior.lv_esv_ml is not None
    # Both ventricles pump the same blood, so the RV's size follows from its ejection fraction.
    stroke = (edv - prior.lv_esv_ml) * rng.uniform(0.94, 1.06)
    rv_ef = _truncated_normal(rng, *group.rv_ef) / 100.0
    rv_edv = float(np.clip(stroke / rv_ef, 60.0, 320.0))
    rv_esv = rv_edv - min(stroke, 0.75 * rv_edv)
    myo = edv * group.myo_per_edv * rng.uniform(0.88, 1.12)
    rate = _truncated_normal(rng, group.heart_rate, 9.0)
    return PhantomPatient(diagnosis, group, edv, prior.lv_esv_ml, rv_edv, rv_esv, myo, rate)


# --- Timing of one heart beat ----------------------------------------------------------------------------------------


class Beat(NamedTuple):
    """One cardiac cycle. ``ejected`` (T,) is 0 at end diastole (frame 0) and 1 at end systole only."""

    ejected: Array
    es_index: int
    frame_time_ms: float


def _smooth_step(x: Array) -> Array:
    """0 below 0, 1 above 1, with zero slope at both ends."""
    u = np.clip(x, 0.0, 1.0)
    return np.asarray(u * u * (3.0 - 2.0 * u))


def ejected_at(tau: Array, systole: float, kick: float) -> Array:
    """Ejected fraction of the stroke volume at cycle times ``tau`` in [0, 1); periodic.

    Ejection ends at ``systole``. Rapid filling, diastasis and an atrial kick, the fraction ``kick`` of filling, follow.
    """
    tau = np.mod(tau, 1.0)
    diastole = 1.0 - systole
    # A short isovolumic pause opens systole, another one opens diastole.
    ejection = _smooth_step((tau - 0.06 * systole) / (0.94 * systole))
    rapid = _smooth_step((tau - systole - 0.04 * diastole) / (0.48 * diastole))
    atrial = _smooth_step((tau - (0.985 - 0.24 * diastole)) / (0.24 * diastole))
    return ejection - (1.0 - kick) * rapid - kick * atrial


def make_beat(frames: int, heart_rate: float, kick: float) -> Beat:
    """A beat of ``frames`` equal time steps at ``heart_rate`` per minute; ES falls exactly on a frame.

    It ends isovolumic contraction and ejection, 413 - 1.7 HR ms (Weissler, Circulation 1968).
    """
    isovolumic_ms = 60.0
    fraction = (413.0 - 1.7 * heart_rate + isovolumic_ms) * heart_rate / 60_000.0
    first, last = math.ceil(SYSTOLE_FRACTION_RANGE[0] * frames), math.floor(SYSTOLE_FRACTION_RANGE[1] * frames)
    es_index = max(1, min(max(round(fraction * frames), first), max(first, last)))
    ejected = ejected_at(np.arange(frames) / frames, es_index / frames, kick)
    # Isovolumic relaxation would keep the minimum for several frames: let the volume rise slightly from ES on.
    after = np.arange(frames) > es_index
    ejected[after] = np.minimum(ejected[after], 1.0 - 1e-3 * (np.arange(frames)[after] - es_index))
    return Beat(ejected, es_index, 60_000.0 / heart_rate / frames)


# --- The heart -------------------------------------------------------------------------------------------------------

ANGLES = 720
PHI: Array = (np.arange(ANGLES, dtype=np.float64) + 0.5) * (2.0 * np.pi / ANGLES) - np.pi
"""Centers of the ``ANGLES`` sectors around the axis, in [-pi, pi]."""
EQUATOR = 0.25  # position along the cavity (0 base, 1 apex) where it is widest
RV_EQUATOR = 0.15  # where the RV's crescent has its largest area
RV_INLET = 0.4  # area at the base over the largest: the tricuspid annulus is narrower than the body
RV_TAPER = 1.4  # exponent of the decrease toward the apex
RV_EDGE = 0.65  # exponent of the thickness (1 - x^2)^edge toward the tips
RV_AREA_INTEGRAL = RV_EQUATOR * (2.0 + RV_INLET) / 3.0 + (1.0 - RV_EQUATOR) * RV_TAPER / (RV_TAPER + 1.0)
"""Integral of `rv_profile` over [0, 1]."""
RV_CREST_INTEGRAL = float(beta(0.5, 1.0 + RV_EDGE))
"""Integral of (1 - x^2)^edge over [-1, 1]."""


class Bump(NamedTuple):
    """exp(kappa (cos(phi - angle) - 1)): 1 at ``angle``, falling off smoothly around the wall."""

    angle: float
    kappa: float

    def __call__(self, phi: Array) -> Array:
        """Value at angles ``phi``."""
        return np.exp(self.kappa * (np.cos(phi - self.angle) - 1.0))

    @property
    def mean(self) -> float:
        """Mean around the circle."""
        return float(ive(0, self.kappa))


def profile(xi: Array, end: float = 1.0) -> Array:
    """Squared radius of a truncated ellipsoid along its axis: 1 at the equator, 0 at ``end`` and outside."""
    inside = (xi >= 0.0) & (xi <= end)
    return np.where(inside, 1.0 - ((xi - EQUATOR) / (end - EQUATOR)) ** 2, 0.0)


def profile_integral(end: float = 1.0) -> float:
    """Integral of `profile` over [0, end]."""
    c = end - EQUATOR
    return float(end - (c**3 + EQUATOR**3) / (3.0 * c * c))


def rv_profile(eta: Array) -> Array:
    """Relative area of the RV's crescent along its axis: 1 at the equator, 0 at the apex and outside."""
    basal = 1.0 - (1.0 - RV_INLET) * (1.0 - eta / RV_EQUATOR) ** 2
    apical = 1.0 - (np.clip(eta - RV_EQUATOR, 0.0, None) / (1.0 - RV_EQUATOR)) ** RV_TAPER
    return np.where((eta >= 0.0) & (eta < 1.0), np.where(eta < RV_EQUATOR, basal, apical), 0.0)


class Heart:
    """One beating heart: free shape parameters are drawn, radii and contraction solved for the patient's volumes.

    Lengths are in mm, volumes in mm^3, angles in rad; arrays are ``T``.
    """

    def __init__(self, rng: np.random.Generator, patient: PhantomPatient, beat: Beat) -> None:
        self.patient, self.beat = patient, beat
        group, ejected, edv, esv = patient.group, beat.ejected, patient.lv_edv_ml, patient.lv_esv_ml
        ef = 1.0 - esv / edv
        self.septum = np.pi + rng.uniform(-0.12, 0.12)  # direction from the LV axis to the middle of the septum
        length0 = group.slenderness * rng.uniform(0.96, 1.04) * (1000.0 * edv) ** (1.0 / 3.0)
        self.cap = rng.uniform(0.07, 0.10)  # apical wall over cavity length
        self.length: Array = length0 * (1.0 - 0.26 * ef * ejected)  # cavity, base to apex
        self.base: Array = (length0 - self.length) * (1.0 + self.cap)  # base plane of the LV, toward the apex
        self.septal = Bump(self.septum + rng.uniform(-0.3, 0.3) * group.septal_hypertrophy, 1.3)
        self.infarct = Bump(self.septum + rng.choice([0.9, -0.9, 2.6]) + rng.uniform(-0.3, 0.3), 1.6)
        self.infarct_center, self.infarct_width = rng.uniform(0.45, 0.8), rng.uniform(0.35, 0.5)
        self.ellipticity = rng.uniform(0.02, 0.12)

        whole = profile_integral()
        self.radius2 = 1000.0 * edv / (np.pi * length0 * whole)  # r0^2
        # How much of the contraction an infarct spares, integrated along the cavity by Gauss-Legendre quadrature.
        nodes, weights = np.polynomial.legendre.leggauss(40)
        xi = (nodes + 1.0) / 2.0
        along = float(np.sum(weights * profile(xi) * self.infarct_along(xi)) / 2.0)
        spared = float(np.mean(self.roundness() * self.infarct(PHI))) * along
        shrink = self.radius2 * whole - 1000.0 * (edv - (edv - esv) * ejected) / (np.pi * self.length)
        # If the requested ejection fraction exceeds what the disease allows, the infarct gets milder; volumes stay
        # exact. Beyond a contraction of 0.93 r0^2 the remote wall of an infarcted heart would cross the axis.
        self.akinesia = min(group.akinesia, max(0.0, (whole - float(shrink.max()) / (0.93 * self.radius2)) / spared))
        self.contraction: Array = shrink / (whole - self.akinesia * spared)  # D
        # Squared epicardial radius at the equator at ED.
        self.epi2 = 1000.0 * (edv + patient.myo_ml) / (np.pi * length0 * profile_integral(1.0 + self.cap))

        self.rv_apex = length0 * (1.0 + self.cap) * rng.uniform(0.85, 0.91)
        self.rv_base: Array = 1.15 * self.base
        rv_volume = 1000.0 * (patient.rv_edv_ml - (patient.rv_edv_ml - patient.rv_esv_ml) * ejected)
        self.rv_area: Array = rv_volume / ((self.rv_apex - self.rv_base) * RV_AREA_INTEGRAL)  # A at the RV's equator
        self.rv_half_angle = rng.uniform(1.22, 1.36) + 0.25 * float(group.septal_flattening > 0.0)
        self.rv_skew = rng.uniform(-0.35, 0.15)
        self.twist = np.radians(4.0 + 18.0 * ef)  # apical rotation at ES
        self.tilt = (rng.uniform(-0.12, 0.12), rng.uniform(-0.12, 0.12))  # in-plane drift of the axis, mm per mm of s

    @property
    def volumes_ml(self) -> Array:
        """RV, MYO and LV volume at every frame, shape ``T 3``, exact by construction."""
        p, e = self.patient, self.beat.ejected
        rv = p.rv_edv_ml - (p.rv_edv_ml - p.rv_esv_ml) * e
        lv = p.lv_edv_ml - (p.lv_edv_ml - p.lv_esv_ml) * e
        return np.stack([rv, np.full_like(e, p.myo_ml), lv], axis=1)

    @property
    def apex(self) -> float:
        """Position ``s`` of the epicardial apex, which stays in place, mm."""
        return float(self.length[0] * (1.0 + self.cap))

    def infarct_along(self, xi: Array) -> Array:
        """Severity of an infarct along the axis, 1 at its center."""
        return np.exp(-(((xi - self.infarct_center) / self.infarct_width) ** 2))

    def roundness(self) -> Array:
        """1 + h(phi) at the angles `PHI`, of mean one: slightly elliptic, flattened at the septum under RV overload."""
        flat = self.patient.group.septal_flattening * (self.septal.mean - self.septal(PHI))
        return 1.0 + self.ellipticity * np.cos(2.0 * (PHI - self.septum)) + flat
