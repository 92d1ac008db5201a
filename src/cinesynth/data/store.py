"""One study, one HDF5 file: the scanner's voxels, labels and geometry, without loss."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from cinesynth.atomic import write_bytes
from cinesynth.errors import DataError
from cinesynth.types import Diagnosis, Study

GZIP_LEVEL = 1
"""Higher levels cost several times the time for a few percent."""
ATTRIBUTES = ("subject", "dataset", "vendor", "frames_in_cycle", "ed_index", "es_index")
ARRAYS = ("image", "label", "labelled", "frame_index", "affine")


def write_study(path: Path, study: Study) -> str:
    """Write ``study`` to ``path`` atomically and return the file's SHA-256. `DataError` if it contradicts itself."""
    check_study(study)
    memory = io.BytesIO()  # HDF5 on a full disk leaves noise behind; plain bytes fail cleanly
    with h5py.File(memory, "w") as file:
        _fill(file, study)
    write_bytes(path, memory.getvalue())
    return hashlib.sha256(memory.getvalue()).hexdigest()


def read_study(path: Path) -> Study:
    """The study that `write_study` wrote, bit for bit."""
    try:
        with h5py.File(path, "r") as file:
            arrays: dict[str, Any] = {name: file[name][()] for name in ARRAYS}
            values: dict[str, Any] = {name: file.attrs[name] for name in ATTRIBUTES}
            diagnosis, frame_time = Diagnosis(file.attrs["diagnosis"]), file.attrs.get("frame_time_ms")
    except (OSError, KeyError, ValueError) as error:
        raise DataError(f"{path} is not a study of a dataset: {error}", hint="ingest the source again") from error
    for name in ("frames_in_cycle", "ed_index", "es_index"):
        values[name] = int(values[name])
    return Study(
        diagnosis=diagnosis, frame_time_ms=None if frame_time is None else float(frame_time), **values, **arrays
    )


def file_hash(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def check_study(study: Study) -> None:
    """`DataError` naming the subject unless the fields of ``study`` agree with each other."""
    for wrong, found in _faults(study):
        if wrong:
            raise DataError(f"{study.dataset} {study.subject}: {found}", hint="the source is damaged or misread")


def _faults(study: Study) -> list[tuple[bool, str]]:
    shape, index, frames = study.image.shape, study.frame_index, study.frames_in_cycle
    if len(shape) != 4 or study.label.shape != shape:
        return [(True, f"image {shape} and label {study.label.shape} are not both T X Y Z")]
    stored = set(index.tolist())
    return [
        (study.label.dtype != np.uint8 or int(study.label.max()) > 3, "labels are not bytes 0-3"),
        (study.labelled.shape != shape[:1] or index.shape != shape[:1], "frames and their lists differ in length"),
        (len(stored) != len(index), "a frame is stored twice"),
        (min(stored) < 0 or max(stored) >= frames, f"stored frames lie outside a cycle of {frames}"),
        (not {study.ed_index, study.es_index} <= stored, "ED or ES is not among the stored frames"),
        (study.ed_index == study.es_index, "ED and ES are one frame"),
        (not np.isfinite(study.image).all(), "the image holds values that are not finite"),
        (bool(study.label[~study.labelled].any()), "a frame that is not labelled has labels"),
        (not (np.isfinite(study.affine).all() and study.voxel_ml > 0), "the affine spans no volume"),
        (study.frame_time_ms is not None and not study.frame_time_ms > 0, "the frame time is not positive"),
    ]


def _fill(file: Any, study: Study) -> None:
    frame = (1, *study.image.shape[1:])
    for name in ("image", "label"):
        file.create_dataset(
            name, data=getattr(study, name), chunks=frame, compression="gzip", compression_opts=GZIP_LEVEL, shuffle=True
        )
    for name in ("labelled", "frame_index", "affine"):
        file[name] = getattr(study, name)
    for name in ATTRIBUTES:
        file.attrs[name] = getattr(study, name)
    file.attrs["diagnosis"] = study.diagnosis.value
    if study.frame_time_ms is not None:
        file.attrs["frame_time_ms"] = study.frame_time_ms
