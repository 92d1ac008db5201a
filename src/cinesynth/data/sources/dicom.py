"""Cine MR in DICOM without labels. ED and ES, which headers do not record, are assumed.

**Any folder or zip archive**: one study per examination, whatever the files are called. Slices and phases come from
positions, orientations and trigger times; scouts, long axes and copies are skipped and listed. Examinations are named
by PatientID (with ``-1``, ``-2`` where a patient has several, or people share it), so use pseudonyms.

**Kaggle Data Science Bowl 2015**: ``{train,validate,test}/<same>/<id>/study/{sax_N,2ch_N,4ch_N}/*.dcm``. Each
``sax_N`` folder is one acquisition of one slice; series identifiers are unreliable, so the folder replaces them. The
volumes of ``train.csv`` and ``validate.csv`` become reported volumes. Study 761 is black.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from cinesynth.data.dicom import DicomFrame, FileLocation, Scan, find_files, read_headers, read_scan
from cinesynth.data.dicom.bodies import bodies
from cinesynth.data.dicom.short_axis import bodies_with_a_short_axis, short_axis
from cinesynth.data.dicom.takes import grouped
from cinesynth.data.duplicates import find_duplicates, sketch
from cinesynth.data.orientation import oriented
from cinesynth.data.sources import Skipped, Source, source_of, subject_folders
from cinesynth.data.sources.cycle import unlabelled_study
from cinesynth.data.terms import vendor_of
from cinesynth.errors import DataError
from cinesynth.io.tables import TableRow, is_named, read_table, reading
from cinesynth.types import FloatArray, Study

SAME_PERSON = 0.85
"""Smallest correlation of two stacks of one person who was repositioned; different people have at most 0.78."""


class Examination(NamedTuple):
    """A person in one study."""

    name: str
    files: tuple[FileLocation, ...]
    note: str = ""


@reading()
def read_dicom(root: Path, stills: bool = False) -> Source:
    """All examinations in ``root``, a folder or a zip; headers are read now, pixels when a study is read.

    With ``stills``, an examination without a cine may be a stack of one image per slice.
    """
    files, skipped = find_files(root)
    frames, unreadable = read_headers(files)
    skipped += unreadable
    if not frames:
        reasons = "; ".join(map(str, skipped[:3])) or "it is empty"
        raise DataError(f"no MR images in {root}: {reasons}", hint="name a folder or a zip of DICOM files")
    examinations: dict[str, Examination] = {}
    for name, (images, note) in _examinations(frames, stills).items():
        with suppress(DataError):  # reading the examination raises it again
            skipped += short_axis(images, stills).skipped
        examinations[name] = Examination(name, tuple(sorted({frame.file for frame in images})), note)
    listed = [Skipped(images.title, images.reason) for images in skipped]
    return source_of(examinations, partial(_read_examination, stills=stills), _files, skipped=listed)


def _examinations(frames: list[DicomFrame], stills: bool) -> dict[str, tuple[list[DicomFrame], str]]:
    """Images of each examination and a note on it, by a name that is safe as a file name."""

    def key(frame: DicomFrame) -> tuple[str, str, str]:
        patient = re.sub(r"[^A-Za-z0-9_.+-]+", "_", frame.patient).strip("_.") or "unnamed"
        return patient, frame.study_date, frame.study

    found = grouped(frames, key)
    result: dict[str, tuple[list[DicomFrame], str]] = {}
    for patient, keys in groupby(sorted(found), lambda key: key[0]):
        studies = [_people(found[key], stills) for key in keys]
        own = [(images, len(people)) for people in studies for images in people]
        for n, (images, sharing) in enumerate(own, start=1):
            note = f"{sharing} people share this PatientID and study: told apart by frame of reference or name"
            result[f"{patient}-{n}" if len(own) > 1 else patient] = images, note if sharing > 1 else ""
    return result


def _people(frames: list[DicomFrame], stills: bool) -> list[list[DicomFrame]]:
    """The images of each person among those that share PatientID and study, in the order of time.

    People differ in name, birth date or sex, or have each a short axis in a frame of reference of their own, with
    images that do not resemble each other: a person who was repositioned is still one. Images of no such stack stay
    with the first.
    """
    found = bodies_with_a_short_axis(frames, stills)
    if len(found) < 2:
        return [frames]
    groups = bodies(frames)
    sketches = [_sketch(groups[body], stills) for body in found]
    people: list[list[int]] = []
    for n, body in enumerate(found):
        same = (
            p for p in people if any(found[m].person == body.person and _alike(sketches[m], sketches[n]) for m in p)
        )
        if (home := next(same, None)) is None:
            people.append([n])
        else:
            home.append(n)
    owner = {found[n]: number for number, person in enumerate(people) for n in person}
    parts: list[list[DicomFrame]] = [[] for _ in people]
    for body, images in groups.items():
        parts[owner.get(body, 0)] += images
    return parts


def _sketch(frames: list[DicomFrame], stills: bool) -> FloatArray | None:
    """The short axis among ``frames`` at low resolution; None if it cannot be read."""
    try:
        return sketch(study_of(read_scan(frames, stills), "dicom", ""))
    except DataError:
        return None


def _alike(one: FloatArray | None, other: FloatArray | None) -> bool:
    """Whether two stacks show one person; not known, and so no, where one cannot be read."""
    return one is not None and other is not None and bool(find_duplicates([one, other], SAME_PERSON))


def _read_examination(examination: Examination, stills: bool) -> Study:
    frames, _ = read_headers(examination.files)
    study = study_of(read_scan(frames, stills, examination=examination.name), "dicom", examination.name)
    return oriented(replace(study, notes=(*study.notes, *filter(None, [examination.note]))))


def _files(examination: Examination) -> list[Path]:
    return sorted({file.path for file in examination.files})


def study_of(scan: Scan, dataset: str, subject: str, where: Callable[[str], str] = lambda file: "") -> Study:
    """``scan`` as a study without labels, in the source's voxel order; ED and ES are assumed.

    Notes say how many images were left out, and why. ``where`` turns a file name into the place that they mention: by
    default none, because paths belong to this machine and may contain patient names.
    """
    counts = Counter((where(name), images.reason) for images in scan.skipped for name in images.names)
    notes = [f"left out {n} image{'s' * (n > 1)}{place} ({reason})" for (place, reason), n in counts.items()]
    short = [len(set(images)) for images in scan.frames if len(set(images)) < len(images)]
    if short:
        many = f"{len(short)} slices have" if len(short) > 1 else "one slice has"
        phases = f"{many} only {min(short)} phases of {len(scan.image)}"
        notes.append(f"{phases}: the image nearest in time stands for a missing one")
    return unlabelled_study(
        scan.image,
        scan.affine,
        subject=subject,
        dataset=dataset,
        vendor=vendor_of(scan.frames[0][0].vendor),
        frame_time_ms=scan.frame_time_ms,
        notes=tuple(notes),
    )


# --- Data Science Bowl -----------------------------------------------------------------------------------------------

SPLITS = ("train", "validate", "test")
SAX = r"sax_\d+"


@reading()
def read_dsb(root: Path) -> Source:
    """All studies below ``root``, in the order of their numbers; views other than ``sax`` are skipped by name."""
    root = Path(root)
    folders = subject_folders(
        root,
        [root, *(root / split for split in SPLITS), *(root / split / split for split in SPLITS)],
        lambda folder: re.fullmatch(r"\d+", folder.name) is not None and bool(_views(folder)),
        dataset="DSB",
        hint="name the folder that contains train/train/1/study/sax_5",
    )
    folders = {name: folders[name] for name in sorted(folders, key=int)}
    skipped = [
        Skipped(str(view), "not a short-axis view")
        for folder in folders.values()
        for view in sorted({*_views(folder)} - {*_views(folder, SAX)})
    ]
    paths = [root / part / f"{split}.csv" for split in SPLITS for part in (".", split)]
    tables = [read_table(path, "Id") for path in paths if is_named(path)]
    volumes = {name: row for table in tables for name, row in table.rows.items()}
    read, files = partial(_read_dsb_study, volumes=volumes), partial(_dsb_files, volumes=volumes)
    return source_of(folders, read, files, skipped=skipped)


def _read_dsb_study(folder: Path, volumes: Mapping[str, TableRow]) -> Study:
    """One study folder as a study; ``volumes`` holds the reported LV volumes by study number."""
    name = folder.name
    frames: list[DicomFrame] = []
    for view in _views(folder, SAX):
        images, _ = read_headers(find_files(view)[0])
        frames += [replace(image, series=view.name) for image in images]
    if not frames:
        raise DataError(f"{folder} has no short-axis images", hint="copy the study again, with all sax folders")
    scan = read_scan(frames, examination=folder)
    edv_ml, esv_ml = (volumes[name].number(c) for c in ("Diastole", "Systole")) if name in volumes else (None, None)
    study = study_of(scan, "dsb", name, where=lambda image: f" of {Path(image).parent.name}")
    return oriented(replace(study, reported_lv_edv_ml=edv_ml, reported_lv_esv_ml=esv_ml))


def _views(folder: Path, pattern: str = ".*") -> list[Path]:
    """Folders of the views whose name fits."""
    study = folder / "study"
    views = (path for path in study.iterdir() if path.is_dir()) if study.is_dir() else ()
    return sorted(path for path in views if re.fullmatch(pattern, path.name, re.DOTALL))


def _dsb_files(folder: Path, volumes: Mapping[str, TableRow]) -> list[Path]:
    images = (path for view in _views(folder, SAX) for path in view.iterdir() if path.is_file())
    return [*([volumes[folder.name].path] if folder.name in volumes else []), *sorted(images)]
