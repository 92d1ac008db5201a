"""From sources to a dataset folder: all studies, their table and their splits, or nothing."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

from cinesynth.data.dataset_table import FRACTIONS, DatasetTable, SubjectRow, assign_splits, table_path
from cinesynth.data.duplicates import group_by_person, sketch
from cinesynth.data.label_plausibility import Numbers
from cinesynth.data.packed import load_study
from cinesynth.data.plausibility import admitted, check_accepted
from cinesynth.data.sources import Skipped, Source
from cinesynth.data.store import STAGING, Staged, Stager, check_study, staging
from cinesynth.data.terms import DATASET, Terms, about_dataset, stated_terms
from cinesynth.errors import DataError, OutputError
from cinesynth.io.files import make_folder, only_writer, with_either_name, write_csv, write_json, writing
from cinesynth.io.tasks import ProgressCallback, no_progress, ordered_map
from cinesynth.types import FloatArray, Study

SKIPPED_FILE = "skipped.csv"
OLD_SKIPPED_FILE = "rejected.csv"
"""Its name in older datasets."""
SKIPPED_COLUMNS = ["name", "reason", "hint"]


class Summary(NamedTuple):
    """What an ingestion added."""

    folder: Path
    added: tuple[SubjectRow, ...]
    skipped: tuple[Skipped, ...]
    """Studies that could not be read (only with ``on_error="skip"``), and what the source itself skipped."""
    total: int
    """Subjects in the dataset after the ingestion."""
    file_bytes: int
    """Total size of the added studies."""

    def counts(self) -> dict[tuple[str, str, str], Counter[str]]:
        """Number of added subjects in each split, by (dataset, vendor, diagnosis)."""
        result: dict[tuple[str, str, str], Counter[str]] = {}
        for row in self.added:
            result.setdefault((row.dataset, row.vendor, row.diagnosis.value), Counter())[row.split] += 1
        return result


def ingest(
    studies: Source | Sequence[Study],
    out: Path,
    *,
    fractions: tuple[float, float, float] = FRACTIONS,
    seed: int = 0,
    on_error: Literal["stop", "skip"] = "stop",
    progress: ProgressCallback = no_progress,
    workers: int | None = None,
    accept: Collection[str] = (),
) -> Summary:
    """Add ``studies`` to the dataset in ``out``, which is created if absent; subjects already there keep their split.

    Up to ``workers`` processes (default: all cores) read one study at a time each; their number does not change the
    result. Studies are written into a staging folder and moved when all of them are complete, then the table is
    written. So a bad study (`DataError`), a full disk or a concurrent ingestion into ``out`` (`OutputError`) leaves
    ``out`` unchanged. An interrupted or killed ingestion leaves only the staging folder, and the same call continues
    with the studies complete there, provided that the source names its files and they have not changed.

    A study that no heart can be (`plausibility`) is bad, too, unless ``accept`` names each flag that stops it; it then
    keeps a note. `InputError` for a flag that does not exist.

    With ``on_error="skip"`` bad studies are skipped. Whatever was skipped, here or by the source, is listed with the
    reason in ``skipped.csv``.
    """
    numbered = {} if isinstance(studies, Source) else {f"{number}": study for number, study in enumerate(studies)}
    source = studies if isinstance(studies, Source) else Source(tuple(numbered), numbered.__getitem__)
    check_accepted(accept)
    checked = partial(_checked, source.read, accept=frozenset(accept), numbers=source.numbers)
    source = replace(source, read=checked, version=source.version + " ".join(sorted(accept)))
    out = Path(out)
    with only_writer(out):
        before, skipped_before = _existing(out), read_skipped(out)
        with staging(out) as folder:
            staged, failed = _stage(source, folder, before, on_error, progress, workers)
            skipped = (*failed, *source.skipped)
            added = _assign_splits(staged, out, before, fractions, seed)
            table, terms = DatasetTable((*before.rows, *added)), stated_terms(out)
            if source.terms:
                terms |= {row.dataset: source.terms for row in added}
            files = dict(zip((row.file for row in added), (one.path for one in staged), strict=True))
            _publish(files, out, table, (*skipped_before, *skipped), terms)
    file_bytes = sum((out / row.file).stat().st_size for row in added)
    return Summary(out, added, skipped, len(table), file_bytes)


def _checked(read: Callable[[str], Study], name: str, accept: Collection[str], numbers: Numbers | None) -> Study:
    study = read(name)
    check_study(study)
    return admitted(study, accept, numbers)


def _existing(out: Path) -> DatasetTable:
    """The table of the dataset in ``out``, empty if there is none; `OutputError` if ``out`` holds something else."""
    if table_path(out).exists():
        return DatasetTable.read(out)
    with writing(out):
        foreign = any(not path.name.startswith(".") for path in out.iterdir())
        killed_while_publishing = (out / STAGING).exists()
    if foreign and not killed_while_publishing:
        raise OutputError(f"{out} holds other files but no dataset", hint="choose a new folder or an existing dataset")
    return DatasetTable(())


def _stage(
    source: Source, folder: Path, before: DatasetTable, on_error: str, progress: ProgressCallback, workers: int | None
) -> tuple[list[Staged], list[Skipped]]:
    """Read all studies into the staging folder; those that could be read, and those that failed."""
    staged: list[Staged] = []
    failed: list[Skipped] = []
    owners = {row.file: f"{row.dataset} {row.subject}" for row in before}
    with closing(ordered_map(Stager(source, folder), range(len(source)), workers)) as outcomes:
        for number, (name, outcome) in enumerate(zip(source.names, outcomes, strict=True), start=1):
            try:
                if isinstance(outcome, DataError):
                    raise outcome
                who, file = f"{outcome.row.dataset} {outcome.row.subject}", outcome.row.file
                if taken := owners.get(file):  # also of another: subject b_c of dataset a, and c of a_b
                    found = (
                        "is in the dataset already" if taken == who else f"would overwrite {file}, the file of {taken}"
                    )
                    raise DataError(
                        f"{who} {found}",
                        hint="leave this subject out, or write it to another --out",
                    )
                owners[file] = who
                staged.append(outcome)
            except DataError as error:
                if on_error == "stop":
                    raise
                failed.append(Skipped(name, error.message, error.hint))
            progress("ingest", number, len(source), {})
    if not staged:
        more = [f"and {len(failed) - 5} more"] if len(failed) > 5 else []
        reasons = "; ".join([*(each.reason for each in failed[:5]), *more]) or "the source holds none"
        raise DataError(
            f"no study could be read: {reasons}", hint="correct these studies, or name the folder of another source"
        )
    return staged, failed


def _assign_splits(
    staged: list[Staged], out: Path, before: DatasetTable, fractions: tuple[float, float, float], seed: int
) -> tuple[SubjectRow, ...]:
    """The rows of ``staged`` with their splits. Each source is split on its own, on top of its earlier subjects.

    All studies of one person, under whatever names, go into one split: that of the study that was there first.
    """
    earlier = ordered_map(partial(_sketch, out), before.rows)
    persons = group_by_person([*earlier, *(one.sketch for one in staged)])
    known, added = persons[: len(before)], persons[len(before) :]
    # reversed: of several studies of one person, the first is kept
    splits = {person: row.split for person, row in reversed(list(zip(known, before, strict=True)))}
    firsts = {person: one.row for person, one in reversed(list(zip(added, staged, strict=True)))}
    for dataset in {row.dataset for row in firsts.values()}:
        new = {p: row for p, row in firsts.items() if p not in splits and row.dataset == dataset}
        taken = Counter(row.split for row in before if row.dataset == dataset)
        chosen = assign_splits({r.file: r.stratum for r in new.values()}, fractions, seed=seed, taken=taken)
        splits |= {person: chosen[row.file] for person, row in new.items()}
    return tuple(replace(one.row, split=splits[person]) for person, one in zip(added, staged, strict=True))


def _sketch(out: Path, row: SubjectRow) -> FloatArray:
    return sketch(load_study(out, row))


def _publish(
    files: Mapping[str, Path], out: Path, table: DatasetTable, skipped: Sequence[Skipped], terms: Mapping[str, Terms]
) -> None:
    """Move ``files`` (target relative to ``out``: present path), then write the table that makes them part of ``out``.

    If anything fails, what was moved is removed again.
    """
    studies, moved = make_folder(out / "studies"), []
    try:
        for name, path in files.items():
            target = out / name
            with writing(target):
                path.replace(target)
            moved.append(target)
        write_json(out / DATASET, about_dataset(terms))
        write_skipped(out, skipped)
        table.write(out)
    except BaseException:
        for target in moved:
            target.unlink(missing_ok=True)
        if len(table) == len(files):  # the dataset is new
            for name in (DATASET, SKIPPED_FILE):
                (out / name).unlink(missing_ok=True)
            with suppress(OSError):
                studies.rmdir()
        raise


# --- The list of what was skipped ------------------------------------------------------------------------------------


def read_skipped(folder: Path) -> tuple[Skipped, ...]:
    """Everything skipped so far on the way into the dataset in ``folder``; `DataError` if the list is damaged."""
    path = with_either_name(Path(folder) / SKIPPED_FILE, Path(folder) / OLD_SKIPPED_FILE)
    if not path.exists():
        return ()
    try:
        header, *rows = csv.reader(io.StringIO(path.read_text(encoding="utf-8"), newline=""))
        if header != SKIPPED_COLUMNS:
            raise ValueError(f"expected the columns {', '.join(SKIPPED_COLUMNS)}")
        return tuple(Skipped(name, reason, hint) for name, reason, hint in rows)
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"{path} is damaged: {error}", hint="move the file away; it is informational only") from None


def write_skipped(folder: Path, skipped: Sequence[Skipped]) -> None:
    """Replace the list of ``folder`` atomically, without repetitions; an empty list makes no file."""
    if skipped:
        rows = dict.fromkeys(Skipped(*map(_cell, each)) for each in skipped)
        write_csv(Path(folder) / SKIPPED_FILE, SKIPPED_COLUMNS, (row._asdict() for row in rows))
        (Path(folder) / OLD_SKIPPED_FILE).unlink(missing_ok=True)


def _cell(text: str, max_length: int = 2000) -> str:
    """``text`` as every CSV reader can show it: unprintable characters are escaped, long text is cut."""
    escaped = "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)
    return escaped if len(escaped) <= max_length else escaped[:max_length] + "..."
