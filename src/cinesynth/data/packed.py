"""The dataset on the grid of a preset: a cache of bytes, built once and read on demand."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from cinesynth.data.dataset_table import SPLITS, DatasetTable, SubjectRow, data_hash, known_volumes_ml
from cinesynth.data.duplicates import sketch
from cinesynth.data.findings import Finding, duplicate_findings, name_of, refuse, subject_findings
from cinesynth.data.geometry import Grid, Placement, place
from cinesynth.data.normalisation import IntensityScale, phase_of_frames, systole_frames, to_uint8
from cinesynth.data.plausibility import implausible
from cinesynth.data.store import read_study
from cinesynth.errors import DataError
from cinesynth.io.files import atomic_path, file_sha256
from cinesynth.io.tasks import ProgressCallback, no_progress
from cinesynth.types import BoolArray, Diagnosis, FloatArray, Label, LabelArray, Study, covered_label

FORMAT = 4
"""Increased whenever the same study would be packed or checked differently; older caches are then rebuilt."""


@dataclass(frozen=True, eq=False)
class Record:
    """Metadata of one subject on the grid; ``T`` is the number of stored frames."""

    subject: str
    dataset: str
    vendor: str
    diagnosis: Diagnosis
    split: str
    phases: NDArray[np.float64]  # T in [0, 2)
    coverage: BoolArray  # T Z S, as in `Study`, on the grid
    slices: int  # acquired slices of the grid; `slice_mask` says which
    ed: int  # index of ED among the stored frames
    es: int  # index of ES among the stored frames
    frames_in_cycle: int
    es_index_from_ed: int  # frames from ED to ES
    lv_edv_ml: float | None  # measured on the grid
    lv_esv_ml: float | None
    frame_time_ms: float | None

    @property
    def labelled(self) -> BoolArray:
        """The stored frames in which anything was annotated, shape ``T``."""
        return np.asarray(self.coverage.any(axis=(1, 2)), dtype=np.bool_)


class PackedDataset:
    """Images and labels of every subject on one grid, as bytes, read on demand.

    It can be pickled and forked: each process opens the file for itself.
    """

    def __init__(self, path: Path, grid: Grid, data_hash: str, records: Sequence[Record]) -> None:
        self.path, self.grid, self.data_hash, self.records = path, grid, data_hash, list(records)
        self._open: tuple[int, Any] | None = None  # process that opened it, file

    def __len__(self) -> int:
        return len(self.records)

    def split(self, name: str) -> PackedDataset:
        """The subjects of ``train``, ``validation`` or ``test``; `DataError` for any other name."""
        if name not in SPLITS:
            raise DataError(f"unknown split {name!r}", hint=f"one of {', '.join(SPLITS)}")
        return self.where([record.split == name for record in self.records])

    def where(self, keep: Sequence[bool]) -> PackedDataset:
        """The subjects whose entry in ``keep`` (one per record) is true."""
        records = [record for record, kept in zip(self.records, keep, strict=True) if kept]
        return PackedDataset(self.path, self.grid, self.data_hash, records)

    def image(self, i: int, t: int) -> NDArray[np.uint8]:
        """Stored frame ``t`` of subject ``i``: ``X Y Z`` bytes (see `from_uint8`), 0 where not acquired."""
        return np.asarray(self._group(i)["image"][t])

    def label(self, i: int, t: int) -> LabelArray:
        """Label of stored frame ``t`` of subject ``i``: ``X Y Z``, 0 where a structure was not annotated."""
        return np.asarray(self._group(i)["label"][t])

    def images(self, i: int) -> NDArray[np.uint8]:
        """All stored frames of subject ``i``: ``T X Y Z``."""
        return np.asarray(self._group(i)["image"][()])

    def labels(self, i: int) -> LabelArray:
        """Labels of all stored frames of subject ``i``: ``T X Y Z``."""
        return np.asarray(self._group(i)["label"][()])

    def placement(self, i: int) -> Placement:
        """The resampling from the native grid of subject ``i`` to this one, and back."""
        return Placement.from_json(json.loads(self._group(i).attrs["placement"]))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": None}

    def _group(self, i: int) -> Any:
        if self._open is None or self._open[0] != os.getpid():
            try:
                self._open = os.getpid(), h5py.File(self.path, "r")
            except OSError as error:
                raise DataError(
                    f"{self.path} cannot be read: {error}", hint="rebuild it with cinesynth prepare"
                ) from None
        return self._open[1][_key(self.records[i])]


def prepare(dataset: Path, grid: Grid, progress: ProgressCallback = no_progress) -> PackedDataset:
    """The dataset on ``grid``: built once (atomically) for this data and grid, then opened.

    `DataError` naming all subjects with a `Finding` that stops (they do not fit the grid, say), or one whose file is
    missing or altered.
    """
    dataset = Path(dataset)
    table, digest = DatasetTable.read(dataset), data_hash(dataset)
    size, spacing = "x".join(map(str, grid.size)), "x".join(f"{s:g}" for s in grid.spacing_mm)
    exact = hashlib.sha256(json.dumps([FORMAT, asdict(grid), digest]).encode()).hexdigest()
    path = dataset / "grids" / f"{size}_{spacing}mm_{exact[:12]}.h5"
    if not path.exists():
        with atomic_path(path) as temporary, h5py.File(temporary, "w") as file:
            findings: list[Finding] = []
            sketches: dict[str, FloatArray] = {}
            for number, row in enumerate(table, start=1):
                study = load_study(dataset, row)
                wrong = [each for each in subject_findings(row, study, grid, implausible(study)) if each.serious]
                if not wrong:
                    _pack(file, row, study, place(study, grid))
                findings += wrong
                sketches[name_of(row)] = sketch(study)
                progress("prepare", number, len(table), {})
            refuse([*findings, *duplicate_findings(table, sketches)], dataset)
    records = []
    try:
        with h5py.File(path, "r") as file:
            for group in (file[_key(row)] for row in table):
                content = json.loads(group.attrs["record"])
                content["diagnosis"], content["phases"] = Diagnosis(content["diagnosis"]), np.array(content["phases"])
                records.append(Record(coverage=group["coverage"][()], **content))
    except (OSError, KeyError, ValueError) as error:
        raise DataError(f"{path} is damaged: {error}", hint="delete it and run cinesynth prepare") from None
    return PackedDataset(path, grid, digest, records)


def load_study(dataset: Path, row: SubjectRow) -> Study:
    """The native study of a row; `DataError` if its file is missing or does not have the SHA-256 of the row."""
    path = Path(dataset) / row.file
    if not path.is_file():
        raise DataError(f"{path} is missing", hint="ingest the source again into a new folder")
    if file_sha256(path) != row.sha256:
        raise DataError(f"{path} has changed since it was ingested", hint="ingest the source again into a new folder")
    return read_study(path)


def volume_errors_percent(dataset: Path, grid: Grid) -> dict[str, NDArray[np.float64]]:
    """Relative errors of the LV volumes ``EDV`` and ``ESV`` on ``grid``, percent, for the subjects with known volumes.

    They refer to the native labels. The cache is built if it is absent.
    """
    pairs = list(zip(prepare(dataset, grid).records, DatasetTable.read(Path(dataset)).rows, strict=True))
    edv = [100.0 * (r.lv_edv_ml / row.lv_edv_ml - 1.0) for r, row in pairs if row.lv_edv_ml and r.lv_edv_ml]
    esv = [100.0 * (r.lv_esv_ml / row.lv_esv_ml - 1.0) for r, row in pairs if row.lv_esv_ml and r.lv_esv_ml]
    return {"EDV": np.array(edv), "ESV": np.array(esv)}


def _key(subject: SubjectRow | Record) -> str:
    """The group of a subject in the file."""
    return f"{subject.dataset}_{subject.subject}"


def _pack(file: Any, row: SubjectRow, study: Study, placement: Placement) -> None:
    try:
        scale = IntensityScale.of(study.image)
    except DataError as error:
        raise DataError(f"{row.dataset} {row.subject}: {error.message}", hint=error.hint) from None
    image = to_uint8(scale.apply(placement.image_to_grid(study.image)))
    label, coverage = placement.label_to_grid(study.label), placement.coverage_to_grid(study.coverage)
    group, frame = file.create_group(_key(row)), (1, *placement.grid.size)
    # Gzip is a fifth smaller than LZF; a frame of 192 x 192 x 16 is still read in 3 ms on one core.
    for name, data in (("image", image), ("label", covered_label(label, coverage))):
        group.create_dataset(name, data=data, chunks=frame, compression="gzip", compression_opts=1)
    group["coverage"] = coverage
    group.attrs["placement"] = json.dumps(placement.to_json())
    group.attrs["record"] = json.dumps(_record(row, study, placement, label))


def _record(row: SubjectRow, study: Study, placement: Placement, label: LabelArray) -> dict[str, Any]:
    cycle = (study.ed_index, study.es_index, study.frames_in_cycle)
    ed, es = (int(np.flatnonzero(study.frame_index == index)[0]) for index in cycle[:2])
    edv_ml, esv_ml = (
        known_volumes_ml(label[t], study.coverage[t], placement.grid.voxel_ml)[Label.LV] for t in (ed, es)
    )
    return {
        "subject": row.subject,
        "dataset": row.dataset,
        "vendor": row.vendor,
        "diagnosis": row.diagnosis.value,
        "split": row.split,
        "phases": phase_of_frames(study.frame_index, *cycle).tolist(),
        "slices": placement.slices,
        "ed": ed,
        "es": es,
        "frames_in_cycle": study.frames_in_cycle,
        "es_index_from_ed": systole_frames(*cycle),
        "lv_edv_ml": edv_ml,
        "lv_esv_ml": esv_ml,
        "frame_time_ms": study.frame_time_ms,
    }
