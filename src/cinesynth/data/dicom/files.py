"""Files of a folder or an archive, wherever their names and links lead; nothing is ever unpacked to disk."""

from __future__ import annotations

import io
import os
import stat
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO

from cinesynth.data.nifti import SQUEEZE
from cinesynth.errors import DataError

MAX_MEMBER_BYTES = 1 << 30
"""No cine is larger; a member of an archive that says so is not opened."""


@dataclass(frozen=True)
class Aside:
    """Files that were left out of a study, and why."""

    names: tuple[str, ...]
    reason: str

    @property
    def title(self) -> str:
        """The first file, and how many more."""
        return self.names[0] + (f" and {len(self.names) - 1} more" if len(self.names) > 1 else "")

    def __str__(self) -> str:
        return f"{self.title}: {self.reason}"


def as_notes(aside: Iterable[Aside], where: Callable[[str], str]) -> tuple[str, ...]:
    """What was left out of one study, for its notes: how many images, ``where`` by the name of their file, and why."""
    counts = Counter((where(name), entry.reason) for entry in aside for name in entry.names)
    return tuple(f"left out {n} image{'s' * (n > 1)}{place} ({reason})" for (place, reason), n in counts.items())


@dataclass(frozen=True, order=True)
class Entry:
    """A file on disk or, with ``member``, a file in a zip archive."""

    path: Path
    member: str = ""

    def __str__(self) -> str:
        return str(self.path / self.member) if self.member else str(self.path)


class _Bounded(io.BufferedReader):
    """A file of which no more is asked than there is: memory for what a length claims would be taken beforehand."""

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path))
        self._size = os.fstat(self.fileno()).st_size

    def read(self, size: int | None = -1, /) -> bytes:
        left = max(self._size - self.tell(), 0)
        return super().read(left if size is None or size < 0 else min(size, left))


Open = Callable[[Entry], IO[bytes]]


@contextmanager
def opener() -> Iterator[Open]:
    """A function that opens entries; an archive stays open as long as entries of it follow each other."""
    with ExitStack() as stack:
        current: zipfile.ZipFile | None = None

        def open_entry(entry: Entry) -> IO[bytes]:
            nonlocal current
            if not entry.member:
                return _Bounded(entry.path)
            if current is None or current.filename != str(entry.path):
                stack.close()
                current = stack.enter_context(zipfile.ZipFile(entry.path))
            with current.open(entry.member) as member:
                return io.BytesIO(member.read(current.getinfo(entry.member).file_size))

        yield open_entry


def find_entries(root: Path) -> tuple[list[Entry], list[Aside]]:
    """All files in ``root``, a folder or a zip archive, in the order of their names; archives in a folder count too.

    Links are followed, each folder once, so that a loop of links ends. An archive that is damaged, encrypted or names
    files outside itself is set aside whole. `DataError` if ``root`` does not exist.
    """
    root = Path(root)
    if not root.exists():
        raise DataError(f"{root} does not exist", hint="name a folder of DICOM files, or a zip of one")
    aside: list[Aside] = []
    entries: list[Entry] = []
    for path in [root] if root.is_file() else _walk(root, aside):
        if path.suffix.lower() != ".zip" and not (path == root and zipfile.is_zipfile(path)):
            entries.append(Entry(path))
            continue
        try:
            entries += _members(path)
        except DataError as error:
            aside.append(Aside((str(path),), error.message))
    return entries, aside


def _walk(root: Path, aside: list[Aside]) -> Iterator[Path]:
    """Regular files below ``root``; what cannot be opened, or would never end as a pipe, is set aside."""

    def refuse(error: OSError) -> None:
        aside.append(Aside((str(error.filename),), f"cannot be opened: {error.strerror}"))

    seen: set[tuple[int, int]] = set()
    for folder, folders, files in os.walk(root, onerror=refuse, followlinks=True):
        here = os.stat(folder)
        if (here.st_dev, here.st_ino) in seen:
            folders.clear()
            continue
        seen.add((here.st_dev, here.st_ino))
        folders.sort()
        for path in (Path(folder, name) for name in sorted(files)):
            if _is_regular(path):
                yield path
            else:
                aside.append(Aside((str(path),), "no regular file: a broken link or a device"))


def _is_regular(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return False


def _members(path: Path) -> list[Entry]:
    """All files in an archive; `DataError` if it must not be opened."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = [info for info in archive.infolist() if not info.is_dir()]
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile) as error:
        raise DataError(f"a damaged archive: {error}", hint="copy it again") from None
    for info in members:
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # others cannot be read bit by bit
            raise DataError("an archive packed in an uncommon way", hint="pack it again as an ordinary zip")
        if _leaves(info.filename):
            raise DataError(f"an archive with a path out of itself, {info.filename!r}", hint="do not unpack it")
        if info.flag_bits & 1:
            raise DataError("an encrypted archive", hint="unpack it with its password")
        if info.file_size > MAX_MEMBER_BYTES:
            gigabytes = info.file_size / 2**30
            raise DataError(f"an archive whose {info.filename} takes {gigabytes:.1f} GiB", hint="no cine is so large")
    if sum(info.file_size for info in members) > SQUEEZE * path.stat().st_size:
        raise DataError("an archive that promises more than it can hold", hint="do not unpack it")
    return sorted(Entry(path, info.filename) for info in members)


def _leaves(name: str) -> bool:
    """Whether a member's name points out of its archive, by the rules of any system."""
    kinds = (PurePosixPath(name), PureWindowsPath(name))
    return any(path.is_absolute() or path.drive or path.root or ".." in path.parts for path in kinds)
