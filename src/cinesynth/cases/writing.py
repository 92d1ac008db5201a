"""A case folder: all of its files or none."""

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

from cinesynth.cases.export_nifti import SYNTHETIC, write_nifti
from cinesynth.cases.reading import IMAGE, LABEL, SIDECAR
from cinesynth.cases.schema import migrated_sidecar, sidecar
from cinesynth.errors import OutputError
from cinesynth.io.files import file_sha256, make_folder, writing
from cinesynth.io.lock import holding, is_held
from cinesynth.reports.contact_sheet import render_sheet
from cinesynth.reports.pictures import render_gif
from cinesynth.types import Cine, FloatArray

SHEET, BEAT = "sheet.png", "beat.gif"
FILES = frozenset({IMAGE, LABEL, SIDECAR, SHEET, BEAT})


def save_case(cine: Cine, folder: Path, *, overwrite: bool = False, pictures: bool = True) -> dict[str, Any]:
    """Write image, label, sidecar and pictures into ``folder``; returns the sidecar.

    `OutputError` where the folder holds something already (a case is replaced with ``overwrite``, anything else
    never) or cannot be written; nothing half-written stays behind.
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


def check_free(folder: Path, *, overwrite: bool = False, files: frozenset[str] = FILES, record: str = SIDECAR) -> None:
    """`OutputError` if a case may not be written to ``folder``; worth asking before generating it.

    A case is known by its ``record`` and has no other ``files``.
    """
    if not folder.exists():
        return
    if not folder.is_dir():
        raise OutputError(f"{folder} is a file", hint="give the name of a folder")
    names = {path.name for path in folder.iterdir()}
    if names and not (overwrite and record in names):
        raise OutputError(f"{folder} is not empty", hint=_hint(record in names))
    if names - files:
        raise OutputError(f"{folder} holds more than a case: {min(names - files)}", hint="write to another folder")


def _hint(is_case: bool) -> str:
    return "write to another folder, or overwrite the case in it" if is_case else "write to another folder"


def read_sidecar(folder: Path) -> dict[str, Any] | None:
    """A finished case's JSON with today's keys, None where there is none; `OutputError` if it is damaged."""
    path = folder / SIDECAR
    if not path.is_file():
        return None
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        content["provenance"]["request"], content["provenance"]["weights"]["sha256"]
        return migrated_sidecar(content)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise OutputError(f"{path} is not a case's sidecar: {error!r}", hint=f"remove {folder} and repeat") from None


def remove_stale(parent: Path, names: Container[str]) -> None:
    """Remove what killed processes left in ``parent`` when they wrote case folders of these ``names``.

    What a process is writing stays (where the file system cannot lock folders, only what has other names does), and so
    does a case that was set aside to be replaced.
    """
    for path in parent.glob(".tmp-*"):
        found = re.fullmatch(r"\.tmp-[0-9a-f]{8}-(\w+)(-old)?", path.name)
        if found is None or found[1] not in names or path.is_symlink() or not path.is_dir():
            continue
        if found[2]:
            with suppress(OSError):
                path.rmdir()  # only if it is empty
        elif not is_held(path):
            shutil.rmtree(path, ignore_errors=True)


@contextmanager
def case_folder(
    folder: Path, *, overwrite: bool = False, files: frozenset[str] = FILES, record: str = SIDECAR
) -> Iterator[Path]:
    """A temporary folder beside ``folder`` that takes its place when the body succeeds; else as `check_free`."""
    check_free(folder, overwrite=overwrite, files=files, record=record)
    make_folder(folder.parent)
    beside = folder.with_name(f".tmp-{secrets.token_hex(4)}-{folder.name}")
    old = beside.with_name(f"{beside.name}-old")
    try:
        with writing(folder):
            beside.mkdir()
            with holding(beside):
                yield beside
                if folder.exists():
                    folder.rename(old)
                beside.rename(folder)
    except BaseException:
        if old.exists() and not folder.exists():
            old.rename(folder)
        raise
    finally:
        shutil.rmtree(beside, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


# --- A generated case as 4D NIfTI, with everything a reader needs to place it in space and time ----------------------


INTENSITY_SCALE = 500.0
"""Stored intensities are ``500 (x + 1)`` of x in [-1, 1]: whole numbers from 0 to 1000."""


def write_image(cine: Cine, path: Path) -> None:
    """Write the image as int16, 0-1000."""
    _write(to_stored(cine.image), cine, path)


def write_label(cine: Cine, path: Path) -> None:
    """Write the label as uint8: 1 RV, 2 MYO, 3 LV."""
    _write(cine.label, cine, path)


def to_stored(image: FloatArray) -> NDArray[np.int16]:
    """Intensities in [-1, 1] as whole numbers from 0 to 1000."""
    stored: NDArray[np.int16] = np.rint(INTENSITY_SCALE * (np.clip(image, -1.0, 1.0) + 1.0)).astype(np.int16)
    return stored


def from_stored(stored: NDArray[np.generic]) -> FloatArray:
    """The inverse of `to_stored`, exact to a thousandth of the range."""
    return np.asarray(stored.astype(np.float32) / np.float32(INTENSITY_SCALE) - np.float32(1.0))


def _write(volumes: NDArray[np.generic], cine: Cine, path: Path) -> None:
    write_nifti(path, volumes, cine.affine, frame_time_ms=cine.frame_time_ms, description=SYNTHETIC)
