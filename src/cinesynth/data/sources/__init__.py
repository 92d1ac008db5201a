"""Dataset readers, one file per dataset or family: each finds the subjects of a folder and reads them as studies.

How to add a dataset
--------------------
1. Regularly named NIfTI files need no code. Describe them in a YAML file (see `layout.Layout`, and copy one of
   ``data/layouts``), then run ``cinesynth ingest nifti FOLDER --layout FILE.yaml``.
2. Otherwise write ``NAME.py`` with ``read_NAME(root: Path) -> Source``; `mnms` is a good example:

   * find the subject folders with `subject_folders`, and return `source_of(folders, read_subject, subject_files)`;
   * ``read_subject(folder) -> Study`` reads the files with `data.nifti` or `data.dicom`, takes ED and ES from
     `cycle.choose_phases`, builds the study with `cycle.labelled_study` and passes it to `orientation.oriented`;
   * ``subject_files(folder)`` lists every file that decides the result, so that a killed ingestion can be resumed.
3. Add a command to ``cli/ingest.py``; licence, citation and new spellings of diagnoses and vendors to
   ``data/terms.py`` and its test.
4. Test it in ``tests/data/test_NAME.py``, and append a small valid folder to ``tests/data/small_sources.py``: the
   fault-injection and fuzz tests then cover the reader. ``tests/cli/test_cli.py`` lists the commands.
5. Describe it in ``docs/reference/datasets.md``, ``docs/how-to/prepare-datasets.md``, ``CITATION.cff`` and
   ``CHANGELOG.md``.

Every study has labels 1 RV, 2 myocardium, 3 LV and slices from base to apex. A reader never guesses: it raises one
`DataError` if the folder has no subjects, and reading a subject that is incomplete or contradicts itself raises one
that names the file, what was found and what to do. Files that are deliberately not read (scouts, long axes,
duplicates) are listed as `Skipped`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from cinesynth.errors import DataError
from cinesynth.io.tables import reading
from cinesynth.types import Label, Study

if TYPE_CHECKING:
    from cinesynth.data.terms import Terms

Location = TypeVar("Location")
"""Whatever a reader needs to find one subject: its folder, its files, its seed."""


class Skipped(NamedTuple):
    """A study, series or file of a source that is not in the dataset, and why."""

    name: str
    reason: str
    hint: str = ""


@dataclass(frozen=True)
class Source:
    """Studies with known names that are read one at a time."""

    names: tuple[str, ...]
    read: Callable[[str], Study]
    skipped: tuple[Skipped, ...] = ()
    files: Callable[[str], Sequence[Path]] | None = None
    """All files that decide what a study becomes. Their content tells a resumed ingestion which studies are done."""
    version: str = ""
    """Identifies what `map` does to each study; like a changed file, a changed version means reading again."""
    terms: Terms | None = None
    """Licence and citation, where the package does not know them by the dataset's name."""
    numbers: Mapping[int, Label] | None = None
    """The meaning of the numbers in label files, where the user states it."""

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[Study]:
        return map(self.read, self.names)

    def map(self, transform: Callable[[Study], Study], version: str) -> Source:
        """The same source with ``transform`` applied to each study; ``version`` changes whenever its results do."""
        return replace(self, read=partial(_transformed, self.read, transform), version=f"{self.version}\n{version}")


def subject_folders(
    root: Path, places: Iterable[Path], is_subject: Callable[[Path], bool], *, dataset: str, hint: str
) -> dict[str, Path]:
    """Subject folders by name, sorted, that lie directly in any of ``places``.

    `DataError` if there are none, or if two different folders have one name. ``root`` is the folder that the user
    named, for the error; ``dataset`` and ``hint`` belong to that error, too.
    """
    found: dict[str, Path] = {}
    for parent in filter(Path.is_dir, places):
        for path in sorted(parent.iterdir()):
            if not path.is_dir() or not is_subject(path):
                continue
            other = found.setdefault(path.name, path)
            if other != path and not other.samefile(path):
                twice = f"{path.name} is in two folders: {other.parent} and {path.parent}"
                raise DataError(twice, hint=f"name one of them, or move the other out of {root}")
    if not found:
        raise DataError(f"no {dataset} subjects in {root}", hint=hint)
    return dict(sorted(found.items()))


def source_of(
    subjects: Mapping[str, Location],
    read_subject: Callable[[Location], Study],
    subject_files: Callable[[Location], Sequence[Path]] | None = None,
    *,
    skipped: Iterable[Skipped] = (),
    terms: Terms | None = None,
    numbers: Mapping[int, Label] | None = None,
) -> Source:
    """A source of ``subjects``, located by name. A file that cannot be opened becomes a `DataError` that names it."""
    files = partial(_at, subjects, subject_files) if subject_files else None
    read = partial(_read, subjects, read_subject)
    return Source(tuple(subjects), read, tuple(skipped), files, terms=terms, numbers=numbers)


@reading()
def _read(subjects: Mapping[str, Location], read_subject: Callable[[Location], Study], name: str) -> Study:
    return read_subject(subjects[name])


def _at(
    subjects: Mapping[str, Location], subject_files: Callable[[Location], Sequence[Path]], name: str
) -> Sequence[Path]:
    return subject_files(subjects[name])


def _transformed(read: Callable[[str], Study], transform: Callable[[Study], Study], name: str) -> Study:
    return transform(read(name))
