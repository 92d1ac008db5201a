"""ACDC (Bernard et al., IEEE TMI 2018): ``patientNNN/`` folders with ``Info.cfg``, ED and ES frames and their labels.

The whole cycle is read where a folder has ``patientNNN_4d.nii.gz``, otherwise ED and ES alone. ``Info.cfg`` counts
frames from one. Labels are 1 RV, 2 myocardium, 3 LV; slices run base to apex; all scanners were Siemens.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from cinesynth.data.nifti import read_volume
from cinesynth.data.sources import Source, source_of, subject_folders
from cinesynth.data.sources.cycle import Cycle, EdEs, labelled_study, labels_of_frames, some_frames, whole_cycle
from cinesynth.errors import DataError, InputError
from cinesynth.io.tables import is_named, read_small, reading
from cinesynth.types import Diagnosis, Study, full_coverage

PLACES = (".", "training", "testing", "database/training", "database/testing")
"""Where patient folders may lie below the folder that the user names."""


@reading()
def read_acdc(root: Path) -> Source:
    """All patients below ``root``: the dataset, its ``database``, ``training`` or ``testing``.

    `DataError` if there are none; reading a patient raises one that names the file that is missing or wrong.
    """
    places = [Path(root) / place for place in PLACES]
    hint = "name the folder that contains training/patient001 (the unpacked ACDC download)"
    folders = subject_folders(root, places, _is_patient, dataset="ACDC", hint=hint)
    return source_of(folders, read_subject, _files)


def read_subject(folder: Path) -> Study:
    """One patient folder as a study."""
    info = _read_info(folder / "Info.cfg")
    ed, es = _number(folder, info, "ED") - 1, _number(folder, info, "ES") - 1
    cycle = _cycle(folder, info, ed, es)
    # Not `oriented`: ACDC declares base-first slices, and its affines are diagonal placeholders.
    return labelled_study(
        cycle,
        labels_of_frames(cycle, {index: _frame_path(folder, index, "_gt") for index in (ed, es)}),
        full_coverage(np.isin(cycle.frame_index, (ed, es)), cycle.image.shape[3]),
        EdEs(ed, es, "metadata"),
        subject=folder.name,
        dataset="acdc",
        vendor="Siemens",
        diagnosis=_diagnosis(folder, info),
        group=info["Group"],
    )


def _is_patient(folder: Path) -> bool:
    return re.fullmatch(r"patient\d+", folder.name) is not None


def _files(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.iterdir()) if path.is_file()]


def _cycle(folder: Path, info: dict[str, str], ed: int, es: int) -> Cycle:
    """The whole cycle if its file is there, otherwise ED and ES."""
    path = folder / f"{folder.name}_4d.nii.gz"
    if is_named(path):
        cycle = whole_cycle(read_volume(path, 4))
        _check_frames(folder, ed, es, cycle.frames_in_cycle)
        return cycle
    frames = _number(folder, info, "NbFrame")
    _check_frames(folder, ed, es, frames)
    return some_frames([read_volume(_frame_path(folder, index), 3) for index in (ed, es)], (ed, es), frames)


def _read_info(path: Path) -> dict[str, str]:
    try:
        text = read_small(path).decode()
    except (OSError, UnicodeDecodeError):
        raise DataError(f"{path} is missing or not text", hint="each ACDC patient has one: copy it again") from None
    pairs = (line.partition(":") for line in text.splitlines())
    return {key.strip(): value.strip() for key, colon, value in pairs if colon}


def _number(folder: Path, info: dict[str, str], key: str) -> int:
    if not re.fullmatch(r"[0-9]{1,6}", info.get(key, "")):
        found = f"is {info[key][:40]!r}" if key in info else "is missing"
        raise DataError(f"{folder / 'Info.cfg'}: {key} {found}, expected a frame number", hint="copy the file again")
    return int(info[key])


def _diagnosis(folder: Path, info: dict[str, str]) -> Diagnosis:
    try:
        return Diagnosis.parse(info.get("Group", ""))
    except InputError as error:
        raise DataError(f"{folder / 'Info.cfg'}: unknown Group {info.get('Group', '')!r}", hint=error.hint) from None


def _check_frames(folder: Path, ed: int, es: int, frames: int) -> None:
    if ed == es or not (0 <= ed < frames and 0 <= es < frames):
        raise DataError(
            f"{folder / 'Info.cfg'}: ED {ed + 1} and ES {es + 1} are not two frames of a cycle of {frames}",
            hint="frame numbers count from 1: compare them with the file names",
        )


def _frame_path(folder: Path, index: int, kind: str = "") -> Path:
    return folder / f"{folder.name}_frame{index + 1:02d}{kind}.nii.gz"
