"""Hearts for scoring: what held-out patients have is requested, generated and measured, one heart after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import Any

import numpy as np

from cinesynth.cases.schema import accepted
from cinesynth.data.packed import PackedDataset
from cinesynth.data.subject_prior import labelled_prior
from cinesynth.errors import DataError
from cinesynth.evaluation.agreement import QUANTITIES, UNITS, RequestedPair, achieved, requested
from cinesynth.evaluation.cases import generated
from cinesynth.evaluation.measure import THUMBNAILS, Values, measure_case
from cinesynth.evaluation.motion import MOTION
from cinesynth.io.reproducibility import case_seed
from cinesynth.io.tasks import ProgressCallback, no_progress, part_of
from cinesynth.models.conditioning import CORE, ConditionSet
from cinesynth.synthesis.pipeline import CinePipeline
from cinesynth.synthesis.request import Request
from cinesynth.types import FURTHER_CONDITIONS, Cine, ClinicalPrior
from cinesynth.weights.prior import EmpiricalPrior

CONTROLLED = ("EDV", "ESV", "EF", "RV EDV", "RV ESV", "mass")
"""Quantities of `agreement` that are scored."""
MEASURERS = (MOTION, THUMBNAILS)


def requests_of(
    data: PackedDataset,
    count: int,
    seed: int,
    condition_set: ConditionSet = CORE,
    empirical: EmpiricalPrior | None = None,
    **settings: Any,
) -> list[Request]:
    """``count`` requests for what the subjects of ``data`` have, one subject after the other, each with its own seed.

    A request holds only the conditions in ``condition_set`` that training subjects of the ``empirical`` prior had.
    ``settings`` are the other fields of `Request`; by
    default its frames are ED and ES alone.
    """
    priors = [prior for i in range(len(data)) if (prior := prior_of(data, i, condition_set)) is not None]
    if not priors:
        raise DataError("no subject of the split has LV volumes at ED and ES", hint="choose another split")
    if empirical is not None:
        priors = [empirical.seen.part(prior) for prior in priors]
    settings = {"frames": 2, **settings}
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
    found = labelled_prior(data, index)
    values = {name: getattr(found, name) for name in further}
    if condition_set.vendor_index(found.vendor) == 0:  # a vendor the weights were not trained on
        values.pop("vendor", None)
    return replace(prior, **values)


# --- Generating, and measuring each heart when it is there -----------------------------------------------------------


@dataclass
class GeneratedHearts:
    """Numbers of generated hearts; no heart is kept."""

    pairs: list[RequestedPair] = field(default_factory=list)
    accepted: int = 0
    """Hearts that met the anatomical rules."""
    seconds: list[float] = field(default_factory=list)
    """Time to generate each heart."""
    rows: list[list[Values]] = field(default_factory=list)
    """`MEASURERS` of each heart."""


def generate(
    pipe: CinePipeline,
    requests: Sequence[Request],
    progress: ProgressCallback = no_progress,
    seen: Callable[[Cine], None] | None = None,
) -> GeneratedHearts:
    """Generate the requests and measure every heart; ``seen`` is called with each. Without an LV it has no EF."""
    hearts, cines = GeneratedHearts(), pipe.generate(requests, part_of("case", progress))
    for done in range(1, len(requests) + 1):
        begin = perf_counter()
        cine = next(cines)
        hearts.seconds.append(perf_counter() - begin)
        case = generated(f"case {done - 1}", cine)
        for name, unit, asked, found in zip(QUANTITIES, UNITS, requested(case), achieved(case), strict=True):
            if name in CONTROLLED and np.isfinite(asked) and np.isfinite(found):
                hearts.pairs.append(RequestedPair(f"{name} {unit}", float(asked), float(found)))
        hearts.accepted += bool(accepted(cine))
        hearts.rows.append(measure_case(case, MEASURERS))
        if seen is not None:
            seen(cine)
        progress("control", done, len(requests), {})
    return hearts
