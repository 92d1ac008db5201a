"""The JSON beside a case: what was asked, what came out, and how to make it again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from cinesynth.physiology import MYO_G_PER_ML
from cinesynth.types import CORE_CONDITIONS, FURTHER_CONDITIONS, STRUCTURES, Cine, ClinicalPrior, Diagnosis, Label

NOTICE = "synthetic image, not of a person; research use only, not for clinical use"
DECIMALS = 3


def sidecar(cine: Cine, file_hashes: Mapping[str, str]) -> dict[str, Any]:
    """The sidecar of a case whose files have the given SHA-256."""
    spacing_mm = np.linalg.norm(cine.affine[:3, :3], axis=0)
    return {
        "synthetic": True,
        "notice": NOTICE,
        "requested": requested(cine.prior),
        "achieved": achieved(cine),
        "frames": len(cine.label),
        "ed_index": cine.ed_index,
        "es_index": cine.es_index,
        "es_index_measured": int(cine.volumes_ml(Label.LV).argmin()),
        "frame_time_ms": cine.frame_time_ms,
        "size": list(cine.label.shape[1:]),
        "spacing_mm": [round(float(s), 6) for s in spacing_mm],
        "orientation": "axes as ACDC arrays; slice 0 is the base; no scanner frame",
        "labels": {structure.name: int(structure) for structure in STRUCTURES},
        "intensity": "500 (x + 1) of x in [-1, 1]",
        "volumes_ml": {s.name: _rounded(cine.volumes_ml(s)) for s in STRUCTURES},
        "seed": cine.seed,
        "accepted": accepted(cine),
        "provenance": cine.provenance,
        "files": dict(file_hashes),
    }


def requested(prior: ClinicalPrior) -> dict[str, object]:
    """What was asked; None where nothing of the core was, and no entry where nothing of the further conditions was."""
    return {**prior_to_json(prior), "ef_percent": _round(prior.ef_percent)}


def achieved(cine: Cine) -> dict[str, float | int | None]:
    """Volumes measured on the labels at the ED and the ES frame; the EF is None without an LV.

    The myocardial mass stands beside the volumes where it was asked for.
    """
    ed, es = cine.ed_index, cine.es_index
    volumes = {structure: cine.volumes_ml(structure) for structure in STRUCTURES}
    mass_g = MYO_G_PER_ML * float(volumes[Label.MYO][ed])
    lv_edv, lv_esv = float(volumes[Label.LV][ed]), float(volumes[Label.LV][es])
    return {
        "lv_edv_ml": _round(lv_edv),
        "lv_esv_ml": _round(lv_esv),
        "ef_percent": _round(100.0 * (lv_edv - lv_esv) / lv_edv) if lv_edv > 0 else None,
        "slices": cine.label.shape[-1],
        "rv_edv_ml": _round(float(volumes[Label.RV][ed])),
        "rv_esv_ml": _round(float(volumes[Label.RV][es])),
        "myo_ed_ml": _round(float(volumes[Label.MYO][ed])),
        "myo_es_ml": _round(float(volumes[Label.MYO][es])),
        **({} if cine.prior.myo_mass_g is None else {"myo_mass_g": _round(mass_g)}),
    }


def accepted(cine: Cine) -> bool | None:
    """The rules' verdict; None for a cine that they have not seen."""
    acceptance = cine.provenance.get("acceptance")
    return bool(acceptance["accepted"]) if isinstance(acceptance, dict) else None


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, DECIMALS)


def _rounded(values: Any) -> list[float]:
    return [round(float(v), DECIMALS) for v in values]


def prior_to_json(prior: ClinicalPrior) -> dict[str, object]:
    """A clinical prior as plain values: the core, None where unknown, and what is known of the further conditions."""
    core: dict[str, object] = {name: getattr(prior, name) for name in CORE_CONDITIONS}
    further: dict[str, object] = {name: getattr(prior, name) for name in FURTHER_CONDITIONS}
    further = {name: value for name, value in further.items() if value is not None}
    return {**core, "diagnosis": prior.diagnosis.value, **further}


def prior_from_json(values: Mapping[str, Any]) -> ClinicalPrior:
    """The inverse of `prior_to_json`."""
    core = {name: values[name] for name in CORE_CONDITIONS}
    further = {name: values.get(name) for name in FURTHER_CONDITIONS}
    return ClinicalPrior(**{**core, **further, "diagnosis": Diagnosis(values["diagnosis"])})


# --- Records of earlier releases ---------------------------------------------------------------------------------

RENAMED_REQUEST_KEYS = {"tries": "max_attempts", "control": "match_volumes"}
"""Keys of a sidecar's request: the name in cinesynth 0.1.0, and today's."""
RENAMED_PROVENANCE_KEYS = {"screen": "duplicate_filters"}
"""Keys of a sidecar's provenance record."""
RENAMED_STAGE_KEYS = {
    "tries": "attempts",
    "kept_try": "kept_attempt",
    "failed_rules_by_try": "failed_rules_by_attempt",
    "refused_tries": "near_duplicates",
    "tidied_ml": "postprocessing_ml",
    "control": "volume_matching",
}
"""Keys of the anatomy and the motion in a sidecar's acceptance record."""


def migrated_sidecar(content: Mapping[str, Any]) -> dict[str, Any]:
    """A sidecar of any release with the keys of this one."""
    provenance = _renamed(content["provenance"], RENAMED_PROVENANCE_KEYS)
    if "request" in provenance:
        provenance["request"] = migrated_request(provenance["request"])
    if isinstance(acceptance := provenance.get("acceptance"), Mapping):
        renamed = {
            name: _renamed(acceptance[name], RENAMED_STAGE_KEYS) for name in ("anatomy", "motion") if name in acceptance
        }
        provenance["acceptance"] = {**acceptance, **renamed}
    return {**content, "provenance": provenance}


def migrated_request(values: Mapping[str, Any]) -> dict[str, Any]:
    """A request's JSON, and that of the anatomy it keeps, with the keys of this release."""
    request = _renamed(values, RENAMED_REQUEST_KEYS)
    kept = request.get("anatomy")
    return request if kept is None else {**request, "anatomy": migrated_request(kept)}


def _renamed(values: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    return {names.get(key, key): value for key, value in values.items()}
