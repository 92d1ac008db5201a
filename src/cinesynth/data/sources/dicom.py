"""Any folder or zip archive of cine MR in DICOM: one study per examination, whatever the files are called.

Slices and phases come from positions, orientations and trigger times; scouts, long axes and copies are skipped and
listed. Examinations are named by PatientID (with ``-1``, ``-2`` where a patient has several), so use pseudonyms. DICOM
headers do not record ED and ES: they are assumed.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from cinesynth.data.dicom import (
    DicomFrame,
    FileLocation,
    Scan,
    SkippedImages,
    as_notes,
    find_files,
    read_headers,
    read_scan,
)
from cinesynth.data.dicom.group import short_axis
from cinesynth.data.dicom.series import grouped
from cinesynth.data.orientation import oriented
from cinesynth.data.sources import Skipped, Source, source_of
from cinesynth.data.sources.cycle import unlabelled_study
from cinesynth.data.terms import vendor_of
from cinesynth.errors import DataError
from cinesynth.io.tables import reading
from cinesynth.types import Study


class Examination(NamedTuple):
    """The files of one examination."""

    name: str
    files: tuple[FileLocation, ...]


@reading()
def read_dicom(root: Path, stills: bool = False) -> Source:
    """All examinations in ``root``, a folder or a zip; headers are read now, pixels when a study is read.

    With ``stills``, an examination without a cine may be a stack of one image per slice.
    `DataError` if there is no MR image; reading an examination raises one if it has no complete short-axis cine.
    """
    files, skipped = find_files(root)
    frames, unreadable = read_headers(files)
    skipped += unreadable
    if not frames:
        reasons = "; ".join(map(str, skipped[:3])) or "it is empty"
        raise DataError(f"no MR images in {root}: {reasons}", hint="name a folder or a zip of DICOM files")
    examinations = {}
    for name, images in _examinations(frames).items():
        skipped += _skipped(images, stills)
        examinations[name] = Examination(name, tuple(sorted({frame.file for frame in images})))
    listed = [Skipped(images.title, images.reason) for images in skipped]
    return source_of(examinations, partial(read_subject, stills=stills), _paths, skipped=listed)


def read_subject(examination: Examination, stills: bool = False) -> Study:
    """One examination as a study."""
    frames, _ = read_headers(examination.files)
    scan = read_scan(frames, stills, examination=examination.name)
    return oriented(study_of(scan, "dicom", examination.name))


def study_of(scan: Scan, dataset: str, subject: str, where: Callable[[str], str] = lambda file: "") -> Study:
    """``scan`` as a study without labels, in the source's voxel order; ED and ES are assumed.

    ``where`` turns a file name into the place that notes mention. By default notes mention none, because paths belong
    to this machine and may contain patient names.
    """
    return unlabelled_study(
        scan.image,
        scan.affine,
        subject=subject,
        dataset=dataset,
        vendor=vendor_of(scan.frames[0][0].vendor),
        frame_time_ms=scan.frame_time_ms,
        notes=(*as_notes(scan.skipped, where), *_filled(scan)),
    )


def _filled(scan: Scan) -> list[str]:
    """A note on slices in which one image stands for several phases."""
    short = [len(set(images)) for images in scan.frames if len(set(images)) < len(images)]
    if not short:
        return []
    many = f"{len(short)} slices have" if len(short) > 1 else "one slice has"
    return [f"{many} only {min(short)} phases of {len(scan.image)}: the image nearest in time stands for a missing one"]


def _paths(examination: Examination) -> list[Path]:
    return sorted({file.path for file in examination.files})


def _examinations(frames: list[DicomFrame]) -> dict[str, list[DicomFrame]]:
    """Images of each examination, by a name that is safe as a file name."""
    exams = grouped(frames, lambda frame: (_file_name(frame.patient), frame.study_date, frame.study))
    several = Counter(patient for patient, _, _ in exams)
    numbers: Counter[str] = Counter()
    names: dict[str, list[DicomFrame]] = {}
    for key in sorted(exams):
        patient = key[0]
        numbers[patient] += 1
        names[f"{patient}-{numbers[patient]}" if several[patient] > 1 else patient] = exams[key]
    return names


def _file_name(patient: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.+-]+", "_", patient).strip("_.") or "unnamed"


def _skipped(frames: list[DicomFrame], stills: bool) -> list[SkippedImages]:
    try:
        return list(short_axis(frames, stills).skipped)
    except DataError:
        return []  # reading the examination raises it again
