"""Finding and opening the files of an untrusted folder or zip archive; nothing is unpacked to disk."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, NamedTuple

from cinesynth.data.nifti import MAX_GZIP_RATIO
from cinesynth.errors import DataError

MAX_MEMBER_BYTES = 1 << 30
"""Largest member of an archive that is opened; no cine is larger than 1 GiB."""


class SkippedImages(NamedTuple):
    """Images or files that were left out of a study for one reason."""

    names: tuple[str, ...]
    reason: str

    @property
    def title(self) -> str:
        """The first file, and the number of others."""
        return self.names[0] + (f" and {len(self.names) - 1} more" if len(self.names) > 1 else "")

    def __str__(self) -> str:
        return f"{self.title}: {self.reason}"


class FileLocation(NamedTuple):
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


@contextmanager
def opener() -> Iterator[Callable[[FileLocation], IO[bytes]]]:
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
            if os.path.isfile(path):
                yield path
            else:
                skipped.append(SkippedImages((str(path),), "not a regular file: a broken link or a device"))


def _members(path: Path) -> list[FileLocation]:
    """All files in an archive; `DataError` if opening it is not safe."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = [info for info in archive.infolist() if not info.is_dir()]
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile) as error:
        raise DataError(f"a damaged archive: {error}") from None
    for info in members:
        outside = any(  # on any operating system
            name.is_absolute() or name.drive or name.root or ".." in name.parts
            for name in (PurePosixPath(info.filename), PureWindowsPath(info.filename))
        )
        whole = info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # not unpacked piece by piece
        gigabytes = info.file_size / 2**30
        require(
            (not whole, "an archive with an unusual compression"),
            (not outside, f"the archive contains a path that leads outside it, {info.filename!r}"),
            (not info.flag_bits & 1, "an encrypted archive"),
            (info.file_size <= MAX_MEMBER_BYTES, f"an archive whose {info.filename} takes {gigabytes:.1f} GiB"),
        )
    possible = sum(info.file_size for info in members) <= MAX_GZIP_RATIO * path.stat().st_size
    require((possible, "a suspicious archive: its declared size exceeds what it can contain"))
    return sorted(FileLocation(path, info.filename) for info in members)


def require(*checks: tuple[bool, str]) -> None:
    """`DataError` with what the first failed check found; such files are skipped."""
    for passed, found in checks:
        if not passed:
            raise DataError(found)
