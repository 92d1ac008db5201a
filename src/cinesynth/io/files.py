"""Writing so that a reader never meets half a file: write beside, then rename; failures become `OutputError`."""

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
    errno.EFBIG: "the file would be larger than this system allows: free the limit or write elsewhere",
    errno.EROFS: "the disk is read-only: write elsewhere",
    errno.EACCES: "the folder may not be written: change its permissions or write elsewhere",
    errno.EPERM: "the folder may not be written: change its permissions or write elsewhere",
    errno.ENOTDIR: "a part of the path is a file: choose another folder",
    errno.EEXIST: "a file stands where a folder is needed: choose another folder",
    errno.EISDIR: "a folder stands where a file is needed: choose another name",
}


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an ``OSError`` in the body into an `OutputError` that names ``path`` and says what to do.

    HDF5 reports a full disk as a ``RuntimeError`` now and then; it is recognised by the number in its message.
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
    """``path``, made with its parents if absent; `OutputError` where that is impossible."""
    with writing(path):
        path.mkdir(parents=True, exist_ok=True)
    return path


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` (same suffixes) that takes its place when the body succeeds.

    If the body raises, or is interrupted, the temporary file is removed and an earlier ``path`` stays as it was.
    The body should do nothing but write: its ``OSError`` is reported as an `OutputError` about ``path``.
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
    """Write ``content`` to ``path``, wholly or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` (UTF-8, newlines as given) to ``path``, wholly or not at all."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, content: object) -> None:
    """Write ``content`` as indented JSON; NaN and infinity are refused with ``ValueError``."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def _errno_in(message: str) -> int:
    """HDF5 hides the error number in its message."""
    found = re.search(r"errno = (\d+)", message)
    return int(found[1]) if found else 0


# --- Files opened without trust, and their hashes --------------------------------------------------------------------


BLOCK_BYTES = 1 << 20


def open_regular(path: Path) -> BinaryIO:
    """``path`` opened for reading; ``OSError`` unless it is a regular file: a pipe would never end."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "no regular file", str(path))
    return path.open("rb")


def file_sha256(path: Path) -> str:
    """SHA-256 of a regular file, hexadecimal."""
    digest = hashlib.sha256()
    with open_regular(path) as file:
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()
