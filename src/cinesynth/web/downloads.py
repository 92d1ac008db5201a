"""Results as zip files: the files of a case, an export of it, or a cohort."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

from cinesynth.cases.cohort import write_cohort_table
from cinesynth.cases.export_dicom import export_dicom
from cinesynth.cases.export_items import ExportItem, case_items
from cinesynth.cases.export_nnunet import export_nnunet
from cinesynth.errors import InputError
from cinesynth.io.files import atomic_path
from cinesynth.synthesis.cohort import case_name
from cinesynth.web.store import Entry
from cinesynth.web.work import CASE

NNUNET = "Dataset001_Generated"


def _nnunet(items: list[ExportItem], out: Path) -> None:
    export_nnunet(items, out)


def _dicom(items: list[ExportItem], out: Path) -> None:
    export_dicom(items, out)


EXPORTS: dict[str, tuple[str, Callable[[list[ExportItem], Path], None]]] = {
    "nnunet": (NNUNET, _nnunet),
    "dicom": ("dicom", _dicom),
}


def packed(entry: Entry, form: str) -> Path:
    """A zip of a result, with its files or an export of them. It is made once and kept."""
    target = entry.folder / f"{form}.zip"
    if target.is_file():
        return target
    if form == "files":
        _zip(entry.folder / CASE, target)
        return target
    if form not in EXPORTS or entry.kind != "generate":
        raise InputError(
            f"a result of {entry.kind} cannot be downloaded as {form[:20]!r}",
            hint=f"choose files, or for generated cases {', '.join(EXPORTS)}",
        )
    name, export = EXPORTS[form]
    out = entry.folder / form / name
    if not out.is_dir():
        out.parent.mkdir(exist_ok=True)
        export(case_items([entry.folder / CASE]), out)
    _zip(out.parent, target)
    return target


def together(entries: list[Entry], target: Entry) -> Path:
    """Generated cases as a cohort with its table, in one zip in the folder of ``target``."""
    if not entries:
        raise InputError("there are no results yet", hint="wait until a case is finished")
    cohort = target.folder / "cohort"
    for number, entry in enumerate(entries):
        shutil.copytree(entry.folder / CASE, cohort / case_name(number))
    write_cohort_table(cohort, sorted(cohort.iterdir()))
    path = target.folder / "cohort.zip"
    _zip(cohort, path)
    shutil.rmtree(cohort)
    return path


def _zip(folder: Path, target: Path) -> None:
    with atomic_path(target) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.write(path, path.relative_to(folder))
