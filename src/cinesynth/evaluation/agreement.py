"""Requested against achieved: what can be requested of a heart, what it has, and how well the two agree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cinesynth.evaluation.cases import Case
from cinesynth.evaluation.statistics import bootstrap_interval
from cinesynth.physiology import MYO_G_PER_ML
from cinesynth.types import Label

FURTHER = ("RV EDV", "RV ESV", "mass")
"""Quantities that only some weights can be conditioned on."""
QUANTITIES = ("EDV", "ESV", "EF", "slices", "ES index", *FURTHER)
UNITS = ("mL", "mL", "%", "", "frames", "mL", "mL", "g")
Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class RequestedPair:
    """One quantity of one case."""

    quantity: str
    requested: float
    achieved: float


@dataclass(frozen=True)
class Agreement:
    """Pearson r, slope, bias (achieved - requested) and mean absolute error of ``count`` cases."""

    quantity: str
    count: int
    r: float | None
    slope: float | None
    bias: float
    mae: float
    low: float | None = None
    """Limits of agreement: 95 % of the differences lie between ``low`` and ``high``."""
    high: float | None = None


def agree(pairs: list[RequestedPair]) -> list[Agreement]:
    """Agreement of each quantity, in the order of first appearance."""
    return [
        agreement(q, *np.array([(p.requested, p.achieved) for p in pairs if p.quantity == q]).T)
        for q in dict.fromkeys(p.quantity for p in pairs)
    ]


def agreement(quantity: str, requested: Numbers, achieved: Numbers) -> Agreement:
    """Agreement of paired numbers, both known; r and slope need three that vary."""
    varied = len(requested) > 2 and requested.std() > 0 and achieved.std() > 0
    difference = achieved - requested
    # Bland and Altman (1986): 1.96 standard deviations of the differences on either side of the bias
    reach = 1.96 * float(difference.std(ddof=1)) if len(requested) > 1 else None
    bias = float(difference.mean())
    return Agreement(
        quantity,
        len(requested),
        float(np.corrcoef(requested, achieved)[0, 1]) if varied else None,
        float(np.polyfit(requested, achieved, 1)[0]) if varied else None,
        bias,
        float(np.abs(difference).mean()),
        None if reach is None else bias - reach,
        None if reach is None else bias + reach,
    )


def r_interval(requested: Numbers, achieved: Numbers) -> tuple[float, float] | None:
    """95 % bootstrap interval of Pearson's r over cases; None where too few resamples vary."""
    return bootstrap_interval(_pearson, requested, achieved)


def _pearson(a: Numbers, b: Numbers, axis: int) -> Numbers:
    """Pearson's r along an axis; NaN where one of the two does not vary."""
    a, b = a - a.mean(axis=axis, keepdims=True), b - b.mean(axis=axis, keepdims=True)
    scale = np.sqrt((a * a).sum(axis=axis) * (b * b).sum(axis=axis))
    return np.asarray(np.where(scale > 0, (a * b).sum(axis=axis) / np.where(scale > 0, scale, 1.0), np.nan))


def requested(case: Case) -> Numbers:
    """What was requested of a heart, in the order of `QUANTITIES`; NaN where nothing was."""
    prior = case.requested
    if prior is None:
        return np.full(len(QUANTITIES), np.nan)
    core = (prior.lv_edv_ml, prior.lv_esv_ml, prior.ef_percent, prior.slices, _from_ed(case, case.es))
    further = (prior.rv_edv_ml, prior.rv_esv_ml, prior.myo_mass_g)
    return np.array([np.nan if value is None else value for value in (*core, *further)], dtype=np.float64)


def achieved(case: Case) -> Numbers:
    """What the label and the image of a heart show, in the order of `QUANTITIES`; NaN where they cannot tell.

    Slices are those on which the image shows anything; the ES index is that of the smallest LV, counted from ED.
    """
    lv_ml = case.known_volumes_ml(Label.LV)
    edv, esv = lv_ml[case.ed], lv_ml[case.es]
    ef = 100.0 * (1.0 - esv / edv) if edv > 0 else np.nan
    slices = float((np.ptp(case.image, axis=(0, 1, 2)) > 0).sum())
    moving = case.whole_cycle and np.isfinite(lv_ml).all()
    es = _from_ed(case, int(lv_ml.argmin())) if moving else np.nan
    rv_ml, mass_g = case.known_volumes_ml(Label.RV), MYO_G_PER_ML * case.known_volumes_ml(Label.MYO)[case.ed]
    return np.array([edv, esv, ef, slices, es, rv_ml[case.ed], rv_ml[case.es], mass_g], dtype=np.float64)


def _from_ed(case: Case, frame: int) -> int:
    return (frame - case.ed) % len(case.image)


def both_known(requested: NDArray[Any], achieved: NDArray[Any]) -> tuple[Numbers, Numbers]:
    """The pairs of which both are known."""
    a, b = np.asarray(requested, dtype=np.float64), np.asarray(achieved, dtype=np.float64)
    both = np.isfinite(a) & np.isfinite(b)
    return a[both], b[both]
