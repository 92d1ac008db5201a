"""One writer at a time. A lock belongs to the process that took it: a killed process leaves none behind."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import lock_descriptor

from cinesynth.errors import OutputError
from cinesynth.io.files import make_folder, writing

LOCK = ".ingest.lock"


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
            held = descriptor is not None and lock_descriptor(descriptor, poll_interval=0.005)
        yield held


def is_held(folder: Path) -> bool:
    """Whether a process is `holding` ``folder``; False where the file system cannot lock folders."""
    with _opened(folder) as descriptor, suppress(OSError):
        return descriptor is not None and not lock_descriptor(descriptor, blocking=False)
    return False


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
            if not lock_descriptor(descriptor, blocking=False) or _is_gone(path, descriptor):
                raise OutputError(
                    f"another ingestion is writing to {path.parent} ({_holder(descriptor)})",
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


def _holder(descriptor: int) -> str:
    """What the holder wrote about itself."""
    with suppress(OSError):  # Windows does not let others read a locked file
        return os.read(descriptor, 300).decode(errors="replace") or "it has just started"
    return "holder unknown"
