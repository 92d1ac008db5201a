"""M&Ms-2 (Martin-Isla et al., IEEE JBHI 2023): ED and ES with labels, and whole cycles, of three vendors.

``dataset/NNN/NNN_SA_{ED,ES}{,_gt}.nii.gz`` and ``NNN_SA_CINE.nii.gz`` beside ``dataset_information.csv``, whose
subjects are numbers without leading zeros, followed by empty rows. Labels are 1 LV, 2 myocardium, 3 RV. No file says
which frames of the cycle ED and ES are: they are found by their voxels. Long-axis files (``_LA_``) are not read.
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from cinesynth.data.nifti import MNMS_NUMBERS, Volume, read_label, read_volume
from cinesynth.data.orientation import oriented
from cinesynth.data.sources import Source
from cinesynth.data.sources.cycle import Cycle, EdEs, check_phases, labelled_study, some_frames, whole_cycle
from cinesynth.data.vocabulary import diagnosis_of, vendor_of
from cinesynth.errors import DataError
from cinesynth.io.tables import Table, is_named, read_table, reading
from cinesynth.types import Diagnosis, Label, LabelArray, Study, full_coverage

TABLE, CODE = "dataset_information.csv", "SUBJECT_CODE"
ROOTS = (".", "MnM2", "..")
"""Where the table may lie, seen from the folder that a user names; the subjects lie beside it or in ``dataset``."""
GROUPS = {"LV": Diagnosis.DCM, "RV": Diagnosis.RV}
"""Dilated ventricles; ARR, FALL, CIA and TRI (congenital and valve disease) have no counterpart."""
SAME_FRAME = 0.01
"""Largest mean difference between an ED file and its frame of the cycle, as a share of the image's range."""


@reading()
def read_mnms2(root: Path, *, cycles: bool = True) -> Source:
    """All subjects below ``root`` (the download, ``MnM2`` or ``dataset``), read when asked for.

    ``cycles`` off reads ED and ES alone, also where the whole cycle is there. `DataError` if there are no subjects
    or no table, or, while reading, naming what is missing or wrong.
    """
    root = Path(root)
    base = next((root / place for place in ROOTS if (root / place / TABLE).is_file()), root)
    table = read_table(base / TABLE, CODE)
    folders = {folder.name: folder for part in (base, base / "dataset", root) for folder in _subjects(part)}
    if not folders:
        raise DataError(
            f"no M&Ms-2 subjects in {root}", hint="name the folder that holds dataset/001 and dataset_information.csv"
        )
    given = folders, table, cycles
    return Source(tuple(sorted(folders)), partial(_read, *given), files=partial(_files, *given))


def read_subject(folder: Path, table: Table, *, cycles: bool = True) -> Study:
    """One subject's folder as a study."""
    row = table.row(folder.name)
    pair = [read_volume(_path(folder, phase), 3) for phase in ("ED", "ES")]
    two = some_frames(pair, (0, 1), 2)
    path = _path(folder, "CINE")
    cycle = whole_cycle(read_volume(path, 4)) if cycles and is_named(path) else two
    ed, es = (0, 1) if cycle is two else (_frame_of(phase, cycle) for phase in pair)
    check_phases(cycle, ed, es)
    group = row.text("DISEASE")
    study = labelled_study(
        cycle,
        _labels(folder, pair[0], cycle, (ed, es)),
        full_coverage(np.isin(cycle.frame_index, (ed, es)), cycle.image.shape[3]),
        EdEs(ed, es, "metadata"),
        subject=folder.name,
        dataset="mnms2",
        vendor=vendor_of(row.text("VENDOR")),
        diagnosis=diagnosis_of(group, GROUPS),
        group=group,
    )
    return oriented(replace(study, affine=pair[0].affine))


@reading()
def _read(folders: dict[str, Path], table: Table, cycles: bool, name: str) -> Study:
    return read_subject(folders[name], table, cycles=cycles)


def _files(folders: dict[str, Path], table: Table, cycles: bool, name: str) -> list[Path]:
    found = sorted(folders[name].glob(f"{name}_SA_*.nii.gz"))
    return [table.path, *(path for path in found if cycles or path != _path(folders[name], "CINE"))]


def _path(folder: Path, what: str) -> Path:
    return folder / f"{folder.name}_SA_{what}.nii.gz"


def _subjects(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return [path for path in sorted(folder.iterdir()) if path.is_dir() and re.fullmatch(r"\d{3,}", path.name)]


def _frame_of(phase: Volume, cycle: Cycle) -> int:
    """The frame of the cycle that ``phase`` is."""
    hint = "the cycle is of another scan: ED and ES alone can be read without it (--no-cycles)"
    if phase.data.shape != cycle.image.shape[1:]:
        raise DataError(
            f"{cycle.grid.path} has {cycle.image.shape[1:]} voxels, {phase.path.name} has {phase.data.shape}", hint=hint
        )
    wanted = phase.data.astype(np.float64)
    away = [np.abs(frame - wanted).mean() for frame in cycle.image]
    nearest = int(np.argmin(away))
    if away[nearest] > SAME_FRAME * np.ptp(wanted):
        raise DataError(f"{phase.path} is no frame of {cycle.grid.path.name}", hint=hint)
    return nearest


def _labels(folder: Path, grid: Volume, cycle: Cycle, phases: tuple[int, int]) -> LabelArray:
    label = cycle.no_labels
    for phase, index in zip(("ED", "ES"), phases, strict=True):
        path = _path(folder, f"{phase}_gt")
        frame = read_label(path, grid, MNMS_NUMBERS)
        if not (frame == Label.LV).any():
            raise DataError(f"{path} has no LV cavity (label 1)", hint="the label is empty or wrong: copy it again")
        label[cycle.frame_index == index] = frame
    return label
