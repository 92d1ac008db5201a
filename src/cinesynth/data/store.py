"""Studies on disk: one HDF5 file each, without loss, and the staging folder from which an ingestion can be resumed."""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import h5py
import numpy as np

from cinesynth import __version__
from cinesynth.data.dataset_table import SPLITS, SubjectRow, describe
from cinesynth.data.duplicates import sketch
from cinesynth.data.sources import Source
from cinesynth.errors import DataError, InputError, OutputError
from cinesynth.io.files import file_sha256, make_folder, write_bytes
from cinesynth.types import (
    STRUCTURES,
    Diagnosis,
    FloatArray,
    PhasesFrom,
    SlicesFrom,
    Study,
    covered_label,
    full_coverage,
)

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
STAGING = ".staging"
KEPT = re.compile(r"[0-9a-f]{64}\.h5")
"""Name of a complete study in the staging folder: the hash of the files it was read from."""


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
            hint = "copy the source again; if its files are intact, report the problem"
            raise DataError(f"{study.dataset} {study.subject}: {found}", hint=hint)


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


# --- Studies on their way into a dataset: read by several processes --------------------------------------------------


@dataclass(frozen=True)
class Staged:
    """A study in the staging folder and its row, whose split is assigned later."""

    row: SubjectRow
    path: Path
    sketch: FloatArray
    """Its images at low resolution, to find the same person under another name."""


@dataclass(frozen=True)
class Stager:
    """Reads the studies of ``source`` into ``folder``, one per call; can be pickled for other processes."""

    source: Source
    folder: Path

    def __call__(self, number: int) -> Staged | DataError:
        """Study ``number`` of the source: found complete in the folder, or read and written; or the error."""
        name, study = self.source.names[number], None
        try:
            path = self.folder / f"{content_key(self.source, name) or number}.h5"
            if path.exists():  # an interrupted ingestion left it
                with suppress(DataError):  # damaged: it is read again
                    study = read_study(path)
            if study is None:
                study = self.source.read(name)
                target, digest = study_file(study), write_study(path, study)
            else:
                target, digest = study_file(study), file_sha256(path)
            return Staged(describe(study, SPLITS[0], target, digest), path, sketch(study))
        except DataError as error:
            return error
        except MemoryError:
            hint = "use fewer workers, or check the size in the file's header"
            return DataError(f"{name} does not fit into memory", hint=hint)


@contextmanager
def staging(out: Path) -> Iterator[Path]:
    """The staging folder of the dataset in ``out``.

    It is removed when the body succeeds or raises an error about its data or output. After an interruption, complete
    studies with a content hash stay, and the next ingestion uses them.
    """
    folder = make_folder(out / STAGING)
    _sweep(folder)
    try:
        yield folder
    except (DataError, InputError, OutputError):
        shutil.rmtree(folder, ignore_errors=True)
        raise
    except BaseException:
        _sweep(folder)
        with suppress(OSError):  # only an empty folder can be removed
            folder.rmdir()
        raise
    shutil.rmtree(folder, ignore_errors=True)


def content_key(source: Source, name: str) -> str | None:
    """SHA-256 of everything that determines the study ``name``; None if the source does not name its files.

    It covers names and bytes of the files, the changes made to the study after reading, and package and format version.
    """
    if source.files is None:
        return None
    known = [f"{__version__} {FORMAT} {name}{source.version}"]
    try:
        known += [f"{path.name} {file_sha256(path)}" for path in source.files(name)]
    except OSError:
        return None  # reading the study will name the file
    # file names that are not UTF-8 reach Python as surrogates, which plain UTF-8 rejects
    return hashlib.sha256("\n".join(known).encode("utf-8", "surrogatepass")).hexdigest()


def _sweep(folder: Path) -> None:
    """Remove incomplete files, and studies without a content hash, which cannot be found again."""
    for path in folder.iterdir():
        if not KEPT.fullmatch(path.name):
            with suppress(OSError):
                path.unlink()
