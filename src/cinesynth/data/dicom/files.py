"""Finding and opening the files of an untrusted folder or zip archive; nothing is unpacked to disk."""

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

from cinesynth.data.nifti import MAX_GZIP_RATIO
from cinesynth.errors import DataError

MAX_MEMBER_BYTES = 1 << 30
"""Largest member of an archive that is opened; no cine is larger than 1 GiB."""


@dataclass(frozen=True)
class SkippedImages:
    """Images or files that were left out of a study for one reason."""

    names: tuple[str, ...]
    reason: str

    @property
    def title(self) -> str:
        """The first file, and the number of others."""
        return self.names[0] + (f" and {len(self.names) - 1} more" if len(self.names) > 1 else "")

    def __str__(self) -> str:
        return f"{self.title}: {self.reason}"


def as_notes(skipped: Iterable[SkippedImages], where: Callable[[str], str]) -> tuple[str, ...]:
    """Notes of a study on its skipped images: how many, why, and the place that ``where`` derives from a file name."""
    counts = Counter((where(name), images.reason) for images in skipped for name in images.names)
    return tuple(f"left out {n} image{'s' * (n > 1)}{place} ({reason})" for (place, reason), n in counts.items())


@dataclass(frozen=True, order=True)
class FileLocation:
    """A file on disk or, with ``member``, a file in a zip archive."""

    path: Path
    member: str = ""

    def __str__(self) -> str:
        return str(self.path / self.member) if self.member else str(self.path)


class _Bounded(io.BufferedReader):
    """A file that is never read beyond its end: `read` would allocate whatever length a damaged header claims."""

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path))
        self._size = os.fstat(self.fileno()).st_size

    def read(self, size: int | None = -1, /) -> bytes:
        left = max(self._size - self.tell(), 0)
        return super().read(left if size is None or size < 0 else min(size, left))


FileOpener = Callable[[FileLocation], IO[bytes]]


@contextmanager
def opener() -> Iterator[FileOpener]:
    """A function that opens files; an archive stays open while successive files are its members."""
    with ExitStack() as stack:
        current: zipfile.ZipFile | None = None

        def open_file(location: FileLocation) -> IO[bytes]:
            nonlocal current
            if not location.member:
                return _Bounded(location.path)
            if current is None or current.filename != str(location.path):
                stack.close()
                current = stack.enter_context(zipfile.ZipFile(location.path))
            with current.open(location.member) as member:
                return io.BytesIO(member.read(current.getinfo(location.member).file_size))

        yield open_file


def find_files(root: Path) -> tuple[list[FileLocation], list[SkippedImages]]:
    """All files in ``root``, a folder or a zip archive, by name; archives inside a folder are searched, too.

    Links are followed, each folder once, so that a loop of links ends. An archive that is damaged, encrypted or names
    files outside itself is skipped as a whole. `DataError` if ``root`` does not exist.
    """
    root = Path(root)
    if not root.exists():
        raise DataError(f"{root} does not exist", hint="name a folder of DICOM files, or a zip of one")
    skipped: list[SkippedImages] = []
    files: list[FileLocation] = []
    for path in [root] if root.is_file() else _walk(root, skipped):
        if path.suffix.lower() != ".zip" and not (path == root and zipfile.is_zipfile(path)):
            files.append(FileLocation(path))
            continue
        try:
            files += _members(path)
        except DataError as error:
            skipped.append(SkippedImages((str(path),), error.message))
    return files, skipped


def _walk(root: Path, skipped: list[SkippedImages]) -> Iterator[Path]:
    """Regular files below ``root``. What cannot be opened is skipped, and so is a pipe, which would never end."""

    def skip(error: OSError) -> None:
        skipped.append(SkippedImages((str(error.filename),), f"cannot be opened: {error.strerror}"))

    seen: set[tuple[int, int]] = set()
    for folder, folders, files in os.walk(root, onerror=skip, followlinks=True):
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
                skipped.append(SkippedImages((str(path),), "not a regular file: a broken link or a device"))


def _is_regular(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return False


def _members(path: Path) -> list[FileLocation]:
    """All files in an archive; `DataError` if opening it is not safe."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = [info for info in archive.infolist() if not info.is_dir()]
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile) as error:
        raise DataError(f"a damaged archive: {error}", hint="copy it again") from None
    for info in members:
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # others are unpacked as a whole
            raise DataError("an archive with an unusual compression", hint="pack it again as an ordinary zip")
        if _leaves(info.filename):
            raise DataError(
                f"the archive contains a path that leads outside it, {info.filename!r}", hint="get a clean copy of it"
            )
        if info.flag_bits & 1:
            raise DataError("an encrypted archive", hint="unpack it with its password")
        if info.file_size > MAX_MEMBER_BYTES:
            gigabytes = info.file_size / 2**30
            raise DataError(f"an archive whose {info.filename} takes {gigabytes:.1f} GiB", hint="no cine is so large")
    if sum(info.file_size for info in members) > MAX_GZIP_RATIO * path.stat().st_size:
        raise DataError("a suspicious archive: its declared size exceeds what it can contain", hint="do not unpack it")
    return sorted(FileLocation(path, info.filename) for info in members)


def _leaves(name: str) -> bool:
    """Whether a member's name leads out of its archive on any operating system."""
    kinds = (PurePosixPath(name), PureWindowsPath(name))
    return any(path.is_absolute() or path.drive or path.root or ".." in path.parts for path in kinds)
