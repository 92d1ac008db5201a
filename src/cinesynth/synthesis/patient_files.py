"""What was made of a patient's image, as files in the patient's own voxels. None of them passes for a generated case:
an annotation is of a real image, and an animation is personal data as the image is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

import cinesynth
from cinesynth.cases.nifti import write_like
from cinesynth.cases.schema import BEAT, DECIMALS, IMAGE, LABEL, SHEET, sidecar
from cinesynth.cases.writing import case_folder, render_sheet
from cinesynth.io.files import file_sha256
from cinesynth.reports.contact_sheet import Timing, render_contact_sheet
from cinesynth.reports.slices import render_gif
from cinesynth.synthesis.acceptance import Verdicts, judge_anatomy, judge_motion
from cinesynth.synthesis.annotate import Annotation
from cinesynth.synthesis.patient import Patient
from cinesynth.types import STRUCTURES, Cine, FloatArray, Label, volumes_ml

ANNOTATION, ANIMATION = "annotation.json", "animation.json"
"""The records. No reader of generated cases looks for them."""
ANNOTATION_FILES = frozenset({LABEL, ANNOTATION, SHEET, BEAT})
ANIMATION_FILES = frozenset({IMAGE, LABEL, ANIMATION, SHEET, BEAT})
MASKS_NOTICE = "the image is real; the masks are a model's guess, no ground truth; not for clinical use"
ANIMATION_NOTICE = (
    "synthetic, made from a real image: personal data of that patient, to be protected as the image is; the motion and "
    "the masks are a model's invention; research use only, not for clinical use"
)
MASKS, MOTION = (
    f"{what}, cinesynth {cinesynth.__version__}, not for clinical use"
    for what in ("masks guessed by a model", "synthetic motion of a real patient")
)
SHOWN_MS = 40.0
"""Frame time of a picture where the cine does not tell its own."""


def save_annotation(
    annotation: Annotation, folder: Path, *, overwrite: bool = False, pictures: bool = True
) -> dict[str, Any]:
    """Write masks, record and pictures (a GIF if there is a cycle) into ``folder``; returns the record.

    The masks have the shape and the affine of the patient's file. `OutputError` as of `save_case`.
    """
    patient, study = annotation.patient, annotation.patient.study
    with case_folder(Path(folder), overwrite=overwrite, files=ANNOTATION_FILES, record=ANNOTATION) as temporary:
        label = patient.in_file(annotation.label)
        write_like(temporary / LABEL, label if patient.has_time else label[0], patient.path, description=MASKS)
        content = _annotated(annotation, {LABEL: file_sha256(temporary / LABEL)})
        if pictures:
            ed, es = annotation.beat or (0, study.es_index)
            timing = Timing(ed, es, study.frame_time_ms)
            title = "real image, masks by a model: not for clinical use"
            shown = (study.image, annotation.label, study.spacing_mm)
            render_contact_sheet(*shown, temporary / SHEET, timing=timing, title=title)
            if len(study.image) > 1:
                image: FloatArray = study.image.astype(np.float32)
                frame_time_ms = study.frame_time_ms or SHOWN_MS
                render_gif(image, annotation.label, study.spacing_mm, frame_time_ms, temporary / BEAT)
        _write(temporary / ANNOTATION, content)
    return content


def save_animation(
    cine: Cine, patient: Patient, folder: Path, *, overwrite: bool = False, pictures: bool = True
) -> dict[str, Any]:
    """Write image, masks, record and pictures into ``folder``; returns the record.

    The image has the type of the patient's file, both its voxels. `OutputError` as of `save_case`.
    """
    with case_folder(Path(folder), overwrite=overwrite, files=ANIMATION_FILES, record=ANIMATION) as temporary:
        header: dict[str, Any] = {"frame_time_ms": cine.frame_time_ms, "description": MOTION}
        write_like(temporary / IMAGE, patient.in_file(_in_type_of(patient, cine.image)), patient.path, **header)
        write_like(temporary / LABEL, patient.in_file(cine.label), patient.path, **header)
        content = _animated(cine, {name: file_sha256(temporary / name) for name in (IMAGE, LABEL)})
        if pictures:
            render_sheet(cine, temporary / SHEET, " motion of a real heart")
            render_gif(cine.image, cine.label, cine.spacing_mm, cine.frame_time_ms, temporary / BEAT)
        _write(temporary / ANIMATION, content)
    return content


def _annotated(annotation: Annotation, hashes: Mapping[str, str]) -> dict[str, Any]:
    study, label, beat = annotation.patient.study, annotation.label, annotation.beat
    curves = {structure: volumes_ml(label, structure, study.voxel_ml) for structure in STRUCTURES}
    edv, esv = (float(curves[Label.LV][frame]) for frame in beat) if beat else (None, None)
    ef = 100.0 * (1.0 - esv / edv) if edv is not None and esv is not None else None
    rules = _judged(annotation)
    return {
        "notice": MASKS_NOTICE,
        "image": "real",
        "masks": "made by a model, without what lies apart from the heart",
        "source": annotation.patient.to_json(),
        "order_in_doubt": annotation.order_in_doubt,
        "ed_index": beat[0] if beat else None,
        "es_index": beat[1] if beat else None,
        "lv_edv_ml": _rounded(edv),
        "lv_esv_ml": _rounded(esv),
        "ef_percent": _rounded(ef),
        "volumes_ml": {structure.name: [_rounded(float(v)) for v in curves[structure]] for structure in STRUCTURES},
        "labels": {structure.name: int(structure) for structure in STRUCTURES},
        "accepted": rules.accepted,
        "rules": rules.to_json(),
        "provenance": annotation.provenance,
        "files": dict(hashes),
    }


def _judged(annotation: Annotation) -> Verdicts:
    """The rules of generated hearts: of an anatomy at ED (or in the one frame), of a motion where there is a beat."""
    label, voxel_ml = annotation.label, annotation.patient.study.voxel_ml
    if annotation.beat is None:
        return judge_anatomy(label[0], voxel_ml)
    ed, es = annotation.beat
    motion = judge_motion(np.roll(label, -ed, axis=0), voxel_ml, (es - ed) % len(label))
    return Verdicts((*judge_anatomy(label[ed], voxel_ml).rules, *motion.rules))


def _animated(cine: Cine, hashes: Mapping[str, str]) -> dict[str, Any]:
    return {
        **sidecar(cine, hashes),
        "notice": ANIMATION_NOTICE,
        "orientation": "voxels and affine of the source",
        "intensity": "the numbers of the source",
        "derived_from": cine.provenance["derived_from"],
        "frame_0": cine.provenance["frame_0"],
    }


def _in_type_of(patient: Patient, image: FloatArray) -> np.ndarray[Any, np.dtype[Any]]:
    """Numbers as the patient's file holds them: whole and within its range where it holds integers."""
    wanted: np.dtype[Any] = patient.study.image.dtype
    if np.issubdtype(wanted, np.integer):
        limits = np.iinfo(wanted.name)
        return np.clip(np.rint(image.astype(np.float64)), limits.min, limits.max).astype(wanted)
    return image


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, DECIMALS)


def _write(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")
