"""One writer at a time: a lock file that is held by a process and goes with it, even if it is killed."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cinesynth.errors import OutputError
from cinesynth.io.files import make_folder, writing

if sys.platform != "win32":
    import fcntl

LOCK = ".ingest.lock"


@contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Keep other ingestions out of ``folder`` while the body runs.

    The folder is made if absent, and removed again if it stays empty. `OutputError` if another process is in it.
    """
    new = not folder.exists()
    path = make_folder(folder) / LOCK
    descriptor = _take(path)
    try:
        yield
    finally:
        with suppress(OSError):
            path.unlink()  # before it is given up: nobody can take a file that is about to vanish
        os.close(descriptor)
        if new:
            with suppress(OSError):  # only an empty folder can be removed
                folder.rmdir()


@contextmanager
def holding(folder: Path) -> Iterator[bool]:
    """Hold ``folder`` itself, without a file in it, while the body runs; whoever holds it is waited for.

    A process that ends, even killed, holds it no more. False, and nothing is held, where the file system cannot.
    """
    descriptor = _open(folder)
    try:
        yield descriptor is not None and _flock(descriptor, wait=True)
    finally:
        if descriptor is not None:
            os.close(descriptor)


def is_held(folder: Path) -> bool:
    """Whether somebody is `holding` ``folder``; False where the file system cannot tell."""
    descriptor = _open(folder)
    if descriptor is None:
        return False
    try:
        _flock(descriptor, wait=False)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _open(folder: Path) -> int | None:
    with suppress(OSError):  # folders cannot be opened everywhere
        return os.open(folder, os.O_RDONLY)
    return None


def _flock(descriptor: int, *, wait: bool) -> bool:
    """Whether the lock was taken; ``BlockingIOError`` if it is another's and not waited for."""
    if sys.platform == "win32":
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:  # a network file system may not lock folders
        return False
    return True


def _take(path: Path) -> int:
    with writing(path):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            if _is_taken(descriptor, path):
                raise OutputError(
                    f"another ingestion is writing to {path.parent} ({_holder(descriptor)})",
                    hint="wait until it has finished, or name another folder",
                )
            with suppress(OSError):  # who it is helps, but a full disk is for the body to meet
                os.ftruncate(descriptor, 0)
                os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode())
        except BaseException:
            os.close(descriptor)
            raise
    return descriptor


def _is_taken(descriptor: int, path: Path) -> bool:
    if sys.platform == "win32":  # nothing is locked there
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return not os.path.samestat(os.fstat(descriptor), path.stat())
    except (BlockingIOError, FileNotFoundError):  # or its holder took it away just now
        return True


def _holder(descriptor: int) -> str:
    return os.pread(descriptor, 300, 0).decode(errors="replace") or "it has just begun"
