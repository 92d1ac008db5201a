"""Kaggle Data Science Bowl 2015: ``{train,validate,test}/<same>/<id>/study/{sax_N,2ch_N,4ch_N}/*.dcm``, no labels.

Each ``sax_N`` is one slice, or one slice again; series identifiers say nothing, so the folder stands for the series.
Slices are ordered by position and phases by trigger time; ED and ES are assumed. The volumes of ``train.csv`` and
``validate.csv`` become reported ones. Study 761 is black.
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from pathlib import Path

from cinesynth.data.dicom import Frame, find_entries, read_headers, read_scan
from cinesynth.data.orientation import oriented
from cinesynth.data.sources import Source
from cinesynth.data.sources.dicom import study_of
from cinesynth.errors import DataError
from cinesynth.io.tables import TableRow, is_named, read_table, reading
from cinesynth.types import Study

SPLITS = ("train", "validate", "test")
LAYOUT = (".", *SPLITS, *(f"{split}/{split}" for split in SPLITS))
"""Where studies may lie below the folder that a user names."""


@reading()
def read_dsb(root: Path) -> Source:
    """All studies below ``root``, in the order of their numbers; views other than ``sax`` are set aside by name.

    `DataError` if there are none, or, while reading, if a study has no whole short-axis cine.
    """
    folders = {path.name: path for part in LAYOUT for path in _studies(Path(root) / part)}
    if not folders:
        raise DataError(f"no DSB studies in {root}", hint="name the folder that holds train/train/1/study/sax_5")
    names = sorted(folders, key=int)
    aside = [
        (str(view), "not a short-axis view") for name in names for view in _views(folders[name]) if not _is_sax(view)
    ]
    volumes = _volumes(Path(root))
    return Source(tuple(names), partial(_read, folders, volumes), tuple(aside), partial(_files, folders, volumes))


def _volumes(root: Path) -> dict[str, TableRow]:
    """The row of each study with its ``Systole`` and ``Diastole``, as far as tables lie in ``root`` or its splits."""
    paths = [root / part / f"{split}.csv" for split in SPLITS for part in (".", split)]
    tables = [read_table(path, "Id") for path in paths if is_named(path)]
    return {name: row for table in tables for name, row in table.rows.items()}


def _studies(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return [path for path in sorted(folder.iterdir()) if re.fullmatch(r"\d+", path.name) and _views(path)]


def _views(folder: Path) -> list[Path]:
    study = folder / "study"
    return sorted(path for path in study.iterdir() if path.is_dir()) if study.is_dir() else []


def _is_sax(view: Path) -> bool:
    return re.fullmatch(r"sax_\d+", view.name) is not None


def _files(folders: dict[str, Path], volumes: dict[str, TableRow], name: str) -> list[Path]:
    images = (path for view in _views(folders[name]) if _is_sax(view) for path in view.iterdir() if path.is_file())
    return [*([volumes[name].path] if name in volumes else []), *sorted(images)]


@reading()
def _read(folders: dict[str, Path], volumes: dict[str, TableRow], name: str) -> Study:
    frames: list[Frame] = []
    for view in filter(_is_sax, _views(folders[name])):
        images, _ = read_headers(find_entries(view)[0])
        frames += [replace(image, series=view.name) for image in images]
    if not frames:
        raise DataError(f"{folders[name]} has no short-axis images", hint="copy the study again, with all sax folders")
    try:
        scan = read_scan(frames)
    except DataError as error:
        raise DataError(f"{folders[name]}: {error.message}", hint=error.hint) from error
    edv, esv = (volumes[name].number(c) for c in ("Diastole", "Systole")) if name in volumes else (None, None)
    study = study_of(scan, "dsb", name, where=lambda image: f" of {Path(image).parent.name}")
    return oriented(replace(study, reported_lv_edv_ml=edv, reported_lv_esv_ml=esv))
