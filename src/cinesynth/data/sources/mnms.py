"""M&Ms and M&Ms-2, the two multi-vendor challenges, as downloaded. Both label 1 LV, 2 myocardium, 3 RV.

**M&Ms** (Campello et al., IEEE TMI 2021): ``{Training/{Labeled,Unlabeled},Validation,Testing}/ID/ID_sa{,_gt}.nii.gz``
beside ``*M&Ms*.csv``: whole cycles of four vendors, labelled at ED and ES only; the table counts frames from 0.
Unlabelled subjects have empty label files, and ED and ES both 0 in the table, which means unknown: ED and ES are
assumed. Slices run from apex to base in most stacks, from base to apex in others.

**M&Ms-2** (Martin-Isla et al., IEEE JBHI 2023): ``dataset/NNN/NNN_SA_{ED,ES}{,_gt}.nii.gz`` and ``NNN_SA_CINE.nii.gz``
beside ``dataset_information.csv``: ED and ES with labels, and whole cycles, of three vendors. The table writes subjects
without leading zeros and ends with empty rows. ED and ES of the cycle are not recorded: they are the frames whose
voxels equal the ED and ES files. Long-axis files (``_LA_``) are not read.
"""

from __future__ import annotations

import glob
import re
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from cinesynth.data.file_faults import with_either_ending
from cinesynth.data.nifti import MNMS_NUMBERS, read_labels, read_volume
from cinesynth.data.orientation import oriented
from cinesynth.data.sources import Source, source_of, subject_folders
from cinesynth.data.sources.cycle import (
    choose_phases,
    frame_of,
    labelled_study,
    labels_of_frames,
    some_frames,
    whole_cycle,
)
from cinesynth.data.terms import diagnosis_of, vendor_of
from cinesynth.errors import DataError
from cinesynth.io.tables import SubjectTable, is_named, read_table, reading
from cinesynth.types import Diagnosis, Study

# --- M&Ms ------------------------------------------------------------------------------------------------------------

PARTS = (".", "Labeled", "Unlabeled", "Training/Labeled", "Training/Unlabeled", "Training", "Validation", "Testing")
TABLE_PLACES = (".", "OpenDataset", "..", "../..")
"""Where the table may lie, seen from the folder that the user names."""


@reading()
def read_mnms(root: Path) -> Source:
    """All M&Ms subjects below ``root``: the download, its ``OpenDataset``, or one of its parts."""
    root = Path(root)
    pattern = "*M&Ms*.csv"  # each release changed the date and the words of its name
    places = (sorted(p for p in (root / place).glob(pattern) if not p.name.startswith(".")) for place in TABLE_PLACES)
    found = next(filter(None, places), None)
    if found is None:
        raise DataError(
            f"no table {pattern} in {root}",
            hint="keep 211230_M&Ms_Dataset_information_diagnosis_opendataset.csv beside Training, Validation and "
            "Testing",
        )
    table = read_table(found[-1], "External code")
    folders = subject_folders(
        root,
        [root / base / part for base in (".", "OpenDataset") for part in PARTS],
        lambda folder: is_named(_mnms_path(folder)),
        dataset="M&Ms",
        hint="name the folder that contains Training/Labeled/A0S9V9 (the unpacked M&Ms download)",
    )
    return source_of(folders, partial(read_mnms_subject, table=table), partial(_mnms_files, table=table))


def read_mnms_subject(folder: Path, table: SubjectTable) -> Study:
    """One M&Ms subject folder as a study."""
    row = table.row(folder.name)
    cycle = whole_cycle(read_volume(_mnms_path(folder), 4))
    path = _mnms_path(folder, "_gt")
    label = read_labels(path, cycle.grid, MNMS_NUMBERS) if is_named(path) else cycle.no_labels
    ed, es = row.index("ED"), row.index("ES")
    phases = choose_phases(cycle, label, (ed, es) if ed != es else None)
    labelled = np.flatnonzero(label.any(axis=(1, 2, 3))).tolist()
    if phases[2] == "metadata" and labelled and not {ed, es} <= set(labelled):
        raise DataError(
            f"{row.subject} is labelled in frames {labelled}, but {row.path.name} has ED {ed} and ES {es}",
            hint="take label and table from the same release of M&Ms",
        )
    group = row.text("Pathology") if "Pathology" in row.cells else ""
    vendor = vendor_of(row.text("VendorName"))
    study = labelled_study(cycle, label, phases, subject=folder.name, dataset="mnms", vendor=vendor, group=group)
    return oriented(study)


