"""An export's folder, whole or not at all, and the tables in it."""

from __future__ import annotations

import csv
import io
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from cinesynth.atomic import make_folder, write_text, writing
from cinesynth.errors import OutputError


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
