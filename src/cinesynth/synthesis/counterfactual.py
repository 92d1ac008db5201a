"""Counterfactuals: the same heart at ED with another EF, diagnosis, vendor or sampled motion.

No latent is stored for this: the anatomy is computed again, bit for bit, from the request in a case's sidecar.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from cinesynth.cases.reading import read_sidecar
from cinesynth.cases.schema import SIDECAR
from cinesynth.errors import InputError
from cinesynth.physiology import EDV_RANGE_ML
from cinesynth.synthesis.pipeline import CinePipeline
from cinesynth.synthesis.request import Request
from cinesynth.types import ClinicalPrior, Diagnosis


def kept_anatomy(folder: Path, pipe: CinePipeline) -> tuple[Request, ClinicalPrior]:
    """The request that reproduces the anatomy of the case in ``folder``, and its prior with the EDV of that heart.

    The EDV is the requested one if volumes were matched to it, else that of the mask. Raises `InputError` if the folder
    holds no case, or one that ``pipe`` would not generate again.
    """
    found = read_sidecar(folder)
    if found is None:
        raise InputError(
            f"{folder} holds no generated case: {SIDECAR} is missing", hint="give a case folder of `cinesynth generate`"
        )
    record = found["provenance"]
    if "request" not in record or record["weights"]["sha256"] != pipe.bundle_sha256:
        raise InputError(
            f"the case in {folder} was made with other weights",
            hint="give those weights by --weights: the anatomy is computed again",
        )
    if record.get("duplicate_filters") != pipe.filter_record.get("duplicate_filters"):
        raise InputError(
            f"the case in {folder} was made with another training index", hint="give the same --training-index"
        )
    request = Request.from_json(record["request"])
    matched = request.prior.lv_edv_ml if request.match_volumes else None
    edv_ml: float = found["achieved"]["lv_edv_ml"] if matched is None else matched
    low, high = EDV_RANGE_ML
    if not low <= edv_ml <= high:
        raise InputError(
            f"the LV of the case in {folder} has {edv_ml:.1f} mL at ED, expected {low:g}-{high:g} mL",
            hint="pass an accepted case to --keep-anatomy",
        )
    return request, replace(request.prior, lv_edv_ml=edv_ml)


def counterfactual(
    kept: tuple[Request, ClinicalPrior],
    *,
    diagnosis: Diagnosis | None = None,
    esv_ml: float | None = None,
    ef_percent: float | None = None,
    vendor: str | None = None,
    seed: int | None = None,
    **settings: Any,
) -> Request:
    """A request that keeps the anatomy of `kept_anatomy` and changes what is given.

    With the seed of the case, which is the default, the motion starts from the same noise. ``settings`` are the other
    fields of `Request`.
    """
    request, prior = kept
    prior = replace(prior, diagnosis=diagnosis or prior.diagnosis, vendor=vendor or prior.vendor)
    if ef_percent is not None:
        prior = replace(prior, lv_esv_ml=esv_ml).with_ef(ef_percent)
    elif esv_ml is not None:
        prior = replace(prior, lv_esv_ml=esv_ml)
    return Request(prior, request.seed if seed is None else seed, **settings, anatomy=request.anatomy or request)
