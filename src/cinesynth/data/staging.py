"""Studies on their way into a dataset: read by several processes, and kept so that an ingestion can be resumed."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from cinesynth import __version__
from cinesynth.data.dataset_table import SPLITS, SubjectRow, describe
from cinesynth.data.duplicates import sketch
from cinesynth.data.sources import Source
from cinesynth.data.store import FORMAT, read_study, study_file, write_study
from cinesynth.errors import DataError, InputError, OutputError
from cinesynth.io.files import file_sha256, make_folder
from cinesynth.types import FloatArray

STAGING = ".staging"
KEPT = re.compile(r"[0-9a-f]{64}\.h5")
"""Name of a complete study: the hash of the files it was read from."""


@dataclass(frozen=True)
class Staged:
    """A study in the staging folder and its row, whose split is assigned later."""

    row: SubjectRow
    path: Path
    sketch: FloatArray
    """Its images at low resolution, to find the same person under another name."""


@dataclass(frozen=True)
class Stager:
    """Reads the studies of ``source`` into ``folder``, one per call; can be pickled for other processes."""

    source: Source
    folder: Path

    def __call__(self, number: int) -> Staged | DataError:
        """Study ``number`` of the source: found complete in the folder, or read and written; or the error."""
        name = self.source.names[number]
        try:
            return self._stage(name, number)
        except DataError as error:
            return error
        except MemoryError:
            hint = "use fewer workers, or check the size in the file's header"
            return DataError(f"{name} does not fit into memory", hint=hint)

    def _stage(self, name: str, number: int) -> Staged:
        path = self.folder / f"{content_key(self.source, name) or number}.h5"
        study = None
        if path.exists():  # an interrupted ingestion left it
            with suppress(DataError):  # damaged: it is read again
                study = read_study(path)
        if study is None:
            study = self.source.read(name)
            target, digest = study_file(study), write_study(path, study)
        else:
            target, digest = study_file(study), file_sha256(path)
        return Staged(describe(study, SPLITS[0], target, digest), path, sketch(study))


@contextmanager
def staging(out: Path) -> Iterator[Path]:
    """The staging folder of the dataset in ``out``.

    It is removed when the body succeeds or raises an error about its data or output. After an interruption, complete
    studies with a content hash stay, and the next ingestion uses them.
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
    """SHA-256 of everything that determines the study ``name``; None if the source does not name its files.

    It covers names and bytes of the files, the changes made to the study after reading, and the versions of the
    package and of the file format.
    """
    if source.files is None:
        return None
    known = [f"{__version__} {FORMAT} {name}{source.version}"]
    try:
        known += [f"{path.name} {file_sha256(path)}" for path in source.files(name)]
    except OSError:
        return None  # reading the study will name the file
    # file names that are not UTF-8 reach Python as surrogates, which plain UTF-8 rejects
    return hashlib.sha256("\n".join(known).encode("utf-8", "surrogatepass")).hexdigest()


def _sweep(folder: Path) -> None:
    """Remove incomplete files, and studies without a content hash, which cannot be found again."""
    for path in folder.iterdir():
        if not KEPT.fullmatch(path.name):
            with suppress(OSError):
                path.unlink()
