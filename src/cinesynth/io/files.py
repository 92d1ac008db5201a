"""Files are written completely or not at all, by one writer at a time; failures become `OutputError`."""

from __future__ import annotations

import csv
import errno
import hashlib
import io
import json
import os
import re
import secrets
import socket
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from cinesynth.errors import OutputError

LOCK = ".ingest.lock"
_HINTS = {
    errno.ENOSPC: "the disk is full: free some space or write elsewhere",
    errno.EDQUOT: "the disk quota is used up: free some space or write elsewhere",
    errno.EFBIG: "the file exceeds the size limit of this system: raise the limit or write elsewhere",
    errno.EROFS: "the disk is read-only: write elsewhere",
    errno.EACCES: "no permission to write to this folder: change its permissions or write elsewhere",
    errno.EPERM: "no permission to write to this folder: change its permissions or write elsewhere",
    errno.ENOTDIR: "part of the path is a file, not a folder: choose another folder",
    errno.EEXIST: "a file has the name of the folder: choose another folder",
    errno.EISDIR: "a folder has the name of the file: choose another name",
}


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an ``OSError`` in the body into an `OutputError` that names ``path`` and says what to do.

    HDF5 sometimes reports a full disk as a ``RuntimeError`` with the error number in its message; that counts too.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        in_message = re.search(r"errno = (\d+)", str(error))
        number = getattr(error, "errno", None) or (int(in_message[1]) if in_message else 0)
        if isinstance(error, RuntimeError) and not number:
            raise
        reason = os.strerror(number) if number else str(error)
        hint = _HINTS.get(number, "check that the folder exists, is writable and has space")
        raise OutputError(f"{path} could not be written: {reason}", hint=hint) from error


def make_folder(path: Path) -> Path:
    """Create ``path`` and its parents if necessary, and return it; `OutputError` if that is impossible."""
    with writing(path):
        path.mkdir(parents=True, exist_ok=True)
    return path


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` (same suffixes) that replaces ``path`` when the body succeeds.

    If the body raises or is interrupted, the temporary file is removed and an existing ``path`` stays unchanged.
    The body should only write: any ``OSError`` in it is reported as an `OutputError` about ``path``.
    """
    path = Path(path)
    make_folder(path.parent)
    temporary = path.with_name(f".tmp-{secrets.token_hex(4)}-{path.name}")
    try:
        with writing(path):
            yield temporary
            os.replace(temporary, path)
    finally:
        with suppress(OSError):
            temporary.unlink()


def write_bytes(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path``, completely or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` (UTF-8, newlines unchanged) to ``path``, completely or not at all."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, content: object) -> None:
    """Write ``content`` as indented JSON; ``ValueError`` if it holds NaN or infinity."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> None:
    """Write rows by column name as CSV with a header; None becomes an empty cell."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


# --- Reading files from unknown sources, and hashing them ------------------------------------------------------------


def with_either_name(path: Path, old: Path) -> Path:
    """``path``, which need not exist; ``old``, its earlier name, where only that exists."""
    return old if old.exists() and not path.exists() else path


def open_regular(path: Path) -> BinaryIO:
    """Open ``path`` for reading; ``OSError`` unless it is a regular file: reading a pipe may never end."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return path.open("rb")


def file_sha256(path: Path) -> str:
    """SHA-256 of a regular file, hexadecimal."""
    digest = hashlib.sha256()
    with open_regular(path) as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


# --- One writer at a time. A lock belongs to the process that took it: a killed process leaves none behind ----------


@contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Lock ``folder`` for this ingestion while the body runs; `OutputError` if another process has the lock.

    The folder is created if necessary, and removed again if it stays empty.
    """
    new = not folder.exists()
    path = make_folder(folder) / LOCK
    descriptor = _take(path)
    try:
        yield
    finally:
        with suppress(OSError):
            path.unlink()  # while it is still locked: nobody can take a file that is about to vanish
        os.close(descriptor)
        if new:
            with suppress(OSError):  # only an empty folder can be removed
                folder.rmdir()


@contextmanager
def holding(folder: Path) -> Iterator[bool]:
    """Lock ``folder`` itself, without a file in it, while the body runs; wait for whoever holds it.

    Yields False, without a lock, where the file system cannot lock folders.
    """
    with _opened(folder) as descriptor:
        held = False
        with suppress(OSError):  # a network file system may not lock folders
            held = descriptor is not None and _lock(descriptor)
        yield held


def is_held(folder: Path) -> bool:
    """Whether a process is `holding` ``folder``; False where the file system cannot lock folders."""
    with _opened(folder) as descriptor, suppress(OSError):
        return descriptor is not None and not _lock(descriptor, blocking=False)
    return False


def _lock(descriptor: int, *, blocking: bool = True) -> bool:
    """Lock an open file or folder, waiting if ``blocking``; whether it is locked now."""
    from filelock import lock_descriptor  # brings asyncio and SQLite, which most commands need for nothing

    return lock_descriptor(descriptor, blocking=blocking, poll_interval=0.005)


@contextmanager
def _opened(folder: Path) -> Iterator[int | None]:
    """A descriptor of ``folder``; None where folders cannot be opened, as on Windows."""
    descriptor = None
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _take(path: Path) -> int:
    """The descriptor of the lock file, locked; `OutputError` names the process that has it."""
    with writing(path):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            if not _lock(descriptor, blocking=False) or _is_gone(path, descriptor):
                holder = "holder unknown"
                with suppress(OSError):  # Windows does not let others read a locked file
                    holder = os.read(descriptor, 300).decode(errors="replace") or "it has just started"
                raise OutputError(
                    f"another ingestion is writing to {path.parent} ({holder})",
                    hint="wait until it has finished, or choose another folder",
                )
            with suppress(OSError):  # the name of the holder is a courtesy; a full disk is reported by the body
                os.ftruncate(descriptor, 0)
                os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode())
        except BaseException:
            os.close(descriptor)
            raise
    return descriptor


def _is_gone(path: Path, descriptor: int) -> bool:
    """Whether the previous holder removed the lock file between our opening and locking it."""
    try:
        return not os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return True
