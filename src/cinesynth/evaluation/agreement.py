"""How well two things agree: what was requested of a heart and what it has; two labels of one heart."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from monai.metrics.utils import get_edge_surface_distance
from numpy.typing import NDArray

from cinesynth.evaluation.cases import Case
from cinesynth.evaluation.statistics import bootstrap_interval
from cinesynth.physiology import MYO_G_PER_ML
from cinesynth.types import STRUCTURES, BoolArray, Label, LabelArray

FURTHER = ("RV EDV", "RV ESV", "mass")
"""Quantities that only some weights can be conditioned on."""
QUANTITIES = ("EDV", "ESV", "EF", "slices", "ES index", *FURTHER)
UNITS = ("mL", "mL", "%", "", "frames", "mL", "mL", "g")
Numbers = NDArray[np.float64]
Spacing = tuple[float, float, float]


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
    bias = float(difference.mean())
    limits: tuple[float, float] | tuple[None, None] = (None, None)
    if len(requested) > 1:
        # Bland and Altman (1986): 1.96 standard deviations of the differences on either side of the bias
        reach = 1.96 * float(difference.std(ddof=1))
        limits = bias - reach, bias + reach
    r = float(np.corrcoef(requested, achieved)[0, 1]) if varied else None
    slope = float(np.polyfit(requested, achieved, 1)[0]) if varied else None
    return Agreement(quantity, len(requested), r, slope, bias, float(np.abs(difference).mean()), *limits)


def r_interval(requested: Numbers, achieved: Numbers) -> tuple[float, float] | None:
    """95 % bootstrap interval of Pearson's r over cases; None where too few resamples vary."""

    def pearson(a: Numbers, b: Numbers, axis: int) -> Numbers:
        a, b = a - a.mean(axis=axis, keepdims=True), b - b.mean(axis=axis, keepdims=True)
        scale = np.sqrt((a * a).sum(axis=axis) * (b * b).sum(axis=axis))
        return np.asarray(np.where(scale > 0, (a * b).sum(axis=axis) / np.where(scale > 0, scale, 1.0), np.nan))

    return bootstrap_interval(pearson, requested, achieved)


def requested(case: Case) -> Numbers:
    """What was requested of a heart, in the order of `QUANTITIES`; NaN where nothing was."""
    prior = case.requested
    if prior is None:
        return np.full(len(QUANTITIES), np.nan)
    core = (prior.lv_edv_ml, prior.lv_esv_ml, prior.ef_percent, prior.slices, (case.es - case.ed) % len(case.image))
    further = (prior.rv_edv_ml, prior.rv_esv_ml, prior.myo_mass_g)
    return np.array([np.nan if value is None else value for value in (*core, *further)], dtype=np.float64)


def achieved(case: Case) -> Numbers:
    """What the label and the image of a heart show, in the order of `QUANTITIES`; NaN where they cannot tell.

    Slices are those on which the image shows anything; the ES index is that of the smallest LV, counted from ED.
    """
    lv_ml = case.known_volumes_ml(Label.LV)
    edv, esv = lv_ml[case.ed], lv_ml[case.es]
    ef = 100.0 * (1.0 - esv / edv) if edv > 0 else np.nan
    darkest, brightest = case.image.min(axis=0).min(axis=(0, 1)), case.image.max(axis=0).max(axis=(0, 1))  # Z
    slices = float((brightest > darkest).sum())
    moving = case.whole_cycle and np.isfinite(lv_ml).all()
    es = (int(lv_ml.argmin()) - case.ed) % len(case.image) if moving else np.nan
    rv_ml, mass_g = case.known_volumes_ml(Label.RV), MYO_G_PER_ML * case.known_volumes_ml(Label.MYO)[case.ed]
    return np.array([edv, esv, ef, slices, es, rv_ml[case.ed], rv_ml[case.es], mass_g], dtype=np.float64)


# --- Two labels of one heart -----------------------------------------------------------------------------------------


class Overlap(NamedTuple):
    """Dice, 95 % Hausdorff distance (mm) and average symmetric surface distance (mm), each ``T S``.

    NaN where a structure was not annotated, or where neither label has it. A structure that only one of the two labels
    has, in the slices where it was annotated, counts as Dice 0 and as far off as the annotated stack is long from
    corner to corner: leaving it out would improve the mean of a segmenter that finds nothing.
    """

    dice: Numbers
    hd95_mm: Numbers
    assd_mm: Numbers


def overlap(predicted: LabelArray, truth: LabelArray, coverage: BoolArray, spacing_mm: Spacing) -> Overlap:
    """Agreement of labels ``T X Y Z`` for each structure, in the slices that ``coverage`` (``T Z S``) marks as
    annotated."""
    # the box around everything annotated in the plane in any frame, or the whole plane
    labelled: BoolArray = np.asarray((truth > 0).any(axis=(0, 3)))  # X Y
    if not labelled.any():
        labelled[:] = True
    box = [int(np.ptp(np.flatnonzero(labelled.any(axis=axis)))) + 1 for axis in (1, 0)]
    found = np.full((len(Overlap._fields), len(truth), len(STRUCTURES)), np.nan)
    for t in range(len(truth)):
        for i, structure in enumerate(STRUCTURES):
            covered = coverage[t, :, i]
            a, b = predicted[t][..., covered] == structure, truth[t][..., covered] == structure
            if a.any() and b.any():
                found[:, t, i] = dice(a, b), *surface_distances_mm(a, b, spacing_mm)
            elif a.any() or b.any():
                missed_mm = float(np.linalg.norm(np.array([*box, int(covered.sum())]) * np.array(spacing_mm)))
                found[:, t, i] = 0.0, missed_mm, missed_mm
    return Overlap(*found)


def dice(a: BoolArray, b: BoolArray) -> float:
    """Dice overlap of two masks, at least one of which is not empty."""
    return 2.0 * float(np.logical_and(a, b).sum()) / float(a.sum() + b.sum())


def surface_distances_mm(a: BoolArray, b: BoolArray, spacing_mm: Spacing) -> tuple[float, float]:
    """95 % Hausdorff distance and average symmetric distance of the surfaces of two 3D masks, neither of them empty.

    Surfaces are MONAI's edges; of the two directed 95th percentiles the larger one counts.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # MONAI marks an argument of its own as deprecated
        masks = (torch.from_numpy(np.ascontiguousarray(mask, dtype=np.float32)) for mask in (a, b))
        _, both, _ = get_edge_surface_distance(*masks, spacing=spacing_mm, symmetric=True)
    hd95 = max(float(np.percentile(directed, 95)) for directed in both)
    return hd95, float(torch.cat(list(both)).mean())
