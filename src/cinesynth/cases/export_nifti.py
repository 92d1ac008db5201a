"""Studies as NIfTI in the voxel order of their source, with tables and layouts to ingest them again.

``OUT/DATASET/SUBJECT/`` holds ``SUBJECT_4d.nii.gz`` if the whole cycle is stored, otherwise one file per stored frame
(``SUBJECT_frame01.nii.gz``, counted from one as in ACDC), and labels as ``..._label.nii.gz``: 1 RV, 2 MYO, 3 LV.
``OUT/DATASET/studies.csv`` has a row per subject. With the layouts ``cycles.yaml`` and ``frames.yaml``,
``cinesynth ingest nifti`` reads the same arrays, affines and coverage again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from cinesynth.cases.export_items import ExportItem, chosen_items, load_items, new_folder
from cinesynth.cases.writing import describe_origin, write_nifti
from cinesynth.data.dataset_table import describe
from cinesynth.data.orientation import apply
from cinesynth.data.terms import UNSPECIFIED, Terms
from cinesynth.io.files import write_csv, write_text
from cinesynth.io.tasks import ProgressCallback, no_progress
from cinesynth.types import STRUCTURES, BoolArray, Diagnosis, Study

STUDIES_TABLE = "studies.csv"
FROM_ROW = (
    *("subject", "vendor", "group", "diagnosis", "split", "frames", "stored_frames", "frame_time_ms", "coverage"),
    *("phases_from", "slices_from", "to_source", "reported_lv_edv_ml", "reported_lv_esv_ml"),
)


@dataclass(frozen=True)
class NiftiExport:
    """What was written, and the layouts that read it back.

    ``without_layout`` names the datasets whose partial labels no layout can express; only the table has their coverage.
    ``rejected`` names the generated cases that were left out.
    """

    studies: int
    layouts: tuple[Path, ...]
    without_layout: tuple[str, ...]
    rejected: tuple[str, ...] = ()


def export_nifti(
    items: Sequence[ExportItem], out: Path, progress: ProgressCallback = no_progress, *, include_rejected: bool = False
) -> NiftiExport:
    """Write ``items`` into the new folder ``out``, without rejected cases unless ``include_rejected``.

    `OutputError` if ``out`` is not empty or cannot be written, `DataError` if a study is missing or altered; then
    nothing is left.
    """
    items, rejected = chosen_items(items, include_rejected)
    described: dict[str, list[ExportedStudy]] = {}
    rows: dict[str, list[dict[str, Any]]] = {}
    terms: dict[str, Terms] = {}
    with new_folder(out) as folder:
        for item, study in load_items(items, progress):
            whole = np.array_equal(study.frame_index, np.arange(study.frames_in_cycle))
            facts = ExportedStudy(whole, study.group, study.diagnosis, frozenset(_true_rules(study)))
            _write_study(folder / study.dataset / study.subject, study, whole, item.synthetic)
            rows.setdefault(study.dataset, []).append(_row(study, item))
            described.setdefault(study.dataset, []).append(facts)
            terms[study.dataset] = item.terms
        layouts = {name: describe_export(name, studies, terms[name]) for name, studies in described.items()}
        for dataset, table in rows.items():
            write_csv(folder / dataset / STUDIES_TABLE, list(table[0]), table)
            for name, text in layouts[dataset].items():
                write_text(folder / dataset / name, text)
    written = tuple(Path(out) / dataset / name for dataset, texts in layouts.items() for name in texts)
    return NiftiExport(len(items), written, tuple(name for name, texts in layouts.items() if not texts), rejected)


def _write_study(folder: Path, study: Study, whole_cycle: bool, synthetic: bool) -> None:
    folder.mkdir(parents=True)
    image, affine = apply(study.image, study.affine, study.to_source)
    label, _ = apply(study.label, study.affine, study.to_source)
    origin = describe_origin(study, synthetic)
    header: dict[str, Any] = {"scanner": study.slices_from == "header", "description": origin}
    files: list[tuple[str, Any]] = [(f"frame{index + 1:02d}", t) for t, index in enumerate(study.frame_index)]
    if whole_cycle:
        header["frame_time_ms"] = study.frame_time_ms
        files = [("4d", ...)]
    for name, t in files:
        write_nifti(folder / f"{study.subject}_{name}.nii.gz", image[t], affine, **header)
        if whole_cycle or study.labelled[t]:
            write_nifti(folder / f"{study.subject}_{name}_label.nii.gz", label[t], affine, **header)


def _row(study: Study, item: ExportItem) -> dict[str, Any]:
    known = describe(study, item.split, "", "")
    return {name: getattr(known, name) for name in FROM_ROW} | {
        "group": study.group or study.diagnosis.value,
        "diagnosis": study.diagnosis.value,
        "ed_frame_number": study.ed_index + 1,
        "es_frame_number": study.es_index + 1,
        "synthetic": "yes" if item.synthetic else "no",
        "accepted": item.verdict,
    }


# --- Layouts that read an export back with its coverage --------------------------------------------------------------


EMPTY_SLICES = ("background", "unknown")
AnnotatedFrames = tuple[str, ...]
FRAME_RULES: tuple[AnnotatedFrames, ...] = (("all",), ("ed", "es"), ("ed",), ("es",), ())
"""Where a layout can declare a structure annotated: in all labelled frames, at ED, at ES, or never."""
CoverageRule = tuple[str, str, AnnotatedFrames]
"""Meaning of slices without any structure, a structure, and the frames in which it was annotated."""


@dataclass(frozen=True)
class ExportedStudy:
    """What a layout needs to know about one study; ``rules`` are those that give exactly its coverage."""

    whole_cycle: bool
    group: str
    diagnosis: Diagnosis
    rules: frozenset[CoverageRule]


def describe_export(dataset: str, studies: Sequence[ExportedStudy], terms: Terms) -> dict[str, str]:
    """Layouts by file name for whole cycles and for single frames; empty if one of them cannot be exact."""
    stated = {} if terms == UNSPECIFIED else {"licence": terms.licence, "citation": terms.citation}
    layouts: dict[str, str] = {}
    for name, whole in (("cycles.yaml", True), ("frames.yaml", False)):
        kind = [study for study in studies if study.whole_cycle is whole]
        if not kind:
            continue
        common = _common_rule(frozenset.intersection(*(study.rules for study in kind)))
        if common is None:
            return {}
        tree = _tree(dataset, kind, *common) | stated
        layouts[name] = yaml.safe_dump(tree, sort_keys=False, allow_unicode=True, width=120)
    return layouts


def _true_rules(study: Study) -> Iterator[CoverageRule]:
    """All rules that give exactly the coverage of ``study``."""
    seen: BoolArray = np.asarray(study.label.any(axis=(1, 2)))  # T Z
    labelled = np.asarray(seen.any(axis=1))[:, None]
    phases = {"ed": study.ed_index, "es": study.es_index}
    for empty, (i, structure), names in product(EMPTY_SLICES, enumerate(STRUCTURES), FRAME_RULES):
        looked = np.broadcast_to(labelled, seen.shape) if empty == "background" else seen
        frames = np.asarray(np.isin(study.frame_index, [phases.get(name, -1) for name in names]))
        covered = looked & (frames | ("all" in names))[:, None]
        if np.array_equal(covered, study.coverage[..., i]):
            yield empty, structure.name, names


def _common_rule(rules: frozenset[CoverageRule]) -> tuple[str, dict[str, AnnotatedFrames]] | None:
    """The meaning of empty slices and the frames of each structure; None if no rule holds for all studies."""
    for empty in EMPTY_SLICES:
        found: dict[str, AnnotatedFrames] = {}
        for structure in STRUCTURES:
            for names in FRAME_RULES:
                if (empty, structure.name, names) in rules:
                    found.setdefault(structure.name, names)
        if len(found) == len(STRUCTURES):
            return empty, found
    return None


def _tree(
    dataset: str, studies: Sequence[ExportedStudy], empty: str, frames: dict[str, AnnotatedFrames]
) -> dict[str, Any]:
    stem = "{subject}/{subject}_" + ("4d" if studies[0].whole_cycle else "frame{frame}")
    phases = {"ed": "ed_frame_number", "es": "es_frame_number", "frames": "frames", "known_from": "phases_from"}
    columns = ("subject", "vendor", "group")
    reported = {"lv_edv_ml": "reported_lv_edv_ml", "lv_esv_ml": "reported_lv_esv_ml"}
    annotated = {structure.name: int(structure) for structure in STRUCTURES if frames[structure.name]}
    tree: dict[str, Any] = {
        "dataset": dataset,
        "note": "written by cinesynth export: cinesynth ingest nifti reads the same studies again",
        "image": f"{stem}.nii.gz",
        "phases": phases,
        "counts_from": 1,
        "table": {"file": STUDIES_TABLE, **{name: name for name in columns}, **reported},
        "diagnoses": {study.group or study.diagnosis.value: study.diagnosis.value for study in studies},
    }
    if studies[0].whole_cycle:
        del phases["frames"]
    if annotated:
        covers = {name: list(names) for name, names in frames.items() if names not in ((), ("all",))}
        tree |= {"label": f"{stem}_label.nii.gz", "labels": annotated, "empty_slices": empty, "covers": covers}
    return tree
