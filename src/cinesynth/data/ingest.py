"""From sources to a dataset folder: studies, manifest and splits, all of them or nothing."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import astuple, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

from cinesynth.data import Progress
from cinesynth.data.duplicates import one_person, sketch
from cinesynth.data.manifest import FRACTIONS, MANIFEST, Manifest, Row, assign_splits
from cinesynth.data.packed import load_study
from cinesynth.data.sources import Source
from cinesynth.data.staging import STAGING, Staged, Stager, staging
from cinesynth.data.terms import DATASET, Terms, about_dataset, said_terms
from cinesynth.errors import DataError, OutputError
from cinesynth.io.files import make_folder, write_json, write_text, writing
from cinesynth.io.lock import only_writer
from cinesynth.io.parallel import in_order
from cinesynth.types import FloatArray, Study

SHOWN = 5
"""Reasons that are told where no study could be read."""


@dataclass(frozen=True)
class Summary:
    """What an ingestion added."""

    folder: Path
    added: tuple[Row, ...]
    rejected: tuple[Rejection, ...]
    """Each study left out (only with ``on_error="skip"``), and what the source itself set aside."""
    total: int
    """Subjects in the dataset now."""
    file_bytes: int
    """Size of the added studies."""

    def counts(self) -> dict[tuple[str, str, str], Counter[str]]:
        """Subjects in each split, by (dataset, vendor, diagnosis)."""
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
    progress: Progress | None = None,
    workers: int | None = None,
) -> Summary:
    """Add ``studies`` to the dataset in ``out`` (made if absent); the subjects already there keep their split.

    Up to ``workers`` processes (all cores by default) each read one study at a time; how many they are changes
    nothing in the result. Files are written into a staging folder and moved when all are there; the manifest follows
    last. So a bad study (`DataError`), a full disk or another ingestion into ``out`` (`OutputError`) leaves ``out``
    as it was, and an interrupted or killed ingestion leaves no more than the staging folder: the same call goes on
    from the studies that are finished there, if the source names its files and they have not changed.

    With ``on_error="skip"`` a bad study is left out; what was left out, by this or by the source, is listed in
    ``rejected.csv`` with the reason.
    """
    out, source = Path(out), studies if isinstance(studies, Source) else _as_source(studies)
    with only_writer(out):
        before, earlier = _existing(out), read_rejected(out)
        with staging(out) as folder:
            staged, failed = _stage(source, folder, before, on_error, progress, workers)
            rejected = (*failed, *(Rejection(name, reason) for name, reason in source.skipped))
            added = _share_out(staged, out, before, fractions, seed)
            manifest, terms = Manifest((*before.rows, *added)), said_terms(out)
            if source.terms:
                terms |= {row.dataset: source.terms for row in added}
            files = dict(zip((row.file for row in added), (one.path for one in staged), strict=True))
            _publish(files, out, manifest, (*earlier, *rejected), terms)
    file_bytes = sum((out / row.file).stat().st_size for row in added)
    return Summary(out, added, rejected, len(manifest), file_bytes)


def _as_source(studies: Sequence[Study]) -> Source:
    numbered = {f"{number}": study for number, study in enumerate(studies)}
    return Source(tuple(numbered), numbered.__getitem__)


def _existing(out: Path) -> Manifest:
    if (out / MANIFEST).exists():
        return Manifest.read(out)
    with writing(out):
        foreign = any(not path.name.startswith(".") for path in out.iterdir())
        killed_while_publishing = (out / STAGING).exists()
    if foreign and not killed_while_publishing:
        raise OutputError(f"{out} holds other files and no {MANIFEST}", hint="name a new folder or an earlier dataset")
    return Manifest(())


def _stage(
    source: Source, folder: Path, before: Manifest, on_error: str, progress: Progress | None, workers: int | None
) -> tuple[list[Staged], list[Rejection]]:
    staged: list[Staged] = []
    failed: list[Rejection] = []
    seen = {row.file: f"{row.dataset} {row.subject}" for row in before}
    with closing(in_order(Stager(source, folder), range(len(source)), workers)) as outcomes:
        for number, (name, outcome) in enumerate(zip(source.names, outcomes, strict=True), start=1):
            try:
                staged.append(_accept(outcome, seen))
            except DataError as error:
                if on_error == "stop":
                    raise
                failed.append(Rejection(name, error.message, error.hint))
            if progress:
                progress(number, len(source), name)
    if not staged:
        raise DataError("no study could be read", hint=_reasons(failed))
    return staged, failed


def _reasons(failed: Sequence[Rejection]) -> str:
    if not failed:
        return "the source holds none"
    more = f"; and {len(failed) - SHOWN} more" if len(failed) > SHOWN else ""
    return "the reasons: " + "; ".join(rejection.reason for rejection in failed[:SHOWN]) + more


def _accept(outcome: Staged | DataError, seen: dict[str, str]) -> Staged:
    """``outcome`` itself; ``seen`` tells whose each file is: ``a b_c`` and ``a_b c`` would share one."""
    if isinstance(outcome, DataError):
        raise outcome
    who, file = f"{outcome.row.dataset} {outcome.row.subject}", outcome.row.file
    if file in seen:
        found = "is in the dataset already" if seen[file] == who else f"would take the file of {seen[file]}, {file}"
        raise DataError(
            f"{who} {found}", hint="each subject is ingested once: choose another dataset folder, or leave it out"
        )
    seen[file] = who
    return outcome


def _share_out(
    staged: list[Staged], out: Path, before: Manifest, fractions: tuple[float, float, float], seed: int
) -> tuple[Row, ...]:
    """Each source is split on its own, and goes on from what the dataset already has of it.

    The studies of one person, under whatever names, are in one split: that of the study that was there first.
    """
    earlier = in_order(partial(_sketch, out), before.rows)
    persons = one_person([*earlier, *(one.sketch for one in staged)])
    known, added = persons[: len(before)], persons[len(before) :]
    splits = {person: row.split for person, row in reversed(list(zip(known, before, strict=True)))}
    firsts = {person: one.row for person, one in reversed(list(zip(added, staged, strict=True)))}
    for dataset in {row.dataset for row in firsts.values()}:
        new = {p: row for p, row in firsts.items() if p not in splits and row.dataset == dataset}
        taken = Counter(row.split for row in before if row.dataset == dataset)
        chosen = assign_splits({r.file: r.stratum for r in new.values()}, fractions, seed=seed, taken=taken)
        splits |= {person: chosen[row.file] for person, row in new.items()}
    return tuple(replace(one.row, split=splits[person]) for person, one in zip(added, staged, strict=True))


def _sketch(out: Path, row: Row) -> FloatArray:
    return sketch(load_study(out, row))


def _publish(
    files: Mapping[str, Path],
    out: Path,
    manifest: Manifest,
    rejected: Sequence[Rejection],
    terms: Mapping[str, Terms],
) -> None:
    """Move ``files`` (where each is to be, where it is), and write the manifest that makes them part of ``out``."""
    studies, moved = make_folder(out / "studies"), []
    try:
        for name, path in files.items():
            target = out / name
            with writing(target):
                path.replace(target)
            moved.append(target)
        write_json(out / DATASET, about_dataset(terms))
        write_rejected(out, rejected)
        manifest.write(out)
    except BaseException:
        for target in moved:
            target.unlink(missing_ok=True)
        if len(manifest) == len(files):
            for name in (DATASET, REJECTED):
                (out / name).unlink(missing_ok=True)
            with suppress(OSError):
                studies.rmdir()
        raise


# --- What an ingestion left out and why ------------------------------------------------------------------------------


REJECTED = "rejected.csv"
MAX_CELL = 2000
COLUMNS = ["name", "reason", "hint"]


@dataclass(frozen=True)
class Rejection:
    """A study, series or file of a source that is not in the dataset."""

    name: str
    reason: str
    hint: str = ""


def read_rejected(folder: Path) -> tuple[Rejection, ...]:
    """What was left out of the dataset in ``folder`` so far; `DataError` if the list is damaged."""
    path = Path(folder) / REJECTED
    if not path.exists():
        return ()
    try:
        header, *rows = csv.reader(io.StringIO(path.read_text(encoding="utf-8"), newline=""))
        if header != COLUMNS:
            raise ValueError("other columns than expected")
        return tuple(Rejection(name, reason, hint) for name, reason, hint in rows)
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"{path} is damaged: {error}", hint="rename it: it is a list for people to read") from None


def write_rejected(folder: Path, rejected: Sequence[Rejection]) -> None:
    """Replace the list of ``folder`` atomically, each entry once; an empty list makes no file."""
    if not rejected:
        return
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(dict.fromkeys(tuple(map(_cell, astuple(rejection))) for rejection in rejected))
    write_text(Path(folder) / REJECTED, text.getvalue())


def _cell(text: str) -> str:
    """Text that every reader of CSV can show: what cannot be printed is spelled out, and nobody reads a novel."""
    spelled = "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)
    return spelled if len(spelled) <= MAX_CELL else spelled[:MAX_CELL] + "..."