def _mnms_path(folder: Path, kind: str = "") -> Path:
    return with_either_ending(folder / f"{folder.name}_sa{kind}.nii.gz")


def _mnms_files(folder: Path, table: SubjectTable) -> list[Path]:
    return [table.path, *sorted(folder.glob(f"{glob.escape(folder.name)}_sa*.nii*"))]


# --- M&Ms-2 ----------------------------------------------------------------------------------------------------------

MNMS2_TABLE = "dataset_information.csv"
MNMS2_GROUPS = {"LV": Diagnosis.DCM, "RV": Diagnosis.RV}
"""Dilated ventricles. ARR, FALL, CIA and TRI (congenital and valve disease) have no counterpart here."""


@reading()
def read_mnms2(root: Path, *, cycles: bool = True) -> Source:
    """All M&Ms-2 subjects below ``root``: the download, ``MnM2`` or ``dataset``.

    With ``cycles`` false only ED and ES are read, even where the whole cycle is present.
    """
    root = Path(root)
    base = next((root / place for place in (".", "MnM2", "..") if (root / place / MNMS2_TABLE).is_file()), root)
    table = read_table(base / MNMS2_TABLE, "SUBJECT_CODE")
    folders = subject_folders(
        root,
        [base, base / "dataset", root],
        lambda folder: re.fullmatch(r"\d{3,}", folder.name) is not None,
        dataset="M&Ms-2",
        hint=f"name the folder that contains dataset/001 and {MNMS2_TABLE}",
    )
    read = partial(read_mnms2_subject, table=table, cycles=cycles)
    return source_of(folders, read, partial(_mnms2_files, table=table, cycles=cycles))


def read_mnms2_subject(folder: Path, table: SubjectTable, *, cycles: bool = True) -> Study:
    """One M&Ms-2 subject folder as a study."""
    row = table.row(folder.name)
    ed_file, es_file = (read_volume(_mnms2_path(folder, phase), 3) for phase in ("ED", "ES"))
    cycle = pair = some_frames([ed_file, es_file], (0, 1), 2)
    ed, es = 0, 1
    path = _mnms2_path(folder, "CINE")
    if cycles and is_named(path):
        cycle = whole_cycle(read_volume(path, 4))
        hint = "the cycle is of another scan: read ED and ES without it (--no-cycles)"
        ed, es = frame_of(ed_file, cycle, hint), frame_of(es_file, cycle, hint)
    phases = choose_phases(cycle, cycle.no_labels, (ed, es))
    labels = {ed: _mnms2_path(folder, "ED_gt"), es: _mnms2_path(folder, "ES_gt")}
    group = row.text("DISEASE")
    label = labels_of_frames(cycle, labels, MNMS_NUMBERS, grid=pair.grid)
    study = labelled_study(
        cycle,
        label,
        phases,
        notes=tuple(pair.grid.notes),
        subject=folder.name,
        dataset="mnms2",
        vendor=vendor_of(row.text("VENDOR")),
        diagnosis=diagnosis_of(group, MNMS2_GROUPS),
        group=group,
    )
    return oriented(replace(study, affine=pair.grid.affine))


def _mnms2_path(folder: Path, what: str) -> Path:
    return with_either_ending(folder / f"{folder.name}_SA_{what}.nii.gz")


def _mnms2_files(folder: Path, table: SubjectTable, cycles: bool) -> list[Path]:
    found = sorted(folder.glob(f"{folder.name}_SA_*.nii*"))
    return [table.path, *(path for path in found if cycles or path != _mnms2_path(folder, "CINE"))]
