"""The layout that leads from an export in NIfTI back to the studies it was made of, coverage and all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import yaml

from cinesynth.data.terms import UNSAID, Terms
from cinesynth.types import STRUCTURES, BoolArray, Diagnosis, Study

EMPTY_SLICES = ("background", "unknown")
Frames = tuple[str, ...]
FRAMES: tuple[Frames, ...] = (("all",), ("ed", "es"), ("ed",), ("es",), ())
"""Where a structure can be said to be annotated: in all labelled frames, at ED, at ES, or never."""
Saying = tuple[str, str, Frames]
"""A rule for slices without any structure, a structure, and the frames in which it was annotated."""


@dataclass(frozen=True)
class Described:
    """What a layout would have to say of one study."""

    whole_cycle: bool
    group: str
    diagnosis: Diagnosis
    true: frozenset[Saying]
    """What is true of its coverage."""

    @classmethod
    def of(cls, study: Study) -> Described:
        """The facts of ``study``."""
        whole = np.array_equal(study.frame_index, np.arange(study.frames_in_cycle))
        return cls(whole, study.group, study.diagnosis, frozenset(_true_sayings(study)))


def describe_export(dataset: str, studies: Sequence[Described], table: str, terms: Terms) -> dict[str, str]:
    """Layouts by file name for the whole cycles and for the single frames of a dataset; none if one says too little."""
    layouts: dict[str, str] = {}
    for name, whole in (("cycles.yaml", True), ("frames.yaml", False)):
        kind = [study for study in studies if study.whole_cycle is whole]
        if not kind:
            continue
        said = _said(frozenset.intersection(*(study.true for study in kind)))
        if said is None:
            return {}
        layouts[name] = _text(_tree(dataset, kind, table, *said) | _said_terms(terms))
    return layouts


def _true_sayings(study: Study) -> Iterator[Saying]:
    """All sayings that, taken at their word, give the coverage of ``study``."""
    seen: BoolArray = np.asarray(study.label.any(axis=(1, 2)))  # T Z
    labelled = np.asarray(seen.any(axis=1))[:, None]
    phases = {"ed": study.ed_index, "es": study.es_index}
    for empty, (i, structure), names in product(EMPTY_SLICES, enumerate(STRUCTURES), FRAMES):
        looked = np.broadcast_to(labelled, seen.shape) if empty == "background" else seen
        frames = np.asarray(np.isin(study.frame_index, [phases.get(name, -1) for name in names]))
        told = looked & (frames | ("all" in names))[:, None]
        if np.array_equal(told, study.coverage[..., i]):
            yield empty, structure.name, names


def _said(true: frozenset[Saying]) -> tuple[str, dict[str, Frames]] | None:
    """One rule for empty slices and the frames of each structure; None where nothing is true of all studies."""
    for empty in EMPTY_SLICES:
        found: dict[str, Frames | None] = {
            structure.name: next((names for names in FRAMES if (empty, structure.name, names) in true), None)
            for structure in STRUCTURES
        }
        told = {name: names for name, names in found.items() if names is not None}
        if len(told) == len(STRUCTURES):
            return empty, told
    return None


def _tree(
    dataset: str, studies: Sequence[Described], table: str, empty: str, frames: dict[str, Frames]
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
        "table": {"file": table, **{name: name for name in columns}, **reported},
        "diagnoses": {study.group or study.diagnosis.value: study.diagnosis.value for study in studies},
    }
    if studies[0].whole_cycle:
        del phases["frames"]
    if annotated:
        covers = {name: list(names) for name, names in frames.items() if names not in ((), ("all",))}
        tree |= {"label": f"{stem}_label.nii.gz", "labels": annotated, "empty_slices": empty, "covers": covers}
    return tree


def _said_terms(terms: Terms) -> dict[str, str]:
    return {} if terms == UNSAID else {"licence": terms.licence, "citation": terms.citation}


def _text(tree: dict[str, Any]) -> str:
    return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True, width=120)
