"""M&Ms (Campello et al., IEEE TMI 2021): whole cycles of four vendors and a table of all subjects.

``{Training/{Labeled,Unlabeled},Validation,Testing}/ID/ID_sa{,_gt}.nii.gz`` beside ``*M&Ms*.csv``. Labels are 1 LV,
2 myocardium, 3 RV, filled at ED and ES only; the table counts frames from 0. The label files of the unlabelled
subjects are empty, and their ED and ES in the table are both 0, which says nothing: they are assumed. Slices run from
apex to base in most stacks and from base to apex in others.
"""

from __future__ import annotations

import glob
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import numpy as np

from cinesynth.data.nifti import MNMS_NUMBERS, read_labels, read_volume
from cinesynth.data.orientation import oriented
from cinesynth.data.sources import Source
from cinesynth.data.sources.cycle import Cycle, choose_phases, frames_with_labels, labelled_study, whole_cycle
from cinesynth.data.vocabulary import diagnosis_of, vendor_of
from cinesynth.errors import DataError
from cinesynth.io.tables import Table, TableRow, is_named, read_table, reading
from cinesynth.types import LabelArray, Study, full_coverage

TABLE, CODE = "*M&Ms*.csv", "External code"
"""The file name changed its date and words with each release; the column stayed."""
PARTS = (".", "Labeled", "Unlabeled", "Training/Labeled", "Training/Unlabeled", "Training", "Validation", "Testing")
ROOTS = (".", "OpenDataset", "..", "../..")
"""Where the table may lie, seen from the folder that a user names."""


@reading()
def read_mnms(root: Path) -> Source:
    """All subjects below ``root`` (the download, its ``OpenDataset``, or one of its parts), read when asked for.

    `DataError` if there are none or the table is missing, or, while reading, naming what is missing or wrong.
    """
    root = Path(root)
    table = read_table(_table(root), CODE)
    folders = {folder.name: folder for base in ROOTS[:2] for part in PARTS for folder in _subjects(root / base / part)}
    if not folders:
        raise DataError(
            f"no M&Ms subjects in {root}",
            hint="name the folder that holds Training/Labeled/A0S9V9 (from the M&Ms download, unpacked)",
        )
    return Source(tuple(sorted(folders)), partial(_read, folders, table), files=partial(_files, folders, table))


def read_subject(folder: Path, table: Table) -> Study:
    """One subject's folder as a study."""
    row = table.row(folder.name)
    cycle = whole_cycle(read_volume(folder / f"{folder.name}_sa.nii.gz", 4))
    label = _labels(folder, cycle)
    labelled = frames_with_labels(label)
    declared = row.index("ED"), row.index("ES")
    phases = choose_phases(cycle, label, declared if declared[0] != declared[1] else None)
    if phases.phases_from == "metadata":
        _check_labels(row, np.flatnonzero(labelled).tolist(), *declared)
    group = row.text("Pathology") if "Pathology" in row.cells else ""
    study = labelled_study(
        cycle,
        label,
        full_coverage(labelled, label.shape[3]),
        phases,
        subject=folder.name,
        dataset="mnms",
        vendor=vendor_of(row.text("VendorName")),
        diagnosis=diagnosis_of(group),
        group=group,
    )
    return oriented(study)


@reading()
def _read(folders: dict[str, Path], table: Table, name: str) -> Study:
    return read_subject(folders[name], table)


def _files(folders: dict[str, Path], table: Table, name: str) -> list[Path]:
    return [table.path, *sorted(folders[name].glob(f"{glob.escape(name)}_sa*.nii.gz"))]


def _table(root: Path) -> Path:
    for base in ROOTS:
        found = sorted(path for path in (root / base).glob(TABLE) if not path.name.startswith("."))
        if found:
            return found[-1]  # the newest date
    raise DataError(
        f"no table {TABLE} in {root}",
        hint="keep 211230_M&Ms_Dataset_information_diagnosis_opendataset.csv beside Training, Validation and Testing",
    )


def _subjects(folder: Path) -> Iterable[Path]:
    if not folder.is_dir():
        return []
    return [path for path in sorted(folder.iterdir()) if path.is_dir() and is_named(path / f"{path.name}_sa.nii.gz")]


def _labels(folder: Path, cycle: Cycle) -> LabelArray:
    """Labels ``T X Y Z``; zeros where a subject has no label file."""
    path = folder / f"{folder.name}_sa_gt.nii.gz"
    return read_labels(path, cycle.grid, MNMS_NUMBERS) if is_named(path) else cycle.no_labels


def _check_labels(row: TableRow, labelled: list[int], ed: int, es: int) -> None:
    if labelled and not {ed, es} <= set(labelled):
        raise DataError(
            f"{row.subject} is labelled in frames {labelled}, but {row.path.name} has ED {ed} and ES {es}",
            hint="take label and table from the same release of M&Ms",
        )
