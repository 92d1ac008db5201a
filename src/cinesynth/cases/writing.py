"""Writing cases, whole or not at all, and NIfTI files."""

from __future__ import annotations

import json
import re
import secrets
import shutil
from collections.abc import Container, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

import cinesynth
from cinesynth.cases.schema import BEAT, FILES, IMAGE, LABEL, SHEET, SIDECAR, achieved, requested, sidecar, to_stored
from cinesynth.errors import OutputError
from cinesynth.io.files import file_sha256, holding, is_held, make_folder, writing
from cinesynth.reports.contact_sheet import Timing, render_contact_sheet
from cinesynth.reports.slices import render_gif
from cinesynth.types import Affine, Cine, Study


def save_case(cine: Cine, folder: Path, *, overwrite: bool = False, pictures: bool = True) -> dict[str, Any]:
    """Write image, label, sidecar and pictures into ``folder``; returns the sidecar.

    `OutputError` if the folder is not empty (``overwrite`` replaces a case, but nothing else) or cannot be written;
    then no partial case is left.
    """
    with case_folder(Path(folder), overwrite=overwrite) as temporary:
        with ThreadPoolExecutor(1) as beside:  # compressing takes as long as drawing
            written = [beside.submit(_write_volumes, cine, temporary)]
            if pictures:
                beat = (cine.image, cine.label, cine.spacing_mm, cine.frame_time_ms, temporary / BEAT)
                written.append(beside.submit(render_gif, *beat))
                render_sheet(cine, temporary / SHEET)
            for part in written:
                part.result()
        content = sidecar(cine, {name: file_sha256(temporary / name) for name in (IMAGE, LABEL)})
        (temporary / SIDECAR).write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    return content


def _write_volumes(cine: Cine, folder: Path) -> None:
    stored = to_stored(cine.image)  # int16 from 0 to 1000
    write_nifti(folder / IMAGE, stored, cine.affine, frame_time_ms=cine.frame_time_ms, description=SYNTHETIC)
    write_label(cine, folder / LABEL)


def write_label(cine: Cine, path: Path) -> None:
    """Write the label as 4D NIfTI, uint8: 1 RV, 2 MYO, 3 LV."""
    write_nifti(path, cine.label, cine.affine, frame_time_ms=cine.frame_time_ms, description=SYNTHETIC)


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
        raise OutputError(
            f"{folder} holds {min(names - files)}, which is not part of a case", hint="write to another folder"
        )


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
    rows = (
        *(("diagnosis", "diagnosis", ""), ("LV EDV", "lv_edv_ml", "mL"), ("LV ESV", "lv_esv_ml", "mL")),
        *(("EF", "ef_percent", "%"), ("slices", "slices", ""), ("RV EDV", "rv_edv_ml", "mL")),
        ("MYO at ED", "myo_ed_ml", "mL"),
    )
    asked, found = requested(cine.prior), achieved(cine)
    further = (("RV ESV", "rv_esv_ml", "mL"), ("mass", "myo_mass_g", "g"), ("vendor", "vendor", ""))
    shown = (*rows, *(row for row in further if row[1] in asked))  # further conditions only if they were requested
    table = [(name, _cell(asked.get(key), unit), _cell(found.get(key), unit)) for name, key, unit in shown]
    render_contact_sheet(cine.image, cine.label, cine.spacing_mm, path, timing=timing, title=title, table=table)


def _cell(value: object, unit: str) -> str:
    if value is None:
        return "-"
    return f"{float(str(value)):.1f} {unit}" if unit else str(value)


# --- NIfTI files with everything that a reader needs to place them in space and time ----------------------------------

SYNTHETIC = f"synthetic, cinesynth {cinesynth.__version__}, research use only"
"""Description in the header of generated images."""
SAVED_AS = {"float16": "f4", "int64": "f8", "uint64": "f8", "bool": "u1"}
"""Stored type of the types that NIfTI, or most of its readers, lack."""


def write_nifti(
    path: Path,
    volumes: NDArray[Any],
    affine: Affine,
    *,
    frame_time_ms: float | None = None,
    scanner: bool = False,
    description: str = "",
) -> None:
    """Write ``X Y Z``, or ``T X Y Z`` as ``X Y Z T`` with the frame time in ``pixdim[4]``; units are mm and ms.

    ``scanner`` marks the affine as one to scanner coordinates; otherwise only the files of this package share it.
    """
    image: Any = nib.Nifti1Image(_stored(volumes), affine)  # type: ignore[no-untyped-call]
    if volumes.ndim == 4:
        image.header.set_zooms((*image.header.get_zooms()[:3], frame_time_ms or 1.0))  # without a unit, 1 means unknown
    image.header.set_xyzt_units("mm", "msec" if frame_time_ms else "unknown")
    code = 1 if scanner else 2  # NIFTI_XFORM_SCANNER_ANAT, NIFTI_XFORM_ALIGNED_ANAT
    image.set_sform(affine, code=code)
    image.set_qform(affine, code=code)
    image.header["descrip"] = _description(description)
    nib.save(image, path)


def write_like(
    path: Path, volumes: NDArray[Any], like: Path, *, frame_time_ms: float | None = None, description: str = ""
) -> None:
    """Write ``X Y Z``, or ``T X Y Z`` as ``X Y Z T``, on the voxel grid of the NIfTI file ``like``.

    Affines with their codes, voxel sizes and units are copied; free-text fields are not, because they may name a
    person. The frame time is copied unless ``frame_time_ms`` is given.
    """
    source: Any = nib.load(like)
    header: Any = source.header.copy()
    header.extensions.clear()
    for remark in ("descrip", "aux_file", "intent_name", "db_name"):
        if remark in header:
            header[remark] = b""
    header["descrip"] = _description(description)
    header["cal_min"] = header["cal_max"] = 0.0
    header.set_slope_inter(1.0, 0.0)
    data = _stored(volumes)
    header.set_data_dtype(data.dtype)
    image: Any = type(source)(data, source.affine, header)
    if volumes.ndim == 4 and (frame_time_ms or source.ndim == 3):
        image.header.set_zooms((*image.header.get_zooms()[:3], frame_time_ms or 1.0))
        image.header.set_xyzt_units(source.header.get_xyzt_units()[0], "msec" if frame_time_ms else "unknown")
    nib.save(image, path)


def _stored(volumes: NDArray[Any]) -> NDArray[Any]:
    """``X Y Z`` or ``X Y Z T`` in a type that NIfTI has."""
    data = np.moveaxis(volumes, 0, -1) if volumes.ndim == 4 else volumes
    return data.astype(SAVED_AS.get(data.dtype.name, data.dtype.str))


def _description(text: str) -> bytes:
    return text.encode("ascii", "replace")[:79]  # the field has 80 bytes and ends with a zero


def describe_origin(study: Study, synthetic: bool) -> str:
    """The origin of an image, short enough for a NIfTI header."""
    return SYNTHETIC if synthetic else f"{study.dataset}, written by cinesynth {cinesynth.__version__}"
