"""What the server keeps: uploads and results of sessions, and the evaluation reports that it shows.

Uploads and results are in a temporary folder of bounded size that is deleted with the process. Names on disk and in
URLs are random; no part of them comes from a user.
"""

from __future__ import annotations

import gzip
import re
import secrets
import shutil
import tempfile
import threading
import time
import zipfile
import zlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from cinesynth.errors import CinesynthError, DataError, InputError
from cinesynth.evaluation.report import PAGE, read_report

TOKEN = re.compile(r"[A-Za-z0-9_-]{22}")
GONE = InputError("this item is not in your session", hint="it may have been deleted to free space: make it again")


def token() -> str:
    """An unguessable name of 128 random bits."""
    return secrets.token_urlsafe(16)


@dataclass
class Entry:
    """An upload or a result of a session."""

    name: str
    session: str
    kind: str
    folder: Path
    about: dict[str, Any] = field(default_factory=dict)
    files: dict[str, Path] = field(default_factory=dict)
    """Files that may be downloaded, by their name in the URL."""
    made: float = field(default_factory=time.time)


class Store:
    """Entries by session. The oldest are removed when all together are too large; so are those that are too old."""

    def __init__(self, limit_bytes: int, keep_s: float) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="cinesynth-"))
        self.limit_bytes, self.keep_s = limit_bytes, keep_s
        self._entries: dict[str, Entry] = {}
        self._lock = threading.RLock()

    def new(self, session: str, kind: str) -> Entry:
        """A new empty entry with its own folder."""
        name = token()
        entry = Entry(name, session, kind, self.root / name)
        entry.folder.mkdir()
        with self._lock:
            self._entries[name] = entry
        return entry

    def get(self, session: str, name: str) -> Entry:
        """An entry of this session; `InputError` for any other, whether it exists or not."""
        with self._lock:
            entry = self._entries.get(name) if TOKEN.fullmatch(name) else None
        if entry is None or not secrets.compare_digest(entry.session, session):
            raise GONE
        return entry

    def of(self, session: str) -> list[Entry]:
        """The entries of a session, newest first."""
        with self._lock:
            found = [entry for entry in self._entries.values() if entry.session == session]
        return sorted(found, key=lambda entry: -entry.made)

    def remove(self, entry: Entry) -> None:
        """Forget an entry and delete its files."""
        with self._lock:
            self._entries.pop(entry.name, None)
        shutil.rmtree(entry.folder, ignore_errors=True)

    def clean(self, needed: int = 0) -> None:
        """Free ``needed`` bytes, oldest entries first, and remove entries that are too old."""
        with self._lock:
            entries = sorted(self._entries.values(), key=lambda entry: entry.made)
        sizes = [sum(p.stat().st_size for p in entry.folder.rglob("*") if p.is_file()) for entry in entries]
        total, now = sum(sizes) + needed, time.time()
        for entry, size in zip(entries, sizes, strict=True):
            if total > self.limit_bytes or now - entry.made > self.keep_s:
                total -= size
                self.remove(entry)

    def close(self) -> None:
        """Delete everything."""
        with self._lock:
            self._entries.clear()
        shutil.rmtree(self.root, ignore_errors=True)


# --- Uploads: limited in size, and identified by content rather than by name -----------------------------------------

NIFTI_HEADER_BYTES = 348
MAGICS = (b"n+1\0", b"n+2\0")
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
                limit = f"{limit_bytes // 2**20} MiB"
                raise TooLarge(f"the file is larger than {limit}", hint="crop it, or use the command line")
            file.write(chunk)
    return path


def settle(entry: Entry) -> Literal["nifti", "dicom"]:
    """Name an upload by its content, and convert DICOM to NIfTI; `DataError` if it is neither."""
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
    from cinesynth.cases.writing import write_nifti
    from cinesynth.data.sources.dicom import read_dicom

    source = read_dicom(archive, stills=True)
    if len(source) != 1:
        raise DataError(f"the zip holds {len(source)} examinations", hint="upload one at a time")
    study = source.read(source.names[0])
    frames = study.image if len(study.image) > 1 else study.image[0]
    write_nifti(target, frames, study.affine, frame_time_ms=study.frame_time_ms, scanner=True, description="from DICOM")
    return target


# --- Reports of `cinesynth evaluate` that the server shows -----------------------------------------------------------


class Reports:
    """Reports in a folder that is one report or holds several; the folder is listed at each request."""

    def __init__(self, folder: Path | None) -> None:
        if folder is not None and not folder.is_dir():
            hint = "pass the --out of `cinesynth evaluate`, or a folder of several"
            raise InputError(f"{folder} is not a directory", hint=hint)
        self.folder = folder

    def _found(self) -> list[Path]:
        if self.folder is None:
            return []
        return [path for path in (self.folder, *sorted(self.folder.iterdir())) if (path / PAGE).is_file()]

    def listed(self) -> list[dict[str, Any]]:
        """Number, name and verdict of each report."""
        found = enumerate(self._found())
        return [{"number": number, "name": folder.name, "judgement": _judgement(folder)} for number, folder in found]

    def page(self, number: int) -> Path | None:
        """Path of the page of one report; None if there is no such report."""
        found = self._found()
        return found[number] / PAGE if 0 <= number < len(found) else None


def _judgement(folder: Path) -> str:
    try:
        return str(read_report(folder).get("judgement") or "not judged")
    except (CinesynthError, AttributeError):
        return "unreadable"
