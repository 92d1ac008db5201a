"""Metadata tables: one CSV row a subject, as spreadsheets and challenges write them."""

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
"""Spreadsheets put a mark before UTF-8, or write the letters of Windows."""

MAX_FRAMES = 100_000
"""A larger frame number is a damaged one."""


@dataclass(frozen=True)
class TableRow:
    """The cells of one subject, by column."""

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
        """The cell as a finite number; `DataError` if it is none."""
        text = self.text(column)
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if abs(value) < float("inf"):
            return value
        raise DataError(
            f"{self.path}: {column} of {self.subject} is {text!r}, expected a number", hint="correct the table"
        )

    def index(self, column: str) -> int:
        """The cell as a whole number of 0 or more (``7`` or ``7.0``); `DataError` if it is none."""
        value = self.number(column)
        if not 0 <= value < MAX_FRAMES or value != int(value):
            raise DataError(
                f"{self.path}: {column} of {self.subject} is {self.text(column)!r}, expected a frame number",
                hint="correct the table",
            )
        return int(value)


@dataclass(frozen=True)
class Table:
    """A table by subject."""

    path: Path
    rows: dict[str, TableRow]

    def row(self, subject: str) -> TableRow:
        """The row of ``subject``; spreadsheets drop leading zeros, so 7 is found for 007. `DataError` if absent."""
        if subject in self.rows:
            return self.rows[subject]
        number = _number(subject)
        same = [row for key, row in self.rows.items() if number is not None and _number(key) == number]
        if len(same) != 1:
            raise DataError(
                f"{self.path} has no row for {subject}", hint="complete the table, or leave the subject out"
            )
        return same[0]


def read_table(path: Path, subject: str) -> Table:
    """The CSV at ``path``, by the column ``subject``; commas, semicolons or tabs between the cells.

    Rows without a subject are padding and left out. `DataError` if the file or the column is missing, or if two
    rows that differ name one subject.
    """
    columns, lines = _parse(path)
    if subject not in columns:
        raise DataError(f"{path} has no column {subject!r}", hint=f"its columns are {', '.join(filter(None, columns))}")
    rows: dict[str, TableRow] = {}
    for cells in lines:
        name = cells[subject].strip()
        row = TableRow(path, name, cells)
        if name and rows.setdefault(name, row) != row:
            raise DataError(f"{path} has two rows for {name}", hint="keep the one that is right")
    return Table(path, rows)


def _parse(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Column names, and the cells of each line that has any."""
    text = _text(path)
    delimiter = max(",;\t", key=text.partition("\n")[0].count)
    try:
        lines = [line for line in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if any(line)]
    except csv.Error as error:
        raise DataError(f"{path} is not a table: {error}", hint="save it again as CSV") from None
    columns = [name.strip() for name in lines[0]] if lines else []
    return columns, [dict(zip_longest(columns, line[: len(columns)], fillvalue="")) for line in lines[1:]]


def _text(path: Path) -> str:
    try:
        content = read_small(path)
    except (OSError, ValueError):  # a name with a zero byte is no name
        raise DataError(f"{path} is missing or cannot be read", hint="copy it again beside the subjects") from None
    for encoding in ENCODINGS:
        try:
            return content.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise DataError(f"{path} is not text", hint="save it again as CSV")


def _number(text: str) -> int | None:
    """A subject that is only a number, also where a spreadsheet made ``7.0`` of it."""
    whole = text.removesuffix(".0")
    return int(whole) if re.fullmatch("[0-9]{1,18}", whole) else None


# --- Files of a source, opened without trust -------------------------------------------------------------------------


MAX_TEXT_BYTES = 64 << 20
"""No table, contour or description is larger."""


@contextmanager
def reading() -> Iterator[None]:
    """Turn an ``OSError`` in the body, or the function so decorated, into a `DataError` that names the file."""
    try:
        yield
    except OSError as error:
        place = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else "a file of the source"
        raise DataError(
            f"{place} cannot be read: {error.strerror or error}",
            hint="check that it is there, that you may read it, and that the disk is well",
        ) from error


def is_named(path: Path) -> bool:
    """Whether a folder lists ``path``, be it a link to nowhere: that is a file not fetched, not one never meant."""
    return os.path.lexists(path)


def read_small(path: Path) -> bytes:
    """All of a text file; ``OSError`` unless it is a regular file of at most `MAX_TEXT_BYTES`."""
    with open_regular(path) as file:
        content = file.read(MAX_TEXT_BYTES + 1)
    if len(content) > MAX_TEXT_BYTES:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(path))
    return content
