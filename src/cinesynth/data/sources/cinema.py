"""Datasets preprocessed by CineMA (github.com/mathpluscode/CineMA): ACDC, M&Ms, M&Ms-2 and others.

``<split>/<pid>/<pid>_sax_{t,ed,es}{,_gt}.nii.gz`` beside ``<split>_metadata.csv``, on 1 x 1 x 10 mm, labels 1 RV,
2 myocardium, 3 LV. ``t`` is the whole cycle, where CineMA kept it. Volumes are measured from the labels, and must agree
with the columns ``lv_edv`` and ``lv_esv`` of newer tables; ``edv`` and ``esv`` of older tables add up all label numbers
and are not read. ``lv_edv``, ``lv_esv``, and ``diastole_volume`` and ``systole_volume`` (Data Science Bowl) are kept as
reported volumes. CineMA scaled intensities frame by frame to 0-255, which cannot be undone.
"""

from __future__ import annotations

import glob
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cinesynth.data.file_faults import with_either_ending
from cinesynth.data.nifti import read_label, read_labels, read_volume
from cinesynth.data.orientation import oriented
from cinesynth.data.sources import Source, source_of
from cinesynth.data.sources.cycle import Cycle, choose_phases, labelled_study, some_frames, whole_cycle
from cinesynth.data.terms import vendor_of
from cinesynth.errors import DataError
from cinesynth.io.tables import TableRow, is_named, read_table, reading
from cinesynth.types import Label, LabelArray, Study, volumes_ml

TABLE = "_metadata.csv"


class CinemaSubject(NamedTuple):
    """The folder of one subject and its row in the table of its split."""

    folder: Path
    row: TableRow

    def path(self, what: str) -> Path:
        """The short-axis file ``t``, ``ed``, ``es``, or its label (``_gt``)."""
        return with_either_ending(self.folder / f"{self.folder.name}_sax_{what}.nii.gz")

    def cell(self, column: str) -> str:
        """The cell of a column, empty if the table has no such column."""
        return self.row.text(column) if column in self.row.cells else ""

    def reported_ml(self, *columns: str) -> float | None:
        """The first of these columns with a volume; CineMA writes 0 where it found no label."""
        return next((self.row.number(column) for column in columns if self.cell(column)), 0.0) or None


@reading()
def read_cinema(root: Path) -> Source:
    """All subjects below ``root``: CineMA's output folder, or one split of it."""
    root = Path(root)
    tables = [path for path in sorted(root.glob(f"*{TABLE}")) if not path.name.startswith(".")]
    named = {path.with_name(path.name.removesuffix(TABLE)): path for path in tables}
    splits = {folder: path for folder, path in named.items() if folder.is_dir()}
    own = root.resolve().with_name(f"{root.resolve().name}{TABLE}")
    if not splits and own.is_file():  # the folder is itself a split
        splits = {root: own}
    subjects: dict[str, CinemaSubject] = {}
    for split, path in splits.items():
        table = read_table(path, "pid")
        for folder in sorted(p for p in split.iterdir() if p.is_dir() and _short_axis_files(p)):
            if folder.name in subjects:
                raise DataError(f"{folder.name} is in two splits of {root}", hint="name one split at a time")
            subjects[folder.name] = CinemaSubject(folder, table.row(folder.name))
    if not subjects:
        hint = "name the folder that contains train and train_metadata.csv"
        raise DataError(f"no CineMA subjects in {root}", hint=hint)
    return source_of(subjects, read_subject, _files)


def read_subject(subject: CinemaSubject) -> Study:
    """One subject's folder as a study."""
    if is_named(subject.path("t")):
        cycle, declared = whole_cycle(read_volume(subject.path("t"), 4)), _declared_phases(subject)
    else:
        volumes = [read_volume(subject.path(phase), 3) for phase in ("ed", "es")]
        cycle, declared = some_frames(volumes, (0, 1), 2), (0, 1)
    label = _labels(subject, cycle, declared)
    study = labelled_study(
        cycle,
        label,
        choose_phases(cycle, label, declared),
        subject=subject.folder.name,
        dataset="cinema",
        vendor=vendor_of(subject.cell("vendor_name") or subject.cell("vendor")),
        group=subject.cell("pathology"),
        reported_lv_edv_ml=subject.reported_ml("lv_edv", "diastole_volume"),
        reported_lv_esv_ml=subject.reported_ml("lv_esv", "systole_volume"),
    )
    _check_volumes(study, subject)
    return oriented(study)


def _short_axis_files(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"{glob.escape(folder.name)}_sax_*"))


def _files(subject: CinemaSubject) -> list[Path]:
    return [subject.row.path, *_short_axis_files(subject.folder)]


def _declared_phases(subject: CinemaSubject) -> tuple[int, int] | None:
    """Zero-based ED and ES if the table has them. Columns ``_frame`` count from 1, columns ``_index`` from 0."""
    for suffix, first in (("_frame", 1), ("_index", 0)):
        if subject.cell(f"ed{suffix}") and subject.cell(f"es{suffix}"):
            return subject.row.index(f"ed{suffix}") - first, subject.row.index(f"es{suffix}") - first
    return None


def _labels(subject: CinemaSubject, cycle: Cycle, phases: tuple[int, int] | None) -> LabelArray:
    """Labels ``T X Y Z``; `DataError` if there are labels of ED or ES, but their frames are unknown."""
    if is_named(subject.path("t_gt")):
        return read_labels(subject.path("t_gt"), cycle.grid)
    label = cycle.no_labels
    for number, phase in enumerate(("ed", "es")):
        path = subject.path(f"{phase}_gt")
        if not is_named(path):
            continue
        if phases is None:
            raise DataError(
                f"{path} labels {phase.upper()}, but no table tells which frame of the cycle that is",
                hint="add ed_index and es_index to the table, or remove the cycle (_sax_t)",
            )
        label[cycle.frame_index == phases[number]] = read_label(path, cycle.grid)
    return label


def _check_volumes(study: Study, subject: CinemaSubject) -> None:
    """`DataError` if the table's LV volumes and those of the labels differ by more than 1 %."""
    measured = volumes_ml(study.label, Label.LV, study.voxel_ml)
    for column, index in (("lv_edv", study.ed_index), ("lv_esv", study.es_index)):
        here = study.frame_index == index
        if not subject.cell(column) or not study.labelled[here].any():
            continue
        expected, found = subject.row.number(column), float(measured[here][0])
        if not np.isclose(expected, found, rtol=0.01):
            raise DataError(
                f"{subject.row.path}: {column} of {study.subject} is {expected:.1f} mL, its label has {found:.1f} mL",
                hint="table and labels come from two runs of CineMA: preprocess the dataset again",
            )
