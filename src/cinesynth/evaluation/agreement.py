"""Requested against achieved: what can be asked of a heart, what it has, and how well the two agree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cinesynth.evaluation.cases import Case
from cinesynth.evaluation.statistics import RESAMPLES
from cinesynth.physiology import MYO_G_PER_ML
from cinesynth.types import STRUCTURES, Label, is_contiguous

FURTHER = ("RV EDV", "RV ESV", "mass")
"""What only some weights can be asked for."""
QUANTITIES = ("EDV", "ESV", "EF", "slices", "ES index", *FURTHER)
UNITS = ("mL", "mL", "%", "", "frames", "mL", "mL", "g")
LIMITS_OF_AGREEMENT = 1.96
"""Standard deviations of the differences (Bland and Altman, 1986)."""


@dataclass(frozen=True)
class Pair:
    """One quantity of one case."""

    quantity: str
    requested: float
    achieved: float


@dataclass(frozen=True)
class Agreement:
    """Pearson r, slope, bias (achieved - requested), mean absolute error and limits of agreement of ``count`` cases."""

    quantity: str
    count: int
    r: float | None
    slope: float | None
    bias: float
    mae: float
    low: float | None = None
    """Bland-Altman: 95 % of differences lie between ``low`` and ``high``."""
    high: float | None = None


def agree(pairs: list[Pair]) -> list[Agreement]:
    """Agreement of each quantity, in the order of first appearance."""
    return [
        agreement(q, *np.array([(p.requested, p.achieved) for p in pairs if p.quantity == q]).T)
        for q in dict.fromkeys(p.quantity for p in pairs)
    ]


def agreement(quantity: str, asked: NDArray[np.float64], found: NDArray[np.float64]) -> Agreement:
    """Agreement of paired numbers, both known; r and slope need three that vary."""
    varied = len(asked) > 2 and asked.std() > 0 and found.std() > 0
    difference = found - asked
    reach = LIMITS_OF_AGREEMENT * float(difference.std(ddof=1)) if len(asked) > 1 else None
    bias = float(difference.mean())
    return Agreement(
        quantity,
        len(asked),
        float(np.corrcoef(asked, found)[0, 1]) if varied else None,
        float(np.polyfit(asked, found, 1)[0]) if varied else None,
        bias,
        float(np.abs(difference).mean()),
        None if reach is None else bias - reach,
        None if reach is None else bias + reach,
    )


def r_interval(asked: NDArray[np.float64], found: NDArray[np.float64]) -> tuple[float, float] | None:
    """95 % bootstrap interval of Pearson's r over cases; None where too few resamples vary."""
    rng = np.random.default_rng(0)
    picks = rng.integers(0, len(asked), (RESAMPLES, len(asked)))
    a, b = asked[picks], found[picks]
    a, b = a - a.mean(axis=1, keepdims=True), b - b.mean(axis=1, keepdims=True)
    scale = np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1))
    usable = scale > 0
    if usable.sum() < RESAMPLES // 2:
        return None
    low, high = np.percentile((a * b).sum(axis=1)[usable] / scale[usable], (2.5, 97.5))
    return float(low), float(high)


def requested(case: Case) -> NDArray[np.float32]:
    """What was asked of a heart, in the order of `QUANTITIES`; NaN where nothing was."""
    prior = case.requested
    if prior is None:
        return np.full(len(QUANTITIES), np.nan, dtype=np.float32)
    known = (prior.lv_edv_ml, prior.lv_esv_ml, prior.ef_percent, prior.slices, _from_ed(case, case.es))
    further = (prior.rv_edv_ml, prior.rv_esv_ml, prior.myo_mass_g)
    return np.array([np.nan if value is None else value for value in (*known, *further)], dtype=np.float32)


def achieved(case: Case) -> NDArray[np.float32]:
    """What the label and the image of a heart show, in the order of `QUANTITIES`; NaN where they cannot tell.

    Slices are those on which the image shows anything; the ES index is that of the smallest LV, from ED on.
    """
    lv_ml = known_volumes_ml(case, Label.LV)
    edv, esv = lv_ml[case.ed], lv_ml[case.es]
    ef = 100.0 * (1.0 - esv / edv) if edv > 0 else np.nan
    slices = float((np.ptp(case.image, axis=(0, 1, 2)) > 0).sum())
    moving = case.whole_cycle and np.isfinite(lv_ml).all()
    es = _from_ed(case, int(lv_ml.argmin())) if moving else np.nan
    rv_ml, mass_g = known_volumes_ml(case, Label.RV), MYO_G_PER_ML * known_volumes_ml(case, Label.MYO)[case.ed]
    return np.array([edv, esv, ef, slices, es, rv_ml[case.ed], rv_ml[case.es], mass_g], dtype=np.float32)


def known_volumes_ml(case: Case, structure: Label) -> NDArray[np.float64]:
    """Volume of a structure in each frame, ``T``; NaN where its annotated slices do not follow each other."""
    covered = case.coverage[:, :, STRUCTURES.index(structure)]
    volumes = case.volumes_ml(structure).astype(np.float64)
    return np.where([is_contiguous(frame) for frame in covered], volumes, np.nan)


def _from_ed(case: Case, frame: int) -> int:
    return (frame - case.ed) % len(case.image)


def both_known(asked: NDArray[Any], found: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The pairs of which both are known."""
    a, b = np.asarray(asked, dtype=np.float64), np.asarray(found, dtype=np.float64)
    both = np.isfinite(a) & np.isfinite(b)
    return a[both], b[both]
