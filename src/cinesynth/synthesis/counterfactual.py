"""The same heart at ED with another motion: another EF, diagnosis or vendor, or another draw.

Nothing is stored for it: the anatomy is computed again from the request in a case's sidecar, bit for bit.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from cinesynth.cases.reading import SIDECAR
from cinesynth.cases.writing import read_sidecar
from cinesynth.errors import InputError
from cinesynth.physiology import EDV_RANGE_ML
from cinesynth.synthesis.pipeline import CinePipeline
from cinesynth.synthesis.request import Request
from cinesynth.types import ClinicalPrior, Diagnosis


def kept_anatomy(folder: Path, pipe: CinePipeline) -> tuple[Request, ClinicalPrior]:
    """The request of the case in a folder, which makes its anatomy, and its prior with the EDV that the heart has.

    The EDV is that asked for where the case was steered to it, else what its mask has. `InputError` where the folder
    holds no case, or one that ``pipe`` would not make again.
    """
    found = read_sidecar(folder)
    if found is None:
        raise InputError(f"{folder} holds no generated case: {SIDECAR} is missing", hint="give a folder of `generate`")
    record = found["provenance"]
    if "request" not in record or record["weights"]["sha256"] != pipe.bundle_sha256:
        raise InputError(
            f"the case in {folder} was made with other weights", hint="give those, by --weights: it is computed again"
        )
    if record.get("screen") != pipe.screened.get("screen"):
        raise InputError(f"the case in {folder} was made with another screen", hint="give the same --known-hearts")
    request = Request.from_json(record["request"])
    steered = request.prior.lv_edv_ml if request.match_volumes else None
    edv_ml: float = found["achieved"]["lv_edv_ml"] if steered is None else steered
    low, high = EDV_RANGE_ML
    if not low <= edv_ml <= high:
        raise InputError(
            f"the LV of the case in {folder} has {edv_ml:.1f} mL at ED, and hearts have {low:g}-{high:g} mL",
            hint="keep the anatomy of an accepted case",
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
    """The anatomy of `kept_anatomy` under what is given, and else as its case was asked for.

    With the seed of the case, the default, the motion starts from the same noise. ``settings`` are the other fields
    of `Request`.
    """
    request, prior = kept
    prior = replace(prior, diagnosis=diagnosis or prior.diagnosis, vendor=vendor or prior.vendor)
    if ef_percent is not None:
        prior = replace(prior, lv_esv_ml=esv_ml).with_ef(ef_percent)
    elif esv_ml is not None:
        prior = replace(prior, lv_esv_ml=esv_ml)
    return Request(prior, request.seed if seed is None else seed, **settings, anatomy=request.anatomy or request)
