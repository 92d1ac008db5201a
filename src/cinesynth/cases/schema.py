"""A generated case on disk: the names of its files, the JSON beside its images, and the intensities they store."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cinesynth.config.migration import rename_keys
from cinesynth.physiology import MYO_G_PER_ML
from cinesynth.types import (
    CORE_CONDITIONS,
    FURTHER_CONDITIONS,
    STRUCTURES,
    Cine,
    ClinicalPrior,
    Diagnosis,
    FloatArray,
    Label,
)

IMAGE, LABEL, SIDECAR = "image.nii.gz", "label.nii.gz", "case.json"
SHEET, BEAT = "sheet.png", "beat.gif"
FILES = frozenset({IMAGE, LABEL, SIDECAR, SHEET, BEAT})
"""Every file that a case folder may hold."""
NOTICE = "synthetic image, not of a person; research use only, not for clinical use"
DECIMALS = 3
"""Decimals of volumes, masses and percentages in JSON."""
INTENSITY_SCALE = 500.0
"""Stored intensities are ``500 (x + 1)`` of x in [-1, 1]: whole numbers from 0 to 1000."""
ORIENTATION = {"axes": "acdc", "first_slice": "base", "scanner_coordinates": False}
"""Axes in the order of ACDC's arrays, slices from base to apex, no scanner frame."""


def sidecar(cine: Cine, file_hashes: Mapping[str, str]) -> dict[str, Any]:
    """The sidecar of a case: what was requested, what was achieved, and how to generate it again.

    ``file_hashes`` maps the case's image and label to their SHA-256. Intensities x in [-1, 1] are
    ``stored / intensity.scale + intensity.offset``.
    """
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
        "orientation": dict(ORIENTATION),
        "labels": {structure.name: int(structure) for structure in STRUCTURES},
        "intensity": {"scale": int(INTENSITY_SCALE), "offset": -1},
        "volumes_ml": {s.name: [_round(float(v)) for v in cine.volumes_ml(s)] for s in STRUCTURES},
        "seed": cine.seed,
        "accepted": accepted(cine),
        "provenance": cine.provenance,
        "files": dict(file_hashes),
    }


def requested(prior: ClinicalPrior) -> dict[str, object]:
    """The request as plain values. Unspecified core conditions are None; unspecified optional ones have no entry."""
    return {**prior_to_json(prior), "ef_percent": _round(prior.ef_percent)}


def achieved(cine: Cine) -> dict[str, float | int | None]:
    """Volumes of the labels at ED and ES, and the mass if it was requested; the EF is None where there is no LV."""
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
    """Whether the case passed the acceptance rules; None if they were not applied."""
    acceptance = cine.provenance.get("acceptance")
    return bool(acceptance["accepted"]) if isinstance(acceptance, dict) else None


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, DECIMALS)


def prior_to_json(prior: ClinicalPrior) -> dict[str, object]:
    """A clinical prior as plain values: all core conditions (None if unspecified) and the specified further ones."""
    core: dict[str, object] = {name: getattr(prior, name) for name in CORE_CONDITIONS}
    further: dict[str, object] = {name: getattr(prior, name) for name in FURTHER_CONDITIONS}
    further = {name: value for name, value in further.items() if value is not None}
    return {**core, "diagnosis": prior.diagnosis.value, **further}


def prior_from_json(values: Mapping[str, Any]) -> ClinicalPrior:
    """The inverse of `prior_to_json`."""
    core = {name: values[name] for name in CORE_CONDITIONS}
    further = {name: values.get(name) for name in FURTHER_CONDITIONS}
    return ClinicalPrior(**{**core, **further, "diagnosis": Diagnosis(values["diagnosis"])})


# --- Stored intensities ----------------------------------------------------------------------------------------------


def to_stored(image: FloatArray) -> NDArray[np.int16]:
    """Intensities in [-1, 1] as whole numbers from 0 to 1000, same shape; values outside are clipped."""
    stored: NDArray[np.int16] = np.rint(INTENSITY_SCALE * (np.clip(image, -1.0, 1.0) + 1.0)).astype(np.int16)
    return stored


def from_stored(stored: NDArray[np.generic]) -> FloatArray:
    """The inverse of `to_stored`, exact to a thousandth of the range."""
    return np.asarray(stored.astype(np.float32) / np.float32(INTENSITY_SCALE) - np.float32(1.0))


# --- Records of earlier releases -------------------------------------------------------------------------------------

RENAMED_REQUEST_KEYS = {"tries": "max_attempts", "control": "match_volumes"}
"""Keys of a sidecar's request: the name in cinesynth 0.1.0, and today's."""
RENAMED_STAGE_KEYS = {
    "tries": "attempts",
    "kept_try": "kept_attempt",
    "failed_rules_by_try": "failed_rules_by_attempt",
    "refused_tries": "near_duplicates",
    "tidied_ml": "postprocessing_ml",
    "control": "volume_matching",
}
"""Keys of the anatomy and the motion in a sidecar's acceptance record, likewise."""


def migrated_sidecar(content: Mapping[str, Any]) -> dict[str, Any]:
    """A sidecar of any release with the keys and codes of this one."""
    migrated = dict(content)
    if isinstance(migrated.get("orientation"), str):  # in cinesynth 0.1.0 these two were sentences
        migrated["orientation"] = dict(ORIENTATION)
    if isinstance(migrated.get("intensity"), str):
        migrated["intensity"] = {"scale": int(INTENSITY_SCALE), "offset": -1}
    provenance = rename_keys(migrated.get("provenance") or {}, {"screen": "duplicate_filters"})
    if isinstance(filters := provenance.get("duplicate_filters"), str):
        provenance["duplicate_filters"] = filters.replace("known hearts ", "training index ")
    if "request" in provenance:
        provenance["request"] = migrated_request(provenance["request"])
    if isinstance(acceptance := provenance.get("acceptance"), Mapping):
        names = [name for name in ("anatomy", "motion") if name in acceptance]
        stages = {name: rename_keys(acceptance[name], RENAMED_STAGE_KEYS) for name in names}
        provenance["acceptance"] = {**acceptance, **stages}
    return {**migrated, "provenance": provenance}


def migrated_request(values: Mapping[str, Any]) -> dict[str, Any]:
    """A request's JSON, and that of the anatomy it keeps, with the keys of this release."""
    request = rename_keys(values, RENAMED_REQUEST_KEYS)
    kept = request.get("anatomy")
    return request if kept is None else {**request, "anatomy": migrated_request(kept)}
