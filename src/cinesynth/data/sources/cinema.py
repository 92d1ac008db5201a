"""What CineMA (github.com/mathpluscode/CineMA) makes of ACDC, M&Ms, M&Ms-2 and others, as a dataset.

``<split>/<pid>/<pid>_sax_{t,ed,es}{,_gt}.nii.gz`` beside ``<split>_metadata.csv``, on 1 x 1 x 10 mm, labels 1 RV,
2 myocardium, 3 LV. ``t`` is the whole cycle where CineMA kept it. Volumes are measured from the labels: the columns
``lv_edv`` and ``lv_esv`` of newer tables must agree with them, the ``edv`` and ``esv`` of older ones add up all label
numbers and are not read. ``diastole_volume`` and ``systole_volume`` are those of the Data Science Bowl; they and the
newer ones are kept as reported. Intensities were scaled frame by frame to 0-255, which cannot be undone.
"""

from __future__ import annotations

import glob
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from cinesynth.data.nifti import read_label, read_labels, read_volume
from cinesynth.data.orientation import oriented
from cinesynth.data.sources import Source
from cinesynth.data.sources.cycle import (
    Cycle,
    choose_phases,
    frames_with_labels,
    labelled_study,
    some_frames,
    whole_cycle,
)
from cinesynth.data.vocabulary import diagnosis_of, vendor_of
from cinesynth.errors import DataError
from cinesynth.io.tables import TableRow, is_named, read_table, reading
from cinesynth.types import Label, LabelArray, Study, full_coverage, volumes_ml

TABLE, CODE = "_metadata.csv", "pid"
SAME_VOLUME = 0.01
"""Largest difference between a volume of the table and that of the label, as a share."""


@reading()
def read_cinema(root: Path) -> Source:
    """All subjects below ``root`` (CineMA's output, or one split of it), read when asked for.

    `DataError` if there are none, or, while reading, naming what is missing or wrong.
    """
    root = Path(root)
    rows: dict[str, tuple[Path, TableRow]] = {}
    for split, path in _splits(root).items():
        table = read_table(path, CODE)
        for folder in sorted(p for p in split.iterdir() if p.is_dir() and any(_volumes(p))):
            if folder.name in rows:
                raise DataError(f"{folder.name} is in two splits of {root}", hint="name one split at a time")
            rows[folder.name] = folder, table.row(folder.name)
    if not rows:
        raise DataError(f"no CineMA subjects in {root}", hint="name the folder that holds train and train_metadata.csv")
    return Source(tuple(rows), partial(_read, rows), files=partial(_files, rows))


def read_subject(folder: Path, row: TableRow) -> Study:
    """One subject's folder as a study."""
    cycle = _cycle(folder)
    declared = _phases(folder, row)
    label = _labels(folder, cycle, declared)
    phases = choose_phases(cycle, label, declared)
    group = _cell(row, "pathology")
    study = labelled_study(
        cycle,
        label,
        full_coverage(frames_with_labels(label), label.shape[3]),
        phases,
        subject=folder.name,
        dataset="cinema",
        vendor=vendor_of(_cell(row, "vendor_name") or _cell(row, "vendor")),
        diagnosis=diagnosis_of(group),
        group=group,
        reported_ml=(_reported_ml(row, "lv_edv", "diastole_volume"), _reported_ml(row, "lv_esv", "systole_volume")),
    )
    _check_volumes(study, row)
    return oriented(study)


@reading()
def _read(rows: dict[str, tuple[Path, TableRow]], name: str) -> Study:
    return read_subject(*rows[name])


def _files(rows: dict[str, tuple[Path, TableRow]], name: str) -> list[Path]:
    folder, row = rows[name]
    return [row.path, *sorted(_volumes(folder))]


def _splits(root: Path) -> dict[Path, Path]:
    """The folder of each split and its table."""
    tables = [path for path in sorted(root.glob(f"*{TABLE}")) if not path.name.startswith(".")]
    splits = {path.with_name(path.name.removesuffix(TABLE)): path for path in tables}
    own = root.resolve().with_name(f"{root.resolve().name}{TABLE}")
    found = {folder: path for folder, path in splits.items() if folder.is_dir()}
    return found or ({root: own} if own.is_file() else {})


def _volumes(folder: Path) -> Iterator[Path]:
    return folder.glob(f"{glob.escape(folder.name)}_sax_*")


def _path(folder: Path, what: str) -> Path:
    return folder / f"{folder.name}_sax_{what}.nii.gz"


def _cycle(folder: Path) -> Cycle:
    if is_named(_path(folder, "t")):
        return whole_cycle(read_volume(_path(folder, "t"), 4))
    return some_frames([read_volume(_path(folder, phase), 3) for phase in ("ed", "es")], (0, 1), 2)


def _phases(folder: Path, row: TableRow) -> tuple[int, int] | None:
    """ED and ES as far as they are said; the table counts ``_frame`` from 1 and ``_index`` from 0."""
    if not is_named(_path(folder, "t")):
        return 0, 1
    for suffix, first in (("_frame", 1), ("_index", 0)):
        if _cell(row, f"ed{suffix}") and _cell(row, f"es{suffix}"):
            return row.index(f"ed{suffix}") - first, row.index(f"es{suffix}") - first
    return None


def _labels(folder: Path, cycle: Cycle, phases: tuple[int, int] | None) -> LabelArray:
    """Labels ``T X Y Z``; `DataError` where they are of ED and ES, and nobody says which frames these are."""
    if is_named(_path(folder, "t_gt")):
        return read_labels(_path(folder, "t_gt"), cycle.grid)
    label = cycle.no_labels
    for number, phase in enumerate(("ed", "es")):
        path = _path(folder, f"{phase}_gt")
        if not is_named(path):
            continue
        if phases is None:
            raise DataError(
                f"{path} labels {phase.upper()}, and no table says which frame of the cycle that is",
                hint="give ed_index and es_index in the table, or leave the cycle out (_sax_t)",
            )
        label[cycle.frame_index == phases[number]] = read_label(path, cycle.grid)
    return label


def _check_volumes(study: Study, row: TableRow) -> None:
    measured = volumes_ml(study.label, Label.LV, study.voxel_ml)
    for column, index in (("lv_edv", study.ed_index), ("lv_esv", study.es_index)):
        here = study.frame_index == index
        if not _cell(row, column) or not study.labelled[here].any():
            continue
        said, found = row.number(column), float(measured[here][0])
        if not np.isclose(said, found, rtol=SAME_VOLUME):
            raise DataError(
                f"{row.path}: {column} of {study.subject} is {said:.1f} mL, its label has {found:.1f} mL",
                hint="table and labels are of two runs of CineMA: preprocess the dataset again",
            )


def _reported_ml(row: TableRow, *columns: str) -> float | None:
    """The first of these columns that says a volume; CineMA writes 0 for what it found no label of."""
    return next((row.number(column) for column in columns if _cell(row, column)), 0.0) or None


def _cell(row: TableRow, column: str) -> str:
    return row.text(column) if column in row.cells else ""
