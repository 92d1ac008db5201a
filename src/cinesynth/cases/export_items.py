"""What to export: studies of a dataset and generated cases, listed first and loaded one at a time."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from cinesynth.cases.reading import case_terms, is_case, load_sidecar, read_case
from cinesynth.cases.writing import case_folder
from cinesynth.data.dataset_table import GENERATED, SPLITS, DatasetTable
from cinesynth.data.packed import load_study
from cinesynth.data.phantom import PHANTOM
from cinesynth.data.terms import UNSPECIFIED, Terms, terms_of
from cinesynth.errors import DataError, InputError
from cinesynth.io.tasks import ProgressCallback, no_progress
from cinesynth.types import Study


@dataclass(frozen=True)
class ExportItem:
    """One study to export; ``name`` is unique in an export, and generated cases belong to the training split.

    ``accepted`` says whether a generated case passed the acceptance rules; None if they were not applied to it.
    """

    name: str
    split: str
    synthetic: bool
    read: Callable[[], Study]
    terms: Terms = UNSPECIFIED
    accepted: bool | None = None

    @property
    def verdict(self) -> str:
        """``accepted`` as a table writes it: yes, no, or empty."""
        return {True: "yes", False: "no", None: ""}[self.accepted]


def dataset_items(dataset: Path, split: str | None = None, subjects: Sequence[str] = ()) -> list[ExportItem]:
    """Studies of a dataset, of one split or some subjects; `InputError` for none. Files are checked when loaded."""
    if split not in (None, *SPLITS):
        raise InputError(f"there is no split {split!r}", hint=f"choose one of {', '.join(SPLITS)}")
    manifest = DatasetTable.read(dataset)
    if strange := set(subjects) - {row.subject for row in manifest}:
        hint = "the table of the dataset lists its subjects"
        raise InputError(f"{dataset} has no subject {', '.join(sorted(strange))}", hint=hint)
    rows = [row for row in manifest if split in (None, row.split) and (not subjects or row.subject in subjects)]
    if not rows:
        found = f"{dataset} has no subject {', '.join(sorted(subjects))}" if subjects else f"{dataset} has no subjects"
        raise InputError(f"{found} in {f'the split {split}' if split else 'any split'}", hint="choose another split")
    terms = terms_of(dataset, (row.dataset for row in rows))
    items = []
    for row in rows:
        name, read = f"{row.dataset}_{row.subject}", partial(load_study, dataset, row)
        items.append(ExportItem(name, row.split, row.dataset == PHANTOM, read, terms[row.dataset]))
    return items


def case_items(folders: Iterable[Path]) -> list[ExportItem]:
    """Generated cases; each folder is a case or a cohort. `InputError` if a folder holds no case."""
    items = []
    for folder in (Path(folder).resolve() for folder in folders):
        named = {folder: folder.name}
        if not is_case(folder):
            inside = sorted(folder.iterdir()) if folder.is_dir() else []
            named = {path: f"{folder.name}_{path.name}" for path in inside if is_case(path)}
        if not named:
            hint = "name a folder written by cinesynth generate: it has a case.json"
            raise InputError(f"{folder} holds no generated case", hint=hint)
        for path, name in named.items():
            subject = re.sub(r"[^A-Za-z0-9_.+-]", "-", name)
            read = partial(read_case, path, subject)
            item = ExportItem(f"{GENERATED}_{subject}", SPLITS[0], True, read, case_terms(path))
            verdict = load_sidecar(path).get("accepted")
            items.append(replace(item, accepted=verdict if isinstance(verdict, bool) else None))
    return items


def load_items(
    items: Sequence[ExportItem], progress: ProgressCallback = no_progress
) -> Iterator[tuple[ExportItem, Study]]:
    """Each item with its study, loaded when it is reached; `DataError` if it is missing, altered or unreadable."""
    for number, item in enumerate(items, start=1):
        try:
            study = item.read()
        except OSError as error:
            hint = "check the permissions of its files"
            raise DataError(f"{item.name} cannot be read: {error}", hint=hint) from error
        yield item, study
        progress("export", number, len(items), {})


def chosen_items(
    items: Sequence[ExportItem], include_rejected: bool = False
) -> tuple[list[ExportItem], tuple[str, ...]]:
    """What an export holds, and the names of the rejected cases that it leaves out unless ``include_rejected``.

    `InputError` if nothing is left or two items share a name; case is ignored, as on some file systems.
    """
    kept = [item for item in items if include_rejected or item.accepted is not False]
    rejected = tuple(item.name for item in items if item.accepted is False and not include_rejected)
    if rejected and not kept:
        text = "the case fails" if len(rejected) == 1 else f"all {len(rejected)} cases fail"
        hint = "generate other cases, or export them all the same with --include-rejected"
        raise InputError(f"nothing to export: {text} the acceptance rules", hint=hint)
    if not kept:
        raise InputError("nothing to export", hint="name a dataset with --dataset, or generated cases with --case")
    name, count = Counter(item.name.lower() for item in kept).most_common(1)[0]
    if count > 1:
        hint = "export them into separate folders, or rename a case's folder"
        raise InputError(f"{count} studies would get the same name {name}", hint=hint)
    return kept, rejected


# --- The folder of an export -----------------------------------------------------------------------------------------


def new_folder(out: Path) -> AbstractContextManager[Path]:
    """As `case_folder`: becomes ``out`` when the body succeeds; `OutputError` if ``out`` is not empty."""
    return case_folder(Path(out).resolve(), files=frozenset())
