"""Studies on their way into a dataset: read by several processes, and kept so that a killed ingestion goes on."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from cinesynth import __version__
from cinesynth.data.duplicates import sketch
from cinesynth.data.manifest import SPLITS, Row, describe
from cinesynth.data.sources import Source
from cinesynth.data.store import FORMAT, read_study, study_file, write_study
from cinesynth.errors import DataError, InputError, OutputError
from cinesynth.io.files import file_sha256, make_folder
from cinesynth.types import FloatArray, Study

STAGING = ".staging"
KEPT = re.compile(r"[0-9a-f]{64}\.h5")
"""Studies named by the content they were read from."""


@dataclass(frozen=True)
class Staged:
    """A study in the staging folder, and its row; the split of the row is still to be decided."""

    row: Row
    path: Path
    sketch: FloatArray
    """What it looks like, to find the same person under another name."""


@dataclass(frozen=True)
class Stager:
    """Reads the studies of ``source`` into ``folder``, one at a time; may be sent to other processes."""

    source: Source
    folder: Path

    def __call__(self, number: int) -> Staged | DataError:
        """The study with this number in the source: found finished, or read and written; or why it cannot be."""
        name = self.source.names[number]
        try:
            return self._stage(name, number)
        except DataError as error:
            return error
        except MemoryError:
            hint = "its header may lie about its size; if not, use fewer workers"
            return DataError(f"{name} does not fit into memory", hint=hint)

    def _stage(self, name: str, number: int) -> Staged:
        path = self.folder / f"{content_key(self.source, name) or number}.h5"
        study = _finished(path)
        if study is None:
            study = self.source.read(name)
            target, digest = study_file(study), write_study(path, study)
        else:
            target, digest = study_file(study), file_sha256(path)
        return Staged(describe(study, SPLITS[0], target, digest), path, sketch(study))


@contextmanager
def staging(out: Path) -> Iterator[Path]:
    """The staging folder of the dataset in ``out``.

    It is removed when the body succeeds or refuses its data or its output; what an interruption leaves finished
    stays, as far as its content has a name, and is found again by the next ingestion.
    """
    folder = make_folder(out / STAGING)
    _sweep(folder)
    try:
        yield folder
    except (DataError, InputError, OutputError):
        shutil.rmtree(folder, ignore_errors=True)
        raise
    except BaseException:
        _sweep(folder)
        with suppress(OSError):  # only an empty folder can be removed
            folder.rmdir()
        raise
    shutil.rmtree(folder, ignore_errors=True)


def content_key(source: Source, name: str) -> str | None:
    """SHA-256 of all that decides what the study ``name`` becomes; ``None`` where the source cannot say.

    It covers the files' names and bytes, what is done to the study after it was read, and the version of the package
    and of the format of its studies.
    """
    if source.files is None:
        return None
    digest = hashlib.sha256(_bytes(f"{__version__} {FORMAT} {name}{source.version}"))
    try:
        for path in source.files(name):
            digest.update(_bytes(f"\n{path.name} {file_sha256(path)}"))
    except OSError:
        return None  # reading the study will say which file it is
    return digest.hexdigest()


def _bytes(text: str) -> bytes:
    """File names need not be UTF-8; Python carries other bytes as letters that cannot be encoded."""
    return text.encode("utf-8", "surrogatepass")


def _finished(path: Path) -> Study | None:
    """The study that an earlier ingestion left here; one that is damaged counts as absent."""
    if path.exists():
        with suppress(DataError):
            return read_study(path)
    return None


def _sweep(folder: Path) -> None:
    """Remove what is half-written, or finished without a name to find it by."""
    for path in folder.iterdir():
        if not KEPT.fullmatch(path.name):
            with suppress(OSError):
                path.unlink()
