"""Uploads: limited in size, and identified by content rather than by name."""

from __future__ import annotations

import gzip
import zipfile
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Literal

from cinesynth.errors import DataError, InputError
from cinesynth.web.store import Entry

NIFTI_HEADER_BYTES = 348
MAGICS = (b"n+1\0", b"n+2\0")
Kind = Literal["nifti", "dicom"]
MAX_MEMBERS, MAX_EXPANSION = 20_000, 200
"""Files in a zip, and its unpacked size over its packed size: DICOM shrinks to a half, zip bombs to a thousandth."""


class TooLarge(InputError):
    """An upload over the size limit."""


async def receive(stream: AsyncIterator[bytes], entry: Entry, limit_bytes: int) -> Path:
    """Write the upload to the folder of ``entry``; `TooLarge` as soon as it exceeds the limit."""
    path, seen = entry.folder / "upload", 0
    with path.open("wb") as file:
        async for chunk in stream:
            seen += len(chunk)
            if seen > limit_bytes:
                raise TooLarge(
                    f"the file is larger than {limit_bytes // 2**20} MiB",
                    hint="crop it, or use the command line",
                )
            file.write(chunk)
    return path


def settle(entry: Entry) -> Kind:
    """Name an upload by its content, and convert DICOM to NIfTI.

    `DataError` if it is neither a NIfTI file nor a zip of one DICOM examination.
    """
    path = entry.folder / "upload"
    ending = _nifti_ending(path)
    if ending is not None:
        entry.files["image"] = path.rename(entry.folder / f"image{ending}")
        return "nifti"
    if not zipfile.is_zipfile(path):
        raise DataError("the file is neither NIfTI nor a zip", hint="upload .nii, .nii.gz or a zip of DICOM files")
    archive = path.rename(entry.folder / "upload.zip")
    _check_zip(archive)
    entry.files["image"] = _from_dicom(archive, entry.folder / "image.nii.gz")
    archive.unlink()
    return "dicom"


def _nifti_ending(path: Path) -> str | None:
    with path.open("rb") as file:
        head = file.read(NIFTI_HEADER_BYTES + 4)
    if head[:2] == b"\x1f\x8b":
        try:
            with gzip.open(path) as unpacked:
                return ".nii.gz" if _is_nifti(unpacked.read(NIFTI_HEADER_BYTES + 4)) else None
        except (OSError, EOFError, zlib.error):
            return None
    return ".nii" if _is_nifti(head) else None


def _is_nifti(head: bytes) -> bool:
    return head[344:348] in MAGICS or head[4:8] in MAGICS


def _check_zip(archive: Path) -> None:
    """`DataError` for a suspicious archive. Nothing is unpacked to disk, so names of members do no harm."""
    try:
        with zipfile.ZipFile(archive) as opened:
            members = opened.infolist()
    except (OSError, zipfile.BadZipFile) as error:
        raise DataError(f"the zip is damaged: {error}", hint="create the zip again") from None
    claimed = sum(member.file_size for member in members)
    if len(members) > MAX_MEMBERS or claimed > MAX_EXPANSION * max(archive.stat().st_size, 1):
        raise DataError(
            f"suspicious archive: {len(members)} files with a declared size of {claimed // 2**20} MiB",
            hint="upload the short-axis series of one examination",
        )


def _from_dicom(archive: Path, target: Path) -> Path:
    from cinesynth.cases.nifti import write_nifti
    from cinesynth.data.sources.dicom import read_dicom

    source = read_dicom(archive, stills=True)
    if len(source) != 1:
        raise DataError(f"the zip holds {len(source)} examinations", hint="upload one at a time")
    study = source.read(source.names[0])
    frames = study.image if len(study.image) > 1 else study.image[0]
    write_nifti(target, frames, study.affine, frame_time_ms=study.frame_time_ms, scanner=True, description="from DICOM")
    return target
