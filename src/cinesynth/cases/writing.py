"""A case folder is written whole or not at all."""

from __future__ import annotations

import json
import re
import secrets
import shutil
from collections.abc import Container, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cinesynth.cases.nifti import SYNTHETIC, write_nifti
from cinesynth.cases.schema import (
    BEAT,
    FILES,
    IMAGE,
    LABEL,
    SHEET,
    SIDECAR,
    achieved,
    requested,
    sidecar,
    to_stored,
)
from cinesynth.errors import OutputError
from cinesynth.io.files import file_sha256, holding, is_held, make_folder, writing
from cinesynth.reports.contact_sheet import Timing, render_contact_sheet
from cinesynth.reports.slices import render_gif
from cinesynth.types import Cine


def save_case(cine: Cine, folder: Path, *, overwrite: bool = False, pictures: bool = True) -> dict[str, Any]:
    """Write image, label, sidecar and pictures into ``folder``; returns the sidecar.

    `OutputError` if the folder is not empty (``overwrite`` replaces a case, but nothing else) or cannot be written;
    then no partial case is left.
    """
    with case_folder(Path(folder), overwrite=overwrite) as temporary:
        write_image(cine, temporary / IMAGE)
        write_label(cine, temporary / LABEL)
        content = sidecar(cine, {name: file_sha256(temporary / name) for name in (IMAGE, LABEL)})
        if pictures:
            render_sheet(cine, temporary / SHEET)
            render_gif(cine.image, cine.label, cine.spacing_mm, cine.frame_time_ms, temporary / BEAT)
        (temporary / SIDECAR).write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    return content


def write_image(cine: Cine, path: Path) -> None:
    """Write the image as 4D NIfTI, int16 from 0 to 1000."""
    _write(to_stored(cine.image), cine, path)


def write_label(cine: Cine, path: Path) -> None:
    """Write the label as 4D NIfTI, uint8: 1 RV, 2 MYO, 3 LV."""
    _write(cine.label, cine, path)


def _write(volumes: NDArray[np.generic], cine: Cine, path: Path) -> None:
    write_nifti(path, volumes, cine.affine, frame_time_ms=cine.frame_time_ms, description=SYNTHETIC)


# --- Folders that appear complete or not at all ----------------------------------------------------------------------


def check_free(folder: Path, *, overwrite: bool = False, files: frozenset[str] = FILES, record: str = SIDECAR) -> None:
    """`OutputError` if a case cannot be written to ``folder``; call it before generating the case.

    A folder that holds ``record`` counts as a case, and a case may hold only ``files``.
    """
    if not folder.exists():
        return
    if not folder.is_dir():
        raise OutputError(f"{folder} is a file, expected a folder", hint="name a folder")
    names = {path.name for path in folder.iterdir()}
    if names and not (overwrite and record in names):
        hint = "write to another folder, or overwrite the case in it" if record in names else "write to another folder"
        raise OutputError(f"{folder} is not empty", hint=hint)
    if names - files:
        raise OutputError(f"{folder} holds more than a case: {min(names - files)}", hint="write to another folder")


@contextmanager
def case_folder(
    folder: Path, *, overwrite: bool = False, files: frozenset[str] = FILES, record: str = SIDECAR
) -> Iterator[Path]:
    """A temporary folder beside ``folder`` that replaces it when the body succeeds; errors as in `check_free`."""
    check_free(folder, overwrite=overwrite, files=files, record=record)
    make_folder(folder.parent)
    temporary = folder.with_name(f".tmp-{secrets.token_hex(4)}-{folder.name}")
    old = temporary.with_name(f"{temporary.name}-old")
    try:
        with writing(folder):
            temporary.mkdir()
            with holding(temporary):
                yield temporary
                if folder.exists() and (overwrite or not any(folder.iterdir())):  # another process may have filled it
                    folder.rename(old)
                temporary.rename(folder)
    except BaseException:
        if old.exists() and not folder.exists():
            old.rename(folder)
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def remove_stale(parent: Path, names: Container[str]) -> None:
    """Remove the temporary folders that killed processes left in ``parent`` while writing cases of these ``names``.

    A folder that a running process holds stays; where the file system cannot lock folders, all folders of ``names``
    go. A case that was moved aside to be replaced stays as well.
    """
    for path in parent.glob(".tmp-*"):
        found = re.fullmatch(r"\.tmp-[0-9a-f]{8}-(\w+)(-old)?", path.name)
        if found is None or found[1] not in names or path.is_symlink() or not path.is_dir():
            continue
        if found[2]:
            with suppress(OSError):
                path.rmdir()  # succeeds only on an empty folder
        elif not is_held(path):
            shutil.rmtree(path, ignore_errors=True)


# --- The contact sheet of a generated case ---------------------------------------------------------------------------


def render_sheet(cine: Cine, path: Path, origin: str = "") -> None:
    """Write the contact sheet of a generated case as PNG; ``origin`` completes the title of derived cases."""
    timing = Timing(cine.ed_index, cine.es_index, cine.frame_time_ms)
    title = f"synthetic {cine.prior.diagnosis.value}{origin}, seed {cine.seed}: research use only"
    table = _comparison(requested(cine.prior), achieved(cine))
    render_contact_sheet(cine.image, cine.label, cine.spacing_mm, path, timing=timing, title=title, table=table)


def _comparison(asked: dict[str, object], found: dict[str, float | int | None]) -> list[tuple[str, str, str]]:
    """Rows of name, requested and achieved value; rows of further conditions only if they were requested."""
    rows = (
        ("diagnosis", "diagnosis", ""),
        ("LV EDV", "lv_edv_ml", "mL"),
        ("LV ESV", "lv_esv_ml", "mL"),
        ("EF", "ef_percent", "%"),
        ("slices", "slices", ""),
        ("RV EDV", "rv_edv_ml", "mL"),
        ("MYO at ED", "myo_ed_ml", "mL"),
    )
    further = (("RV ESV", "rv_esv_ml", "mL"), ("mass", "myo_mass_g", "g"), ("vendor", "vendor", ""))
    shown = (*rows, *(row for row in further if row[1] in asked))
    return [(name, _cell(asked.get(key), unit), _cell(found.get(key), unit)) for name, key, unit in shown]


def _cell(value: object, unit: str) -> str:
    if value is None:
        return "-"
    return f"{float(str(value)):.1f} {unit}" if unit else str(value)
