"""The parameters of the phantom's heart (`Heart`), solved so that its volumes equal the patient's exactly.

Heart coordinates are cylindrical about the LV long axis: ``s`` mm from the end-diastolic base plane toward the
apex, angle ``phi`` and radius in the short-axis plane. Wall functions are *squared* radii, in which areas are linear,
so every volume has a closed form (`shape.py` has the functions):

* cavity   ``R_endo^2 = f(xi) (1 + h(phi)) [r0^2 - D (1 - a(xi) q(phi))]``: ``D`` is the contraction of the frame,
  ``a q`` cancels it in an infarct; ``f`` is the profile of a truncated ellipsoid;
* myocardium ``R_epi^2 - R_endo^2 = m(xi) (1 + p(phi, xi)) L(ED) / L``: each fiber, and so the whole, keeps
  its volume as the heart shortens;
* RV ``R_rv^2 - R_epi^2 = 2 A(eta) psi(phi)``: a crescent on the septum of exactly the area ``A``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import beta, ive

from cinesynth.data.phantom.patients import Beat, PhantomPatient

Array = NDArray[np.float64]

ANGLES = 720
PHI: Array = (np.arange(ANGLES, dtype=np.float64) + 0.5) * (2.0 * np.pi / ANGLES) - np.pi
"""Centers of the ``ANGLES`` sectors around the axis, in [-pi, pi]."""
EQUATOR = 0.25
"""Position along the cavity (0 base, 1 apex) where it is widest."""


class RvShape(NamedTuple):
    """The crescent of the RV: its area along the axis (0 base, 1 apex), and its cross-section."""

    equator: float = 0.15  # position of the largest area
    inlet: float = 0.4  # area at the base over the largest: the tricuspid annulus is narrower than the body
    taper: float = 1.4  # exponent of the decrease toward the apex
    edge: float = 0.65  # exponent of the thickness (1 - x^2)^edge toward the tips

    @property
    def area_integral(self) -> float:
        """Integral of `rv_profile` over [0, 1]."""
        return self.equator * (2.0 + self.inlet) / 3.0 + (1.0 - self.equator) * self.taper / (self.taper + 1.0)

    @property
    def crest_integral(self) -> float:
        """Integral of (1 - x^2)^edge over [-1, 1]."""
        return float(beta(0.5, 1.0 + self.edge))


RV_SHAPE = RvShape()


@dataclass(frozen=True)
class Bump:
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


@dataclass(frozen=True)
class Heart:
    """One beating heart; lengths mm, volumes mm^3, angles rad, arrays ``T``."""

    patient: PhantomPatient
    beat: Beat
    septum: float  # direction from the LV axis to the middle of the septum
    length: Array  # cavity, base to apex
    base: Array  # base plane of the LV, toward the apex
    rv_base: Array
    rv_apex: float
    rv_half_angle: float
    rv_skew: float
    cap: float  # apical wall over cavity length
    radius2: float  # r0^2
    contraction: Array  # D
    epi2: float  # squared epicardial radius at the equator at ED
    rv_area: Array  # A at the RV's equator
    septal: Bump
    infarct: Bump
    infarct_center: float
    infarct_width: float
    akinesia: float
    thinning: float
    ellipticity: float
    twist: float  # apical rotation at ES
    tilt: tuple[float, float]  # in-plane drift of the axis, mm per mm of s

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
    equator, inlet, taper, _ = RV_SHAPE
    basal = 1.0 - (1.0 - inlet) * (1.0 - eta / equator) ** 2
    apical = 1.0 - (np.clip(eta - equator, 0.0, None) / (1.0 - equator)) ** taper
    return np.where((eta >= 0.0) & (eta < 1.0), np.where(eta < equator, basal, apical), 0.0)


def infarct_along(xi: Array, center: float, width: float) -> Array:
    """Severity of an infarct along the axis, 1 at its center."""
    return np.exp(-(((xi - center) / width) ** 2))


def roundness(phi: Array, septum: float, ellipticity: float, flattening: float, septal: Bump) -> Array:
    """1 + h(phi), of mean one: slightly elliptic, flattened at the septum under RV overload."""
    return 1.0 + ellipticity * np.cos(2.0 * (phi - septum)) + flattening * (septal.mean - septal(phi))


def make_heart(rng: np.random.Generator, patient: PhantomPatient, beat: Beat) -> Heart:
    """Draw the free shape parameters, then solve radii and contraction for the patient's volumes."""
    group, ejected = patient.group, beat.ejected
    septum = np.pi + rng.uniform(-0.12, 0.12)
    ef = 1.0 - patient.lv_esv_ml / patient.lv_edv_ml
    length0 = group.slenderness * rng.uniform(0.96, 1.04) * (1000.0 * patient.lv_edv_ml) ** (1.0 / 3.0)
    cap = rng.uniform(0.07, 0.10)
    length = length0 * (1.0 - 0.26 * ef * ejected)
    base = (length0 - length) * (1.0 + cap)
    septal = Bump(septum + rng.uniform(-0.3, 0.3) * group.septal_hypertrophy, 1.3)
    infarct = Bump(septum + rng.choice([0.9, -0.9, 2.6]) + rng.uniform(-0.3, 0.3), 1.6)
    center, width = rng.uniform(0.45, 0.8), rng.uniform(0.35, 0.5)
    ellipticity = rng.uniform(0.02, 0.12)

    whole = profile_integral()
    radius2 = 1000.0 * patient.lv_edv_ml / (np.pi * length0 * whole)
    round_ = roundness(PHI, septum, ellipticity, group.septal_flattening, septal)
    spared = float(np.mean(round_ * infarct(PHI))) * _along_integral(center, width)
    volume = 1000.0 * (patient.lv_edv_ml - (patient.lv_edv_ml - patient.lv_esv_ml) * ejected)
    shrink = radius2 * whole - volume / (np.pi * length)
    # If the requested ejection fraction exceeds what the disease allows, the infarct gets milder; volumes stay exact.
    # Beyond a contraction D of 0.93 r0^2 the remote wall of an infarcted heart would cross the axis.
    allowed = (whole - float(shrink.max()) / (0.93 * radius2)) / spared
    akinesia = min(group.akinesia, max(0.0, allowed))
    rv_apex = length0 * (1.0 + cap) * rng.uniform(0.85, 0.91)
    rv_base = 1.15 * base
    rv_volume = 1000.0 * (patient.rv_edv_ml - (patient.rv_edv_ml - patient.rv_esv_ml) * ejected)
    epi_volume = 1000.0 * (patient.lv_edv_ml + patient.myo_ml)
    return Heart(
        patient=patient,
        beat=beat,
        septum=septum,
        length=length,
        base=base,
        rv_base=rv_base,
        rv_apex=rv_apex,
        rv_half_angle=rng.uniform(1.22, 1.36) + 0.25 * float(group.septal_flattening > 0.0),
        rv_skew=rng.uniform(-0.35, 0.15),
        cap=cap,
        radius2=radius2,
        contraction=shrink / (whole - akinesia * spared),
        epi2=epi_volume / (np.pi * length0 * profile_integral(1.0 + cap)),
        rv_area=rv_volume / ((rv_apex - rv_base) * RV_SHAPE.area_integral),
        septal=septal,
        infarct=infarct,
        infarct_center=center,
        infarct_width=width,
        akinesia=akinesia,
        thinning=0.85 * akinesia,
        ellipticity=ellipticity,
        twist=np.radians(4.0 + 18.0 * ef),
        tilt=(rng.uniform(-0.12, 0.12), rng.uniform(-0.12, 0.12)),
    )


def _along_integral(center: float, width: float) -> float:
    """Integral of profile times `infarct_along` over the cavity, by Gauss-Legendre quadrature."""
    nodes, weights = np.polynomial.legendre.leggauss(40)
    xi = (nodes + 1.0) / 2.0
    return float(np.sum(weights * profile(xi) * infarct_along(xi, center, width)) / 2.0)
