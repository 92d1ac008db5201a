"""ACDC (Bernard et al., IEEE TMI 2018): ``patientNNN/`` folders with ``Info.cfg``, ED and ES frames and their labels.

The whole cycle is read where a folder has ``patientNNN_4d.nii.gz``, otherwise ED and ES alone. ``Info.cfg`` counts
frames from one. Labels are 1 RV, 2 myocardium, 3 LV; slices run base to apex; all scanners were Siemens.
"""

from __future__ import annotations

import re
from pathlib import Path

from cinesynth.data.nifti import read_volume
from cinesynth.data.sources import Source, source_of, subject_folders
from cinesynth.data.sources.cycle import EdEs, labelled_study, labels_of_frames, some_frames, whole_cycle
from cinesynth.errors import DataError, InputError
from cinesynth.io.tables import is_named, read_small, reading
from cinesynth.types import Diagnosis, Study

PLACES = (".", "training", "testing", "database/training", "database/testing")
"""Where patient folders may lie below the folder that the user names."""


@reading()
def read_acdc(root: Path) -> Source:
    """All patients below ``root``: the dataset, its ``database``, ``training`` or ``testing``."""
    folders = subject_folders(
        root,
        [Path(root) / place for place in PLACES],
        lambda folder: re.fullmatch(r"patient\d+", folder.name) is not None,
        dataset="ACDC",
        hint="name the folder that contains training/patient001 (the unpacked ACDC download)",
    )
    return source_of(folders, read_subject, _files)


def _files(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.iterdir()) if path.is_file()]


def read_subject(folder: Path) -> Study:
    """One patient folder as a study."""
    info_path, whole_path = folder / "Info.cfg", folder / f"{folder.name}_4d.nii.gz"
    try:
        pairs = [line.partition(":") for line in read_small(info_path).decode().splitlines()]
    except (OSError, UnicodeDecodeError):
        raise DataError(
            f"{info_path} is missing or not text", hint="each ACDC patient has one: copy it again"
        ) from None
    info = {key.strip(): value.strip() for key, colon, value in pairs if colon}
    ed, es = (_frame_number(info_path, info, phase) - 1 for phase in ("ED", "ES"))
    whole = whole_cycle(read_volume(whole_path, 4)) if is_named(whole_path) else None
    frames = whole.frames_in_cycle if whole else _frame_number(info_path, info, "NbFrame")
    if ed == es or not (0 <= ed < frames and 0 <= es < frames):
        raise DataError(
            f"{info_path}: ED {ed + 1} and ES {es + 1} are not two frames of a cycle of {frames}",
            hint="frame numbers count from 1: compare them with the file names",
        )
    stem = f"{folder.name}_frame"
    cycle = whole or some_frames(
        [read_volume(folder / f"{stem}{index + 1:02d}.nii.gz", 3) for index in (ed, es)], (ed, es), frames
    )
    label = labels_of_frames(cycle, {index: folder / f"{stem}{index + 1:02d}_gt.nii.gz" for index in (ed, es)})
    group = info.get("Group", "")
    try:
        diagnosis = Diagnosis.parse(group)
    except InputError as error:
        raise DataError(f"{info_path}: unknown Group {group!r}", hint=error.hint) from None
    # Not `oriented`: ACDC declares base-first slices, and its affines are diagonal placeholders.
    phases: EdEs = (ed, es, "metadata")
    return labelled_study(
        cycle, label, phases, subject=folder.name, dataset="acdc", vendor="Siemens", diagnosis=diagnosis, group=group
    )


def _frame_number(path: Path, info: dict[str, str], key: str) -> int:
    if not re.fullmatch(r"[0-9]{1,6}", info.get(key, "")):
        found = f"is {info[key][:40]!r}" if key in info else "is missing"
        raise DataError(f"{path}: {key} {found}, expected a frame number", hint="copy the file again")
    return int(info[key])
