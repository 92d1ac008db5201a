"""The dataset on a preset's grid: a derived cache of bytes, built once and opened lazily."""

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

from cinesynth.data import Progress
from cinesynth.data.geometry import Grid, Placement, place
from cinesynth.data.intensity import IntensityScale, to_uint8
from cinesynth.data.manifest import SPLITS, Manifest, Row, data_hash
from cinesynth.data.phase import phase_of_frames, systole_frames
from cinesynth.data.store import read_study
from cinesynth.errors import DataError
from cinesynth.io.files import atomic_path, file_sha256
from cinesynth.types import (
    STRUCTURES,
    BoolArray,
    Diagnosis,
    Label,
    LabelArray,
    Study,
    covered_label,
    is_contiguous,
    volumes_ml,
)

FORMAT = 3
"""Raised whenever the same study would be packed differently: older caches are then built anew."""
COMPRESSED = {"compression": "gzip", "compression_opts": 1}
"""A fifth smaller than LZF, for caches travel; a frame of 192 x 192 x 16 is read in 3 ms, once (one core)."""


@dataclass(frozen=True, eq=False)
class Record:
    """What is known of one subject on the grid; ``T`` counts the stored frames."""

    subject: str
    dataset: str
    vendor: str
    diagnosis: Diagnosis
    split: str
    phases: NDArray[np.float64]  # T in [0, 2)
    coverage: BoolArray  # T Z S, as in `Study`, on the grid
    slices: int  # acquired slices of the grid; `slice_mask` says which
    ed: int  # position of ED among the stored frames
    es: int  # position of ES among the stored frames
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
    """Bytes of every subject on one grid. Reads when asked; may be pickled and forked (each process opens the file)."""

    def __init__(self, path: Path, grid: Grid, data_hash: str, records: Sequence[Record], keys: Sequence[str]) -> None:
        self.path, self.grid, self.data_hash = path, grid, data_hash
        self.records = list(records)
        self._keys = list(keys)
        self._open: tuple[int, Any] | None = None  # process that opened it, file

    def __len__(self) -> int:
        return len(self.records)

    def split(self, name: str) -> PackedDataset:
        """The subjects of ``train``, ``validation`` or ``test``; nobody is in two. `DataError` on another name."""
        if name not in SPLITS:
            raise DataError(f"there is no split {name!r}", hint=f"one of {', '.join(SPLITS)}")
        return self.where([record.split == name for record in self.records])

    def where(self, keep: Sequence[bool]) -> PackedDataset:
        """The subjects marked in ``keep``, one mark a record."""
        chosen = [i for i, kept in enumerate(keep) if kept]
        records, keys = [self.records[i] for i in chosen], [self._keys[i] for i in chosen]
        return PackedDataset(self.path, self.grid, self.data_hash, records, keys)

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
        """The way from subject ``i``'s native grid to this one, and back."""
        return Placement.from_json(json.loads(self._group(i).attrs["placement"]))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": None}

    def _group(self, i: int) -> Any:
        if self._open is None or self._open[0] != os.getpid():
            try:
                self._open = os.getpid(), h5py.File(self.path, "r")
            except OSError as error:
                raise DataError(
                    f"{self.path} cannot be read: {error}", hint="build it again: cinesynth prepare"
                ) from None
        return self._open[1][self._keys[i]]


def prepare(dataset: Path, grid: Grid, progress: Progress | None = None) -> PackedDataset:
    """The dataset on ``grid``: built once (atomically) for these data and this grid, then opened.

    `DataError` names the subjects that do not fit the grid, or one whose file is missing or altered.
    """
    dataset = Path(dataset)
    manifest, digest = Manifest.read(dataset), data_hash(dataset)
    path = dataset / "grids" / f"{_key(grid, digest)}.h5"
    if not path.exists():
        with atomic_path(path) as temporary, h5py.File(temporary, "w") as file:
            misfits: list[tuple[Row, DataError]] = []
            for number, row in enumerate(manifest, start=1):
                study = load_study(dataset, row)
                try:
                    placement = place(study, grid)
                except DataError as error:
                    misfits.append((row, error))
                else:
                    _pack(file, row, study, placement)
                if progress:
                    progress(number, len(manifest), row.subject)
            if misfits:
                raise _all_of(misfits)
    return _read(path, grid, digest)


def _all_of(misfits: Sequence[tuple[Row, DataError]]) -> DataError:
    """One error for all subjects that do not fit a grid."""
    (_, first), *others = misfits
    names = ", ".join(row.subject for row, _ in others)
    return DataError(f"{first.message}; nor do {names}" if others else first.message, hint=first.hint)


def load_study(dataset: Path, row: Row) -> Study:
    """The native study of a row, its file checked against the manifest."""
    path = Path(dataset) / row.file
    if not path.is_file():
        raise DataError(f"{path} is missing", hint="ingest the source again into a new folder")
    if file_sha256(path) != row.sha256:
        raise DataError(f"{path} is not the file that was ingested", hint="ingest the source again into a new folder")
    return read_study(path)


