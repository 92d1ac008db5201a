"""Output of the command line: results to stdout, progress and errors to stderr, readable without colour."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from cinesynth.io.tasks import ProgressCallback

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


@contextmanager
def progress() -> Iterator[ProgressCallback]:
    """A progress display with elapsed and remaining time, one line a task."""
    columns = (
        TextColumn("{task.description:<12}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[figures]}"),
    )
    # One case of a cohort may take minutes, so the remaining time is estimated over an hour of steps.
    with Progress(*columns, console=err, speed_estimate_period=3600.0) as display:
        tasks: dict[str, object] = {}

        def step(name: str, done: int, total: int, figures: Mapping[str, float]) -> None:
            if name not in tasks:
                tasks[name] = display.add_task(name, total=total, completed=done, figures="")
            text = "  ".join(f"{key.split('/')[-1]} {value:.4g}" for key, value in list(figures.items())[:6])
            display.update(tasks[name], total=total, completed=done, **({"figures": text} if text else {}))  # type: ignore[arg-type]
            scores = {k.removeprefix("validation/"): v for k, v in figures.items() if k.startswith("validation/")}
            if scores:
                err.print(f"{name} {done}/{total}  " + "  ".join(f"{k} {v:.4g}" for k, v in scores.items()))

        yield step


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table to stdout."""

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
