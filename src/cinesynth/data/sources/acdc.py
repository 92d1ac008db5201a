"""ACDC (Bernard et al., IEEE TMI 2018): ``patientNNN/`` folders with ``Info.cfg``, ED and ES frames and their labels.

The whole cycle is read where a folder has ``patientNNN_4d.nii.gz``, otherwise ED and ES alone. ``Info.cfg`` counts
frames from one. Labels are 1 RV, 2 myocardium, 3 LV; slices run base to apex; all scanners were Siemens.

Copies differ from that. Tools that save the files again reverse slices or shift the cycle: labels and the frame files
show it, and both are undone. The test set of the challenge has neither labels nor groups. Programs unpack archives
into folders of their own, unpack the files in them, and write ``Info.cfg`` with a byte-order mark.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from cinesynth.data.file_faults import with_either_ending
from cinesynth.data.nifti import read_volume
from cinesynth.data.orientation import oriented
from cinesynth.data.sources import Source, source_of, subject_folders
from cinesynth.data.sources.cycle import (
    Cycle,
    EdEs,
    frame_of,
    labelled_study,
    labels_of_frames,
    some_frames,
    whole_cycle,
)
from cinesynth.errors import DataError, InputError
from cinesynth.io.tables import is_named, read_small, reading
from cinesynth.types import Diagnosis, Study

MAX_DEPTH = 4
"""Folders between the one that the user names and those of the patients: archives are unpacked into others."""
PATIENT = re.compile(r"patient\d+")
OF_ONE_COPY = "take the 4d file and the frames from one copy of ACDC, or remove the 4d file: ED and ES are then read"


@reading()
def read_acdc(root: Path) -> Source:
    """All patients below ``root``: the dataset, its ``database``, ``training`` or ``testing``."""
    folders = subject_folders(
        root,
        _places(Path(root)),
        lambda folder: PATIENT.fullmatch(folder.name) is not None,
        dataset="ACDC",
        hint="name the folder that contains training/patient001 (the unpacked ACDC download)",
    )
    return source_of({name: _innermost(folder) for name, folder in folders.items()}, read_subject, _files)


def _places(folder: Path, depth: int = MAX_DEPTH) -> Iterator[Path]:
    """``folder`` and those below it in which patients may lie; not what macOS and other programs hide."""
    yield folder
    if not depth or not folder.is_dir():
        return
    for inside in sorted(folder.iterdir()):
        other = inside.is_dir() and not inside.name.startswith((".", "__")) and not PATIENT.fullmatch(inside.name)
        if other:
            yield from _places(inside, depth - 1)


def _innermost(folder: Path) -> Path:
    """``patient001/patient001`` where a program has unpacked an archive of a patient into a folder of its name."""
    inside = folder / folder.name
    return inside if inside.is_dir() and not is_named(folder / "Info.cfg") else folder


def _files(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.iterdir()) if path.is_file()]


def read_subject(folder: Path) -> Study:
    """One patient folder as a study."""
    info_path = folder / "Info.cfg"
    info = _read_info(info_path)
    ed, es = (_frame_number(info_path, info, phase) - 1 for phase in ("ED", "ES"))
    images, labels = (
        {index: _path(folder, f"frame{index + 1:02d}{kind}") for index in (ed, es)} for kind in ("", "_gt")
    )
    whole_path = _path(folder, "4d")
    whole = whole_cycle(read_volume(whole_path, 4)) if is_named(whole_path) else None
    frames = whole.frames_in_cycle if whole else _frame_number(info_path, info, "NbFrame")
    if ed == es or not (0 <= ed < frames and 0 <= es < frames):
        raise DataError(
            f"{info_path}: ED {ed + 1} and ES {es + 1} are not two frames of a cycle of {frames}",
            hint="frame numbers count from 1: compare them with the file names",
        )
    cycle, notes = (
        _as_its_frames(whole, images)
        if whole
        else (some_frames([read_volume(path, 3) for path in images.values()], (ed, es), frames), ())
    )
    labelled = any(map(is_named, labels.values()))
    phases: EdEs = (ed, es, "metadata")
    study = labelled_study(
        cycle,
        labels_of_frames(cycle, labels) if labelled else cycle.no_labels,
        phases,
        subject=folder.name,
        dataset="acdc",
        vendor="Siemens",
        diagnosis=_diagnosis(info_path, info),
        group=info.get("Group", ""),
        notes=notes if labelled else (*notes, "there are no labels (_gt) of this patient"),
    )
    return _base_first(study)


def _path(folder: Path, what: str) -> Path:
    return with_either_ending(folder / f"{folder.name}_{what}.nii.gz")


def _as_its_frames(cycle: Cycle, images: Mapping[int, Path]) -> tuple[Cycle, tuple[str, ...]]:
    """The 4D file so that its zero-based frames are those of the frame files, which the labels belong to.

    A cycle that starts at another frame is turned, and a note says so; `DataError` if more than that differs.
    """
    count, shifts = cycle.frames_in_cycle, {}
    for index, path in images.items():
        if is_named(path):
            frame = read_volume(path, 3)
            same = frame.data.shape == cycle.image.shape[1:] and np.array_equal(frame.data, cycle.image[index])
            shifts[index] = 0 if same else (frame_of(frame, cycle, OF_ONE_COPY) - index) % count
    if len(set(shifts.values())) > 1:
        where = ", ".join(f"{images[index].name} at {(index + by) % count + 1}" for index, by in shifts.items())
        raise DataError(f"{cycle.grid.path} has its frames in another order: {where}, counted from 1", hint=OF_ONE_COPY)
    shift = next(iter(shifts.values()), 0)
    if not shift:
        return cycle, ()
    note = f"the 4d file started {shift} frames before frame 1 of Info.cfg, which was undone"
    return cycle._replace(image=np.roll(cycle.image, -shift, axis=0)), (note,)


def _base_first(study: Study) -> Study:
    """``study`` base first: ACDC declares it, but labels (or a header that is no placeholder) take precedence."""
    turned = oriented(study)
    reverses = turned.to_source[2][1] == -1
    if reverses:
        return replace(turned, notes=(*turned.notes, f"slices ran from apex to base, by the {turned.slices_from}"))
    return replace(turned, slices_from="declared") if turned.slices_from == "labels" else turned


# --- Info.cfg --------------------------------------------------------------------------------------------------------


def _read_info(path: Path) -> dict[str, str]:
    try:
        content = read_small(path)
        wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        lines = content.decode("utf-16" if wide else "utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError):
        raise DataError(f"{path} is missing or not text", hint="each ACDC patient has one: copy it again") from None
    return {key.strip(): value.strip() for key, colon, value in (line.partition(":") for line in lines) if colon}


def _frame_number(path: Path, info: dict[str, str], key: str) -> int:
    if not re.fullmatch(r"[0-9]{1,6}", info.get(key, "")):
        found = f"is {info[key][:40]!r}" if key in info else "is missing"
        raise DataError(f"{path}: {key} {found}, expected a frame number", hint="copy the file again")
    return int(info[key])


def _diagnosis(path: Path, info: dict[str, str]) -> Diagnosis:
    """The diagnosis of the group; unknown where the test set of the challenge does not tell it."""
    group = info.get("Group", "")
    try:
        return Diagnosis.parse(group) if group else Diagnosis.UNKNOWN
    except InputError as error:
        raise DataError(f"{path}: unknown Group {group!r}", hint=error.hint) from None
