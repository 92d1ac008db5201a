"""What an ingestion left out and why: ``rejected.csv`` beside the manifest, kept and added to over all ingestions."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

from cinesynth.atomic import write_text
from cinesynth.errors import DataError

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
