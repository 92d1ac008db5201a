"""Files are written completely or not at all: to a temporary name, then renamed. Failures become `OutputError`."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from cinesynth.errors import OutputError

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
        number = getattr(error, "errno", None) or _errno_in(str(error))
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


def _errno_in(message: str) -> int:
    """The error number that HDF5 puts into its message; 0 if there is none."""
    found = re.search(r"errno = (\d+)", message)
    return int(found[1]) if found else 0


# --- Reading files from unknown sources, and hashing them ------------------------------------------------------------


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
