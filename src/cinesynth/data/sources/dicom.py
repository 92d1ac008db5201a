"""Any folder or zip archive of cine MR in DICOM: one study an examination, however its files are named and sorted.

Slices and phases come from positions, orientations and trigger times; scouts, long axes and copies are set aside and
listed. Examinations are named by PatientID (``-1``, ``-2`` where a patient has several), so give pseudonyms. No header
says which phases are ED and ES: they are assumed.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

from cinesynth.data.dicom import Aside, Entry, Frame, Scan, as_notes, find_entries, read_headers, read_scan
from cinesynth.data.dicom.group import short_axis
from cinesynth.data.dicom.series import grouped
from cinesynth.data.orientation import oriented
from cinesynth.data.sources import Source
from cinesynth.data.sources.cycle import unlabelled_study
from cinesynth.data.vocabulary import vendor_of
from cinesynth.errors import DataError
from cinesynth.io.tables import reading
from cinesynth.types import Study


@reading()
def read_dicom(root: Path, stills: bool = False) -> Source:
    """All examinations in ``root``, a folder or a zip; headers are read now, pixels when asked for.

    With ``stills``, an examination without a cine may be a stack of one image a slice.
    `DataError` if there is no image in it, or, while reading, if an examination has no whole short-axis cine.
    """
    entries, aside = find_entries(root)
    frames, strange = read_headers(entries)
    aside += strange
    if not frames:
        reasons = "; ".join(map(str, aside[:3])) or "it is empty"
        raise DataError(f"no MR images in {root}: {reasons}", hint="name a folder or a zip of DICOM files")
    exams = _examinations(frames)
    for images in exams.values():
        aside += _left_out(images, stills)
    files = {name: tuple(sorted({frame.entry for frame in images})) for name, images in exams.items()}
    return Source(tuple(files), partial(_read, files, stills), as_listed(aside), partial(_paths, files))


def study_of(scan: Scan, dataset: str, subject: str, where: Callable[[str], str] = lambda file: "") -> Study:
    """``scan`` as a study without labels, in the voxel order of the source; its ED and ES are assumed.

    ``where`` makes of a file's name what the notes say of its place. By default they say nothing: paths are those of
    this machine, and may name patients.
    """
    return unlabelled_study(
        scan.image,
        scan.affine,
        subject=subject,
        dataset=dataset,
        vendor=vendor_of(scan.frames[0][0].vendor),
        frame_time_ms=scan.frame_time_ms,
        notes=(*as_notes(scan.aside, where), *_filled(scan)),
    )


def _filled(scan: Scan) -> list[str]:
    """What is to be said of slices in which one image stands for several phases."""
    short = [len(set(images)) for images in scan.frames if len(set(images)) < len(images)]
    if not short:
        return []
    many = f"{len(short)} slices have" if len(short) > 1 else "one slice has"
    return [f"{many} only {min(short)} phases of {len(scan.image)}: the image nearest in time stands for a missing one"]


def as_listed(aside: list[Aside]) -> tuple[tuple[str, str], ...]:
    """Names and reasons, as `Source` lists what it set aside."""
    return tuple((entry.title, entry.reason) for entry in aside)


@reading()
def _read(files: dict[str, tuple[Entry, ...]], stills: bool, name: str) -> Study:
    frames, _ = read_headers(files[name])
    try:
        return oriented(study_of(read_scan(frames, stills), "dicom", name))
    except DataError as error:
        raise DataError(f"{name}: {error.message}", hint=error.hint) from error


def _paths(files: dict[str, tuple[Entry, ...]], name: str) -> list[Path]:
    return sorted({entry.path for entry in files[name]})


def _examinations(frames: list[Frame]) -> dict[str, list[Frame]]:
    """Images of each examination, by a name that can be that of a file."""
    exams = grouped(frames, lambda frame: (_file_name(frame.patient), frame.study_date, frame.study))
    several = Counter(patient for patient, _, _ in exams)
    numbers: Counter[str] = Counter()
    names: dict[str, list[Frame]] = {}
    for key in sorted(exams):
        patient = key[0]
        numbers[patient] += 1
        names[f"{patient}-{numbers[patient]}" if several[patient] > 1 else patient] = exams[key]
    return names


def _file_name(patient: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.+-]+", "_", patient).strip("_.") or "unnamed"


def _left_out(frames: list[Frame], stills: bool) -> list[Aside]:
    try:
        return list(short_axis(frames, stills).aside)
    except DataError:
        return []  # told when the examination is read