@dataclass(frozen=True)
class VolumeChange:
    """LV volumes of one subject on its native grid and on the model's; ``None`` where not labelled."""

    subject: str
    native_edv_ml: float | None
    grid_edv_ml: float | None
    native_esv_ml: float | None
    grid_esv_ml: float | None


@dataclass(frozen=True)
class VolumeReport:
    """What the grid does to volumes, one row a subject."""

    rows: tuple[VolumeChange, ...]

    def errors_percent(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Relative errors of EDV and of ESV in percent, of the subjects where they are known."""
        edv = [(row.native_edv_ml, row.grid_edv_ml) for row in self.rows]
        esv = [(row.native_esv_ml, row.grid_esv_ml) for row in self.rows]
        return _relative(edv), _relative(esv)

    @property
    def median_percent(self) -> tuple[float | None, float | None]:
        """Median absolute error of EDV and ESV in percent."""
        edv, esv = (float(np.median(np.abs(e))) if len(e) else None for e in self.errors_percent())
        return edv, esv


def volume_report(dataset: Path, grid: Grid) -> VolumeReport:
    """Native against grid LV volumes of every subject (builds the cache if it is absent)."""
    records, rows = prepare(dataset, grid).records, Manifest.read(Path(dataset)).rows
    pairs = zip(rows, records, strict=True)
    return VolumeReport(
        tuple(VolumeChange(a.subject, a.lv_edv_ml, b.lv_edv_ml, a.lv_esv_ml, b.lv_esv_ml) for a, b in pairs)
    )


def _relative(pairs: Sequence[tuple[float | None, float | None]]) -> NDArray[np.float64]:
    known = [(native, grid) for native, grid in pairs if native is not None and grid is not None]
    return np.array([100.0 * (grid / native - 1.0) for native, grid in known])


def _key(grid: Grid, digest: str) -> str:
    size, spacing = "x".join(map(str, grid.size)), "x".join(f"{s:g}" for s in grid.spacing_mm)
    exact = hashlib.sha256(json.dumps([FORMAT, asdict(grid), digest]).encode()).hexdigest()
    return f"{size}_{spacing}mm_{exact[:12]}"


def _pack(file: Any, row: Row, study: Study, placement: Placement) -> None:
    try:
        scale = IntensityScale.of(study.image)
    except DataError as error:
        raise DataError(f"{row.dataset} {row.subject}: {error.message}", hint=error.hint) from None
    image = to_uint8(scale.apply(placement.image_to_grid(study.image)))
    label, coverage = placement.label_to_grid(study.label), placement.coverage_to_grid(study.coverage)
    group, frame = file.create_group(f"{row.dataset}_{row.subject}"), (1, *placement.grid.size)
    group.create_dataset("image", data=image, chunks=frame, **COMPRESSED)
    group.create_dataset("label", data=covered_label(label, coverage), chunks=frame, **COMPRESSED)
    group["coverage"] = coverage
    group.attrs["placement"] = json.dumps(placement.to_json())
    group.attrs["record"] = json.dumps(_record(row, study, placement, label))


def _record(row: Row, study: Study, placement: Placement, label: LabelArray) -> dict[str, Any]:
    cycle = (study.ed_index, study.es_index, study.frames_in_cycle)
    ed, es = (int(np.flatnonzero(study.frame_index == index)[0]) for index in cycle[:2])
    volumes = volumes_ml(label, Label.LV, placement.grid.voxel_ml)
    covered = study.coverage[..., STRUCTURES.index(Label.LV)]
    edv, esv = (float(volumes[t]) if is_contiguous(covered[t]) else 0.0 for t in (ed, es))
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
        "lv_edv_ml": edv or None,  # 0 would be a heart without a cavity: not labelled
        "lv_esv_ml": esv or None,
        "frame_time_ms": study.frame_time_ms,
    }


def _read(path: Path, grid: Grid, digest: str) -> PackedDataset:
    rows = Manifest.read(path.parent.parent).rows
    keys = [f"{row.dataset}_{row.subject}" for row in rows]
    try:
        with h5py.File(path, "r") as file:
            records = [_parse_record(file[key]) for key in keys]
    except (OSError, KeyError, ValueError) as error:
        raise DataError(f"{path} is damaged: {error}", hint="delete it and run cinesynth prepare") from None
    return PackedDataset(path, grid, digest, records, keys)


def _parse_record(group: Any) -> Record:
    content = json.loads(group.attrs["record"])
    diagnosis, phases = Diagnosis(content.pop("diagnosis")), np.array(content.pop("phases"))
    return Record(diagnosis=diagnosis, phases=phases, coverage=group["coverage"][()], **content)
