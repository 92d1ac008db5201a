"""What is exported: studies of a dataset and generated cases, listed first and read one at a time."""

from __future__ import annotations

import csv
import io
import re
import secrets
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from cinesynth.cases.reading import DATASET, case_terms, is_case, read_case
from cinesynth.data.dataset_table import SPLITS, DatasetTable
from cinesynth.data.packed import load_study
from cinesynth.data.phantom import PHANTOM
from cinesynth.data.terms import UNSPECIFIED, Terms, terms_of
from cinesynth.errors import DataError, InputError, OutputError
from cinesynth.io.files import make_folder, write_text, writing
from cinesynth.types import Study


@dataclass(frozen=True)
class Item:
    """One study to export."""

    name: str  # of its files, unique in an export
    split: str  # generated cases train
    synthetic: bool
    read: Callable[[], Study]
    terms: Terms = UNSPECIFIED

    def load(self) -> Study:
        """The study; `DataError` if it is missing, altered or cannot be read."""
        try:
            return self.read()
        except OSError as error:
            raise DataError(f"{self.name} cannot be read: {error}", hint="check that its files may be read") from error


def dataset_items(dataset: Path, split: str | None = None, subjects: Sequence[str] = ()) -> list[Item]:
    """The studies of a dataset in the order of its manifest, or those of one split, or of some subjects.

    A file is checked when it is read. `InputError` where there is no such split or subject, or nothing is left.
    """
    if split not in (None, *SPLITS):
        raise InputError(f"there is no split {split!r}", hint=f"one of {', '.join(SPLITS)}")
    manifest = DatasetTable.read(dataset)
    if strange := set(subjects) - {row.subject for row in manifest}:
        raise InputError(f"{dataset} has no subject {', '.join(sorted(strange))}", hint="its dataset.csv lists them")
    rows = [row for row in manifest if split in (None, row.split) and (not subjects or row.subject in subjects)]
    if not rows:
        raise InputError(f"{dataset} has none of these studies in {split or 'any split'}", hint="choose another split")
    terms = terms_of(dataset, (row.dataset for row in rows))
    return [
        Item(
            f"{row.dataset}_{row.subject}",
            row.split,
            row.dataset == PHANTOM,
            partial(load_study, dataset, row),
            terms[row.dataset],
        )
        for row in rows
    ]


def case_items(folders: Iterable[Path]) -> list[Item]:
    """Generated cases: each folder is one, or holds several (a cohort). `InputError` where there is none."""
    return [item for folder in folders for item in _cases(Path(folder).resolve())]


def check_items(items: Sequence[Item]) -> None:
    """`InputError` unless there are items and no two share a name (on some disks capitals do not count)."""
    if not items:
        raise InputError("nothing to export", hint="name a dataset with --data, or generated cases with --case")
    name, count = Counter(item.name.lower() for item in items).most_common(1)[0]
    if count > 1:
        raise InputError(f"{count} studies would be called {name}", hint="export them apart, or rename a case's folder")


def _cases(folder: Path) -> list[Item]:
    if is_case(folder):
        return [_case(folder, folder.name)]
    cases = [path for path in sorted(folder.iterdir()) if is_case(path)] if folder.is_dir() else []
    if not cases:
        raise InputError(
            f"{folder} holds no generated case", hint="name a folder that cinesynth generate wrote: it has a case.json"
        )
    return [_case(path, f"{folder.name}_{path.name}") for path in cases]


def _case(folder: Path, name: str) -> Item:
    subject = re.sub(r"[^A-Za-z0-9_.+-]", "-", name)
    return Item(f"{DATASET}_{subject}", SPLITS[0], True, partial(read_case, folder, subject), case_terms(folder))


# --- An export's folder, whole or not at all, and the tables in it ---------------------------------------------------


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A folder beside ``out`` that becomes it when the body succeeds; else nothing is left of it.

    `OutputError` if ``out`` holds anything already, or cannot be written.
    """
    out = Path(out).resolve()
    with writing(out):
        taken = out.exists() and (not out.is_dir() or any(out.iterdir()))
    if taken:
        raise OutputError(f"{out} is not empty", hint="an export is a new folder: name another")
    make_folder(out.parent)
    beside = out.with_name(f".tmp-{secrets.token_hex(4)}-{out.name}")
    try:
        with writing(out):
            beside.mkdir()
            yield beside
            beside.replace(out)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def write_rows(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Write ``rows``, which share their keys, as a CSV with a header; None is an empty cell."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())
