"""Kaggle Data Science Bowl 2015: ``{train,validate,test}/<same>/<id>/study/{sax_N,2ch_N,4ch_N}/*.dcm``, no labels.

Each ``sax_N`` folder is one acquisition of one slice. Series identifiers are unreliable, so the folder replaces them.
Slices are ordered by position and phases by trigger time; ED and ES are assumed. The volumes of ``train.csv`` and
``validate.csv`` become reported volumes. Study 761 is black.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from cinesynth.data.dicom import DicomFrame, find_files, read_headers, read_scan
from cinesynth.data.orientation import oriented
from cinesynth.data.sources import Skipped, Source, source_of, subject_folders
from cinesynth.data.sources.dicom import study_of
from cinesynth.errors import DataError
from cinesynth.io.tables import TableRow, is_named, read_table, reading
from cinesynth.types import Study

SPLITS = ("train", "validate", "test")


@reading()
def read_dsb(root: Path) -> Source:
    """All studies below ``root``, in the order of their numbers; views other than ``sax`` are skipped by name.

    `DataError` if there are none; reading a study raises one if it has no complete short-axis cine.
    """
    root = Path(root)
    places = [root, *(root / split for split in SPLITS), *(root / split / split for split in SPLITS)]
    hint = "name the folder that contains train/train/1/study/sax_5"
    folders = subject_folders(root, places, _is_study, dataset="DSB", hint=hint)
    folders = {name: folders[name] for name in sorted(folders, key=int)}
    views = [view for folder in folders.values() for view in _views(folder) if not _is_sax(view)]
    volumes = _volumes(root)
    return source_of(
        folders,
        partial(read_subject, volumes=volumes),
        partial(_files, volumes=volumes),
        skipped=[Skipped(str(view), "not a short-axis view") for view in views],
    )


def read_subject(folder: Path, volumes: Mapping[str, TableRow]) -> Study:
    """One study folder as a study; ``volumes`` holds the reported LV volumes by study number."""
    name = folder.name
    frames: list[DicomFrame] = []
    for view in filter(_is_sax, _views(folder)):
        images, _ = read_headers(find_files(view)[0])
        frames += [replace(image, series=view.name) for image in images]
    if not frames:
        raise DataError(f"{folder} has no short-axis images", hint="copy the study again, with all sax folders")
    scan = read_scan(frames, examination=folder)
    edv_ml, esv_ml = (volumes[name].number(c) for c in ("Diastole", "Systole")) if name in volumes else (None, None)
    study = study_of(scan, "dsb", name, where=lambda image: f" of {Path(image).parent.name}")
    return oriented(replace(study, reported_lv_edv_ml=edv_ml, reported_lv_esv_ml=esv_ml))


def _volumes(root: Path) -> dict[str, TableRow]:
    """Rows with ``Systole`` and ``Diastole`` by study, from the tables in ``root`` and its splits."""
    paths = [root / part / f"{split}.csv" for split in SPLITS for part in (".", split)]
    tables = [read_table(path, "Id") for path in paths if is_named(path)]
    return {name: row for table in tables for name, row in table.rows.items()}


def _is_study(folder: Path) -> bool:
    return re.fullmatch(r"\d+", folder.name) is not None and bool(_views(folder))


def _views(folder: Path) -> list[Path]:
    study = folder / "study"
    return sorted(path for path in study.iterdir() if path.is_dir()) if study.is_dir() else []


def _is_sax(view: Path) -> bool:
    return re.fullmatch(r"sax_\d+", view.name) is not None


def _files(folder: Path, volumes: Mapping[str, TableRow]) -> list[Path]:
    images = (path for view in _views(folder) if _is_sax(view) for path in view.iterdir() if path.is_file())
    return [*([volumes[folder.name].path] if folder.name in volumes else []), *sorted(images)]
