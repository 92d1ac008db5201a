"""The empirical prior: the joint distribution of conditions over the training subjects, which completes requests.

Each diagnosis has a Gaussian over the `AXES`, so that a dilated heart has a low ejection fraction, a large heart more
slices, and a healthy RV about the size of the LV. Its vendors have their shares, and the sizes of their hearts. Samples
stay within the observed range. `prior_fit` fits it.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, replace
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cinesynth.data.normalisation import default_es_index
from cinesynth.errors import InputError, WeightsError
from cinesynth.physiology import SYSTOLE_FRACTION_RANGE, USUAL_CYCLE_MS
from cinesynth.types import CORE_CONDITIONS, ClinicalPrior, Diagnosis
from cinesynth.weights.seen import Seen

Matrix = NDArray[np.float64]

FORMAT = 2
"""Version of ``prior.json``. Version 1 knows the `CORE` axes alone, and neither vendors nor a spread of systole."""
AXES = ("log EDV", "logit EF", "slices", "log mass", "log RV EDV", "logit RV EF")
CORE = 3
"""The first axes, which every training subject with volumes has; a prior may lack the others."""
SAMPLES_PER_DRAW = 64
"""Samples drawn at once; the first within the observed range is returned."""
PSEUDO_SUBJECTS = 2.0
"""How many subjects a mean or covariance counts that a small group is drawn towards."""


@dataclass(frozen=True)
class VendorShare:
    """Subjects of one diagnosis and vendor: their number and mean on the core axes."""

    count: int
    mean: list[float]


@dataclass(frozen=True)
class SubjectGroup:
    """Subjects of one diagnosis (or all): moments and observed range on the axes, and what else is known of them."""

    count: int
    mean: list[float]
    covariance: list[list[float]]
    low: list[float]
    high: list[float]
    systolic_fraction: float
    cycle_ms: float | None
    systolic_spread: float = 0.0
    """Standard deviation of the systolic fraction."""
    vendors: Mapping[str, VendorShare] = field(default_factory=dict)

    def draw(self, rng: np.random.Generator, known: Mapping[int, float] = MappingProxyType({})) -> Matrix:
        """A sample on the axes within the observed range, conditional on the ``known`` ones.

        Slices are whole numbers. A known value outside the range counts as the end of the range.
        """
        low, high = np.array(self.low), np.array(self.high)
        free = [axis for axis in range(len(low)) if axis not in known]
        rows = np.empty((SAMPLES_PER_DRAW, len(low)))
        rows[:, sorted(known)] = [known[axis] for axis in sorted(known)]
        if free:
            mean, covariance = self.given(known, free)
            rows[:, free] = rng.multivariate_normal(mean, covariance, size=SAMPLES_PER_DRAW, method="cholesky")
        rows[:, 2] = np.rint(rows[:, 2])
        inside = np.all((rows >= low - 1e-9) & (rows <= high + 1e-9), axis=1, where=np.isin(range(len(low)), free))
        row: Matrix = np.clip(rows[int(inside.argmax())], low, high)
        return row

    def given(self, known: Mapping[int, float], free: list[int]) -> tuple[Matrix, Matrix]:
        """Mean and covariance of the ``free`` axes conditional on the ``known`` ones."""
        mean, covariance = np.array(self.mean), np.array(self.covariance)
        axes = sorted(known)
        centre, spread = mean[free], covariance[np.ix_(free, free)]
        if axes:
            inside = np.clip([known[a] for a in axes], np.array(self.low)[axes], np.array(self.high)[axes])
            # Gaussian conditioning: mean + S_fk S_kk^-1 (k - mean_k), covariance S_ff - S_fk S_kk^-1 S_kf
            gain = np.linalg.solve(covariance[np.ix_(axes, axes)], covariance[np.ix_(axes, free)]).T
            centre = centre + gain @ (inside - mean[axes])
            spread = spread - gain @ covariance[np.ix_(axes, free)]
        return centre, spread

    def draw_vendor(self, rng: np.random.Generator, known: Mapping[int, float]) -> str | None:
        """A vendor by its share of the subjects that are like the ``known`` core axes; None if no vendor is known."""
        if not self.vendors:
            return None
        axes = [axis for axis in sorted(known) if axis < CORE]
        inverse = np.linalg.inv(np.array(self.covariance)[np.ix_(axes, axes)]) if axes else np.zeros((0, 0))
        logs = []
        for share in self.vendors.values():
            # Few subjects say little of where their vendor's hearts lie.
            weight = share.count / (share.count + PSEUDO_SUBJECTS)
            mean = weight * np.array(share.mean) + (1.0 - weight) * np.array(self.mean[:CORE])
            away = np.array([known[axis] for axis in axes]) - mean[axes]
            # Bayes: the share of a vendor times the density of a Gaussian that all vendors of the group share
            logs.append(math.log(share.count) - 0.5 * float(away @ inverse @ away))
        odds = np.exp(np.array(logs) - max(logs))
        return list(self.vendors)[int(rng.choice(len(odds), p=odds / odds.sum()))]


@dataclass(frozen=True)
class EmpiricalPrior:
    """The distribution of all training subjects, and of each diagnosis among them."""

    overall: SubjectGroup
    groups: Mapping[Diagnosis, SubjectGroup]
    seen: Seen

    def draw(
        self,
        seed: int | np.random.Generator,
        diagnosis: Diagnosis | None = None,
        *,
        lv_edv_ml: float | None = None,
        ef_percent: float | None = None,
        slices: int | None = None,
    ) -> ClinicalPrior:
        """The core of a prior: given conditions are kept, and the others are sampled conditional on them.

        A diagnosis is sampled by its share of the training subjects. `InputError` if no training subject has it.
        """
        rng = np.random.default_rng(seed)
        if diagnosis is None:
            shares = np.array([group.count for group in self.groups.values()], dtype=np.float64)
            diagnosis = list(self.groups)[int(rng.choice(len(shares), p=shares / shares.sum()))]
        elif diagnosis not in self.groups and diagnosis is not Diagnosis.UNKNOWN:
            self.seen.check(ClinicalPrior(diagnosis))
            raise InputError(
                f"no training subject with the diagnosis {diagnosis.value} has known volumes",
                hint="state EDV and EF, or another diagnosis",
            )
        given = known_axes(ClinicalPrior(diagnosis, lv_edv_ml, slices=slices), ef_percent)
        row = self.group(diagnosis).draw(rng, given)
        return ClinicalPrior.from_ef(
            diagnosis,
            round(math.exp(row[0]), 1) if lv_edv_ml is None else lv_edv_ml,
            round(_ef_percent(row[1]), 1) if ef_percent is None else ef_percent,
            int(row[2]) if slices is None else slices,
        )

    def complete(
        self, prior: ClinicalPrior, seed: int | np.random.Generator, names: Collection[str] = CORE_CONDITIONS
    ) -> ClinicalPrior:
        """``prior`` with all conditions of ``names`` that it leaves open, sampled conditional on what it states.

        The diagnosis stays as it is, and so does a condition whose distribution is not known. The number of slices is
        always completed.
        """
        rng, group, known = np.random.default_rng(seed), self.group(prior.diagnosis), known_axes(prior)
        row = group.draw(rng, {axis: value for axis, value in known.items() if axis < len(group.mean)})
        vendor = group.draw_vendor(rng, {axis: float(row[axis]) for axis in range(CORE)})
        drawn: dict[str, Any] = {**_conditions(prior, row), "vendor": vendor}
        open_ = {name for name in drawn if getattr(prior, name) is None and (name in names or name == "slices")}
        return replace(prior, **{name: drawn[name] for name in open_})

    def es_index(self, diagnosis: Diagnosis, frames: int, seed: int | np.random.Generator) -> int:
        """Frame of ES in a cycle of ``frames``, sampled as the training subjects' with this diagnosis."""
        group, (low, high) = self.group(diagnosis), SYSTOLE_FRACTION_RANGE
        fraction = group.systolic_fraction
        if group.systolic_spread > 0.0:
            drawn = np.random.default_rng(seed).normal(fraction, group.systolic_spread)
            fraction = float(np.clip(drawn, min(low, fraction), max(high, fraction)))
        return default_es_index(frames, fraction)

    def frame_time_ms(self, diagnosis: Diagnosis, frames: int) -> float:
        """Milliseconds between frames of the median cycle divided into ``frames``, rounded to a hundredth."""
        cycle_ms = self.group(diagnosis).cycle_ms or self.overall.cycle_ms or USUAL_CYCLE_MS
        return round(cycle_ms / frames, 2)

    def group(self, diagnosis: Diagnosis) -> SubjectGroup:
        """The subjects of a diagnosis; all subjects if it is unknown or was not in the training data."""
        return self.groups.get(diagnosis, self.overall)

    def to_json(self) -> dict[str, Any]:
        """The content of ``prior.json`` in a weights folder."""
        groups = {diagnosis.value: _group_json(group) for diagnosis, group in self.groups.items()}
        axes = list(AXES[: len(self.overall.mean)])
        values = {"format": FORMAT, "axes": axes, "overall": _group_json(self.overall), "groups": groups}
        return {**values, "seen": asdict(self.seen)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> EmpiricalPrior:
        """The inverse of `to_json`, for any version; `WeightsError` if ``values`` is not a prior."""
        try:
            groups = {Diagnosis(name): _group_of(group) for name, group in values["groups"].items()}
            seen = Seen(**values.get("seen", {"diagnoses": list(values["groups"])}))
            return cls(_group_of(values["overall"]), groups, seen)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise WeightsError(
                f"prior.json is not an empirical prior: {error!r}", hint="copy the folder again"
            ) from None


def known_axes(prior: ClinicalPrior, ef_percent: float | None = None) -> dict[int, float]:
    """What a prior states, by its place among the `AXES`; ``ef_percent`` stands for an EF without an EDV."""
    known: dict[int, float] = {}
    ef_percent = prior.ef_percent if ef_percent is None else ef_percent
    if prior.lv_edv_ml is not None:
        known[0] = math.log(prior.lv_edv_ml)
    if ef_percent is not None:
        known[1] = logit(ef_percent / 100.0)
    if prior.slices is not None:
        known[2] = float(prior.slices)
    if prior.myo_mass_g is not None:
        known[3] = math.log(prior.myo_mass_g)
    if prior.rv_edv_ml is not None:
        known[4] = math.log(prior.rv_edv_ml)
        if prior.rv_esv_ml is not None:
            known[5] = logit(1.0 - prior.rv_esv_ml / prior.rv_edv_ml)
    return known


def logit(share: float) -> float:
    """The logarithm of the odds of a share."""
    return math.log(share / (1.0 - share))


def _ef_percent(logit_ef: float) -> float:
    return min(max(100.0 / (1.0 + math.exp(-logit_ef)), 3.0), 95.0)


def _conditions(prior: ClinicalPrior, row: Matrix) -> dict[str, float | None]:
    """The numeric conditions of a point on the axes; None where the axes do not tell or ``prior`` contradicts them."""

    def esv_ml(edv_ml: float | None, stated_edv_ml: float | None, axis: int) -> float | None:
        edv_ml = stated_edv_ml or edv_ml
        return None if edv_ml is None else round(edv_ml * (1.0 - _ef_percent(row[axis]) / 100.0), 1)

    found: dict[str, float | None] = dict.fromkeys(("myo_mass_g", "rv_edv_ml", "rv_esv_ml"))
    # An ESV that is stated alone says nothing on the axes: its EDV stays unknown too.
    alone = prior.lv_edv_ml is None and prior.lv_esv_ml is not None
    edv_ml = None if alone else round(math.exp(row[0]), 1)
    found |= {"lv_edv_ml": edv_ml, "lv_esv_ml": esv_ml(edv_ml, prior.lv_edv_ml, 1), "slices": int(row[2])}
    if len(row) > 3:
        found["myo_mass_g"] = round(math.exp(row[3]), 1)
    if len(row) > 5 and (prior.rv_edv_ml is not None or prior.rv_esv_ml is None):
        found["rv_edv_ml"] = round(math.exp(row[4]), 1)
        found["rv_esv_ml"] = esv_ml(found["rv_edv_ml"], prior.rv_edv_ml, 5)
    return found


def _group_json(group: SubjectGroup) -> dict[str, Any]:
    plain = asdict(replace(group, vendors={}))
    return {**plain, "vendors": {name: asdict(share) for name, share in group.vendors.items()}}


def _group_of(values: Mapping[str, Any]) -> SubjectGroup:
    vendors = {name: VendorShare(**share) for name, share in values.get("vendors", {}).items()}
    return SubjectGroup(**{**values, "vendors": vendors})
