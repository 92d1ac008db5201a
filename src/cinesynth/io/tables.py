"""Metadata tables of sources: CSV files with one row per subject, as spreadsheets and challenges write them."""

from __future__ import annotations

import csv
import errno
import io
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from cinesynth.errors import DataError
from cinesynth.io.files import open_regular

ENCODINGS = ("utf-8-sig", "cp1252")
"""Spreadsheets write UTF-8 with a byte-order mark, or the Windows code page."""
MAX_FRAMES = 100_000
"""A larger frame number is an error in the table."""


@dataclass(frozen=True)
class TableRow:
    """The cells of one subject by column."""

    path: Path
    subject: str
    cells: dict[str, str]

    def text(self, column: str) -> str:
        """The stripped cell; `DataError` if there is no such column."""
        if column not in self.cells:
            raise DataError(
                f"{self.path} has no column {column!r}", hint=f"its columns are {', '.join(filter(None, self.cells))}"
            )
        return self.cells[column].strip()

    def number(self, column: str) -> float:
        """The cell as a finite number; `DataError` if it is not one."""
        text = self.text(column)
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if abs(value) < float("inf"):
            return value
        raise DataError(
            f"{self.path}: {column} of {self.subject} is {text!r}, expected a number", hint="correct this cell"
        )

    def index(self, column: str) -> int:
        """The cell as a frame number, 0 or more (``7`` or ``7.0``); `DataError` if it is not one."""
        value = self.number(column)
        if not 0 <= value < MAX_FRAMES or value != int(value):
            raise DataError(
                f"{self.path}: {column} of {self.subject} is {self.text(column)!r}, expected a frame number",
                hint="correct this cell",
            )
        return int(value)


@dataclass(frozen=True)
class SubjectTable:
    """The rows of a table by subject."""

    path: Path
    rows: dict[str, TableRow]

    def row(self, subject: str) -> TableRow:
        """The row of ``subject``; `DataError` if there is none. 7 matches 007: spreadsheets drop leading zeros."""
        if subject in self.rows:
            return self.rows[subject]
        number = _number(subject)
        same = [row for key, row in self.rows.items() if number is not None and _number(key) == number]
        if len(same) != 1:
            raise DataError(f"{self.path} has no row for {subject}", hint="add the row, or leave the subject out")
        return same[0]


def read_table(path: Path, subject: str) -> SubjectTable:
    """The CSV at ``path``, keyed by the column ``subject``; cells are separated by commas, semicolons or tabs.

    Rows without a subject are skipped. `DataError` if the file or the column is missing, or two rows disagree.
    """
    text = _text(path)
    delimiter = max(",;\t", key=text.partition("\n")[0].count)
    try:
        lines = [line for line in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if any(line)]
    except csv.Error as error:
        raise DataError(f"{path} is not a table: {error}", hint="save it as CSV") from None
    columns = [name.strip() for name in lines[0]] if lines else []
    if subject not in columns:
        raise DataError(f"{path} has no column {subject!r}", hint=f"its columns are {', '.join(filter(None, columns))}")
    rows: dict[str, TableRow] = {}
    for line in lines[1:]:
        cells = dict(zip_longest(columns, line[: len(columns)], fillvalue=""))
        name = cells[subject].strip()
        row = TableRow(path, name, cells)
        if name and rows.setdefault(name, row) != row:
            raise DataError(f"{path} has two rows for {name} that differ", hint="keep the correct one")
    return SubjectTable(path, rows)


def _text(path: Path) -> str:
    try:
        content = read_small(path)
    except (OSError, ValueError):  # ValueError: a zero byte in the name
        raise DataError(
            f"{path} is missing or cannot be read", hint="copy it again into the folder of the subjects"
        ) from None
    for encoding in ENCODINGS:
        try:
            return content.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise DataError(f"{path} is neither UTF-8 nor Windows-1252", hint="save it as CSV")


def _number(text: str) -> int | None:
    """The number in a subject's name that is only a number; a spreadsheet may have turned ``7`` into ``7.0``."""
    whole = text.removesuffix(".0")
    return int(whole) if re.fullmatch("[0-9]{1,18}", whole) else None


# --- Reading the text files of a source ------------------------------------------------------------------------------


@contextmanager
def reading() -> Iterator[None]:
    """Turn an ``OSError`` in the body, or in a function decorated with it, into a `DataError` naming the file."""
    try:
        yield
    except OSError as error:
        place = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else "a file of the source"
        raise DataError(
            f"{place} cannot be read: {error.strerror or error}",
            hint="check that the file exists, that you may read it, and that the disk works",
        ) from error


def is_named(path: Path) -> bool:
    """Whether ``path`` exists, even as a broken link: that is a file not downloaded yet, not one that is absent."""
    return os.path.lexists(path)


def read_small(path: Path, max_bytes: int = 64 << 20) -> bytes:
    """The content of a text file; ``OSError`` unless it is a regular file of at most ``max_bytes`` (64 MiB)."""
    with open_regular(path) as file:
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(path))
    return content
