"""One HDF5 file per study: the scanner's voxels, labels and geometry, without loss."""

from __future__ import annotations

import hashlib
import io
import json
import re
from pathlib import Path
from typing import Any, get_args

import h5py
import numpy as np

from cinesynth.errors import DataError
from cinesynth.io.files import write_bytes
from cinesynth.types import STRUCTURES, Diagnosis, PhasesFrom, SlicesFrom, Study, covered_label, full_coverage

FORMAT = 2
"""Format 1 had no coverage, only labelled frames: all structures in all of their slices count as annotated."""
TEXTS = ("subject", "dataset", "vendor")
NUMBERS = ("frames_in_cycle", "ed_index", "es_index")
UNWRITABLE = re.compile("[\0\ud800-\udfff]")
"""Zero bytes, and surrogates of bytes that were not UTF-8."""
ORIGINS = ("group", "phases_from", "slices_from")
"""Texts that format 1 lacks."""
IF_KNOWN = ("frame_time_ms", "reported_lv_edv_ml", "reported_lv_esv_ml")
"""Numbers that are omitted if they are unknown."""
VOLUMES = ("image", "label")
ARRAYS = ("frame_index", "affine")


def write_study(path: Path, study: Study) -> str:
    """Write ``study`` to ``path`` atomically and return the file's SHA-256. `DataError` if it contradicts itself."""
    check_study(study)
    memory = io.BytesIO()  # on a full disk, HDF5 prints errors when closing; plain bytes fail cleanly
    with h5py.File(memory, "w") as file:
        for name in VOLUMES:
            # higher gzip levels take several times as long to save a few percent
            how: dict[str, Any] = {"compression": "gzip", "compression_opts": 1, "shuffle": True}
            file.create_dataset(name, data=getattr(study, name), chunks=(1, *study.image.shape[1:]), **how)
        for name in ("coverage", *ARRAYS):
            file[name] = getattr(study, name)
        for name in (*TEXTS, *NUMBERS, *ORIGINS, "to_source"):
            file.attrs[name] = getattr(study, name)
        file.attrs["format"] = FORMAT
        file.attrs["diagnosis"] = study.diagnosis.value
        for name in IF_KNOWN:
            if (value := getattr(study, name)) is not None:
                file.attrs[name] = value
        if study.notes:
            file.attrs["notes"] = json.dumps(study.notes)
    write_bytes(path, memory.getvalue())
    return hashlib.sha256(memory.getvalue()).hexdigest()


def read_study(path: Path) -> Study:
    """The study that `write_study` wrote, bit for bit. Files of format 1 are read too. `DataError` if damaged."""
    try:
        with h5py.File(path, "r") as file:
            return _read(path, file)
    except (OSError, KeyError, ValueError) as error:
        raise DataError(f"{path} is not a study of a dataset: {error}", hint="ingest the source again") from error


def study_file(study: Study) -> str:
    """Path of ``study`` relative to its dataset folder; `DataError` if its names cannot be a file name."""
    name = f"{study.dataset}_{study.subject}.h5"
    if not re.fullmatch(r"[A-Za-z0-9_.+-]{1,200}", name):
        raise DataError(
            f"{name[:250]!r} cannot be a file name", hint="name subjects with at most 190 letters, digits and . _ + -"
        )
    return f"studies/{name}"


def check_study(study: Study) -> None:
    """`DataError` naming the subject if the fields of ``study`` contradict each other."""
    for wrong, found in _faults(study):
        if wrong:
            raise DataError(f"{study.dataset} {study.subject}: {found}", hint="the source is damaged or misread")


def _faults(study: Study) -> list[tuple[bool, str]]:
    """Every possible contradiction, and whether ``study`` has it."""
    shape, index, frames = study.image.shape, study.frame_index, study.frames_in_cycle
    if len(shape) != 4 or study.label.shape != shape:
        return [(True, f"image {shape} and label {study.label.shape} are not both T X Y Z")]
    expected = (shape[0], shape[3], len(STRUCTURES))
    if study.coverage.shape != expected or study.coverage.dtype != np.bool_:
        return [(True, f"coverage {study.coverage.shape} {study.coverage.dtype} is not T Z S, {expected} bool")]
    if index.shape != shape[:1]:
        return [(True, "frame_index and image differ in length")]
    stored, known = set(index.tolist()), {name: getattr(study, name) for name in IF_KNOWN}
    axes, signs = sorted(axis for axis, _ in study.to_source), {sign for _, sign in study.to_source}
    return [
        (study.label.dtype != np.uint8 or int(study.label.max()) > 3, "labels are not bytes 0-3"),
        (len(stored) != len(index), "a frame is stored twice"),
        (min(stored) < 0 or max(stored) >= frames, f"stored frames lie outside a cycle of {frames}"),
        (not {study.ed_index, study.es_index} <= stored, "ED or ES is not among the stored frames"),
        (study.ed_index == study.es_index, "ED and ES are the same frame"),
        (not np.isfinite(study.image).all(), "the image holds values that are not finite"),
        (
            not np.array_equal(covered_label(study.label, study.coverage), study.label),
            "a structure has labels in a slice where coverage says it was not annotated",
        ),
        (not (np.isfinite(study.affine).all() and study.voxel_ml > 0), "the affine spans no volume"),
        *((value is not None and not value > 0, f"{name} is not positive") for name, value in known.items()),
        (study.phases_from not in get_args(PhasesFrom), f"ED and ES cannot come from {study.phases_from!r}"),
        (study.slices_from not in get_args(SlicesFrom), f"slice order cannot come from {study.slices_from!r}"),
        (
            any(map(UNWRITABLE.search, (study.subject, study.vendor, study.group, *study.notes))),
            "a name or note contains characters that cannot be written",
        ),
        (axes != [0, 1, 2] or not signs <= {1, -1}, f"to_source {study.to_source} is not an orientation"),
    ]


def _read(path: Path, file: Any) -> Study:
    version = int(file.attrs.get("format", 1))
    if version > FORMAT:
        raise DataError(
            f"{path} has format {version}, this version reads up to {FORMAT}",
            hint="update cinesynth, or ingest the source again",
        )
    values: dict[str, Any] = {name: file[name][()] for name in (*VOLUMES, *ARRAYS)}
    values |= {name: str(file.attrs[name]) for name in TEXTS} | {name: int(file.attrs[name]) for name in NUMBERS}
    if version == 1:
        values["coverage"] = full_coverage(file["labelled"][()], values["image"].shape[3])
    else:
        values["coverage"] = file["coverage"][()]
        values |= {name: str(file.attrs[name]) for name in ORIGINS}
        values["to_source"] = tuple((int(axis), int(sign)) for axis, sign in file.attrs["to_source"])
    values |= {name: float(file.attrs[name]) for name in IF_KNOWN if name in file.attrs}
    values["notes"] = tuple(json.loads(file.attrs.get("notes", "[]")))
    return Study(diagnosis=Diagnosis(file.attrs["diagnosis"]), **values)
