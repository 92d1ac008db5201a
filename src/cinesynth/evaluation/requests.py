"""What held-out patients had, asked of weights: `score` generates the hearts and measures their masks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

from cinesynth.cases.schema import accepted
from cinesynth.data.packed import PackedDataset
from cinesynth.errors import DataError
from cinesynth.evaluation.agreement import Pair
from cinesynth.io.seeds import case_seed
from cinesynth.models.conditioning import CORE, ConditionSet
from cinesynth.physiology import MYO_G_PER_ML
from cinesynth.synthesis.pipeline import CinePipeline
from cinesynth.synthesis.request import Request
from cinesynth.training.frames import Volumes, measured_prior
from cinesynth.types import FURTHER_CONDITIONS, STRUCTURES, Cine, ClinicalPrior, Label, is_contiguous, volumes_ml

ED_AND_ES = 2
"""Frames of a generated cine that holds ED and ES alone: the volumes need no others."""


@dataclass(frozen=True)
class ControlResult:
    """Pairs of every case, and how many cases met the anatomical rules."""

    pairs: list[Pair]
    accepted: int
    cases: int
    seconds: Sequence[float] = ()
    """How long each case took to generate."""


def requests_of(
    data: PackedDataset,
    count: int,
    seed: int,
    condition_set: ConditionSet = CORE,
    **settings: Any,
) -> list[Request]:
    """``count`` requests for what held-out patients had, patient by patient, each with its own seed.

    A request holds only the conditions in ``condition_set``. ``settings`` are the other fields of `Request`; by
    default its frames are ED and ES.
    """
    priors = [prior for i in range(len(data)) if (prior := prior_of(data, i, condition_set)) is not None]
    if not priors:
        raise DataError("no subject of the split has both volumes", hint="choose another split")
    settings = {"frames": ED_AND_ES, **settings}
    return [Request(priors[case % len(priors)], case_seed(seed, case), **settings) for case in range(count)]


def prior_of(data: PackedDataset, index: int, condition_set: ConditionSet = CORE) -> ClinicalPrior | None:
    """Diagnosis, volumes and slices of a subject as a request, and its further conditions in ``condition_set``."""
    record = data.records[index]
    if record.lv_edv_ml is None or record.lv_esv_ml is None:
        return None
    prior = ClinicalPrior(record.diagnosis, record.lv_edv_ml, record.lv_esv_ml, record.slices)
    further = [name for name in FURTHER_CONDITIONS if name in condition_set.names]
    if not further:
        return prior
    found = measured_prior(record, *(_volumes(data, index, frame) for frame in (record.ed, record.es)))
    values = {name: getattr(found, name) for name in further}
    if condition_set.vendor_index(found.vendor) == 0:
        values.pop("vendor", None)
    return replace(prior, **values)


def _volumes(data: PackedDataset, index: int, frame: int) -> Volumes:
    """Volumes of what was annotated of a frame without a gap."""
    label, coverage = data.label(index, frame)[None], data.records[index].coverage[frame]
    covered = [is_contiguous(coverage[:, i]) for i in range(len(STRUCTURES))]
    voxel_ml = data.grid.voxel_ml
    found = (float(volumes_ml(label, s, voxel_ml)[0]) if c else None for s, c in zip(STRUCTURES, covered, strict=True))
    return Volumes(*found)


def score_control(
    pipe: CinePipeline,
    requests: list[Request],
    progress: Callable[[int, int], None],
    seen: Callable[[Cine], None] | None = None,
) -> ControlResult:
    """Generate the requests and measure LV volumes on the masks; a heart without an LV has 0 mL and no EF.

    ``seen`` is shown every heart: none is kept.
    """
    pairs: list[Pair] = []
    seconds: list[float] = []
    met_rules = 0
    cines = pipe.generate(requests)
    for done, request in enumerate(requests, start=1):
        begin = perf_counter()
        cine = next(cines)
        seconds.append(perf_counter() - begin)
        prior = request.prior
        edv, esv = (float(v) for v in cine.volumes_ml(Label.LV)[[cine.ed_index, cine.es_index]])
        assert prior.lv_edv_ml is not None
        assert prior.lv_esv_ml is not None
        assert prior.ef_percent is not None
        pairs += [Pair("EDV mL", prior.lv_edv_ml, edv), Pair("ESV mL", prior.lv_esv_ml, esv)]
        if edv > 0:
            pairs.append(Pair("EF %", prior.ef_percent, 100.0 * (1.0 - esv / edv)))
        pairs += _further_pairs(cine)
        met_rules += bool(accepted(cine))
        if seen is not None:
            seen(cine)
        progress(done, len(requests))
    return ControlResult(pairs, met_rules, len(requests), seconds)


def _further_pairs(cine: Cine) -> list[Pair]:
    """RV volumes and myocardial mass, where they were asked for."""
    rv, myo = cine.volumes_ml(Label.RV), cine.volumes_ml(Label.MYO)
    asked_and_found = (
        ("RV EDV mL", cine.prior.rv_edv_ml, rv[cine.ed_index]),
        ("RV ESV mL", cine.prior.rv_esv_ml, rv[cine.es_index]),
        ("mass g", cine.prior.myo_mass_g, MYO_G_PER_ML * myo[cine.ed_index]),
    )
    return [Pair(name, asked, float(found)) for name, asked, found in asked_and_found if asked is not None]
