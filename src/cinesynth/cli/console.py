"""Output of the command line: results to stdout, messages and errors to stderr, readable without colour."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table to stdout."""
    from rich.table import Table

    def cell(value: object) -> str:
        if value is None:
            return "-"
        return f"{value:.4g}" if isinstance(value, float) else str(value)

    shown = Table(title=title, title_justify="left")
    for column in columns:
        shown.add_column(column, justify="left" if column == columns[0] else "right")
    for row in rows:
        shown.add_row(*map(cell, row))
    out.print(shown)
