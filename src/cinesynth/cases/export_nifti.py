"""Studies as NIfTI in the source's own voxel order, with the tables and layouts that lead back.

``OUT/DATASET/SUBJECT/`` holds ``SUBJECT_4d.nii.gz`` where the whole cycle is stored, else one file a stored frame
(``SUBJECT_frame01.nii.gz``, numbers as in ACDC, from one); labels lie beside them as ``..._label.nii.gz``, 1 RV, 2 MYO,
3 LV. ``OUT/DATASET/studies.csv`` has a row a subject, and ``cycles.yaml`` and ``frames.yaml`` are layouts with which
``cinesynth ingest nifti`` reads the same arrays, affines and coverage again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import yaml
from numpy.typing import NDArray

import cinesynth
from cinesynth.cases.export_items import Item, check_items, new_folder, write_rows
from cinesynth.data.dataset_table import describe
from cinesynth.data.orientation import apply
from cinesynth.data.terms import UNSPECIFIED, Terms
from cinesynth.io.files import write_text
from cinesynth.io.progress import ProgressCallback, no_progress
from cinesynth.types import STRUCTURES, Affine, BoolArray, Diagnosis, Study

SCANNER, ALIGNED = 1, 2
"""NIfTI's codes of a scanner's own frame and of any other."""
NO_TIME = 1.0
"""What ``pixdim[4]`` holds, without a unit, where the frame time is not known: no reader takes it for one."""
DESCRIPTION_BYTES = 79
SYNTHETIC = f"synthetic, cinesynth {cinesynth.__version__}, research use only"
"""What the header of a generated image says of it."""
SAVED_AS = {"float16": "f4", "int64": "f8", "uint64": "f8", "bool": "u1"}
"""What stands for types that NIfTI, or most of its readers, do not have."""
TABLE = "studies.csv"
FROM_ROW = (
    *("subject", "vendor", "group", "diagnosis", "split", "frames", "stored_frames", "frame_time_ms", "coverage"),
    *("phases_from", "slices_from", "to_source", "reported_lv_edv_ml", "reported_lv_esv_ml"),
)


@dataclass(frozen=True)
class NiftiExport:
    """What was written."""

    folder: Path
    studies: int
    layouts: tuple[Path, ...]
    """Layouts that read the export back."""
    without_layout: tuple[str, ...]
    """Datasets whose partial labels no layout can tell; their coverage is in the table only."""


def export_nifti(items: Sequence[Item], out: Path, progress: ProgressCallback = no_progress) -> NiftiExport:
    """Write ``items`` into the new folder ``out``.

    `OutputError` if ``out`` holds anything or cannot be written, `DataError` if a study is missing or altered; then
    nothing is left.
    """
    check_items(items)
    described: dict[str, list[Described]] = {}
    rows: dict[str, list[dict[str, Any]]] = {}
    terms: dict[str, Terms] = {}
    with new_folder(out) as folder:
        for number, item in enumerate(items, start=1):
            study = item.load()
            facts = Described.of(study)
            _write_study(folder / study.dataset / study.subject, study, facts.whole_cycle, item.synthetic)
            rows.setdefault(study.dataset, []).append(_row(study, item))
            described.setdefault(study.dataset, []).append(facts)
            terms[study.dataset] = item.terms
            progress("export", number, len(items), {})
        for dataset, table in rows.items():
            write_rows(folder / dataset / TABLE, table)
        layouts = {name: describe_export(name, studies, TABLE, terms[name]) for name, studies in described.items()}
        for dataset, texts in layouts.items():
            for name, text in texts.items():
                write_text(folder / dataset / name, text)
    written = tuple(Path(out) / dataset / name for dataset, texts in layouts.items() for name in texts)
    return NiftiExport(Path(out), len(items), written, tuple(name for name, texts in layouts.items() if not texts))


def write_nifti(
    path: Path,
    volumes: NDArray[Any],
    affine: Affine,
    *,
    frame_time_ms: float | None = None,
    scanner: bool = False,
    description: str = "",
) -> None:
    """Write ``X Y Z``, or ``T X Y Z`` as ``X Y Z T`` with the frame time in ``pixdim[4]``; millimetres, milliseconds.

    ``scanner``: the affine leads to the scanner's own frame (else only to one that these files share).
    """
    data = np.moveaxis(volumes, 0, -1) if volumes.ndim == 4 else volumes
    image: Any = nib.Nifti1Image(data.astype(SAVED_AS.get(data.dtype.name, data.dtype.str)), affine)  # type: ignore[no-untyped-call]
    if volumes.ndim == 4:
        image.header.set_zooms((*image.header.get_zooms()[:3], frame_time_ms or NO_TIME))
    image.header.set_xyzt_units("mm", "msec" if frame_time_ms else "unknown")
    code = SCANNER if scanner else ALIGNED
    image.set_sform(affine, code=code)
    image.set_qform(affine, code=code)
    image.header["descrip"] = description.encode("ascii", "replace")[:DESCRIPTION_BYTES]
    nib.save(image, path)


def write_like(
    path: Path, volumes: NDArray[Any], like: Path, *, frame_time_ms: float | None = None, description: str = ""
) -> None:
    """Write ``X Y Z``, or ``T X Y Z`` as ``X Y Z T``, in the voxels of the NIfTI file ``like``.

    Its affines with their codes, voxel edges and units are kept as they are, its remarks (they may name a person) are
    not. Frames take their time from it too, unless ``frame_time_ms`` is given.
    """
    source: Any = nib.load(like)
    header: Any = source.header.copy()
    header.extensions.clear()
    for remark in ("descrip", "aux_file", "intent_name", "db_name"):
        if remark in header:
            header[remark] = b""
    header["descrip"] = description.encode("ascii", "replace")[:DESCRIPTION_BYTES]
    header["cal_min"] = header["cal_max"] = 0.0
    header.set_slope_inter(1.0, 0.0)
    data = np.moveaxis(volumes, 0, -1) if volumes.ndim == 4 else volumes
    data = data.astype(SAVED_AS.get(data.dtype.name, data.dtype.str))
    header.set_data_dtype(data.dtype)
    image: Any = type(source)(data, source.affine, header)
    if volumes.ndim == 4 and (frame_time_ms or source.ndim == 3):
        image.header.set_zooms((*image.header.get_zooms()[:3], frame_time_ms or NO_TIME))
        image.header.set_xyzt_units(source.header.get_xyzt_units()[0], "msec" if frame_time_ms else "unknown")
    nib.save(image, path)


def describe_origin(study: Study, synthetic: bool) -> str:
    """Where an image comes from, in the few letters that NIfTI has for it."""
    if synthetic:
        return SYNTHETIC
    return f"{study.dataset}, written by cinesynth {cinesynth.__version__}"


def _write_study(folder: Path, study: Study, whole_cycle: bool, synthetic: bool) -> None:
    folder.mkdir(parents=True)
    image, affine = apply(study.image, study.affine, study.to_source)
    label, _ = apply(study.label, study.affine, study.to_source)
    header: dict[str, Any] = {
        "scanner": study.slices_from == "header",
        "description": describe_origin(study, synthetic),
    }
    if whole_cycle:
        header["frame_time_ms"] = study.frame_time_ms
        write_nifti(folder / f"{study.subject}_4d.nii.gz", image, affine, **header)
        write_nifti(folder / f"{study.subject}_4d_label.nii.gz", label, affine, **header)
        return
    for frame, index in enumerate(study.frame_index):
        stem = f"{study.subject}_frame{index + 1:02d}"
        write_nifti(folder / f"{stem}.nii.gz", image[frame], affine, **header)
        if study.labelled[frame]:
            write_nifti(folder / f"{stem}_label.nii.gz", label[frame], affine, **header)


def _row(study: Study, item: Item) -> dict[str, Any]:
    known = describe(study, item.split, "", "")
    return {name: getattr(known, name) for name in FROM_ROW} | {
        "group": study.group or study.diagnosis.value,
        "diagnosis": study.diagnosis.value,
        "ed_frame_number": study.ed_index + 1,
        "es_frame_number": study.es_index + 1,
        "synthetic": "yes" if item.synthetic else "no",
    }


# --- The layout that leads from an export in NIfTI back to the studies it was made of, coverage and all --------------


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
    return {} if terms == UNSPECIFIED else {"licence": terms.licence, "citation": terms.citation}


def _text(tree: dict[str, Any]) -> str:
    return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True, width=120)
