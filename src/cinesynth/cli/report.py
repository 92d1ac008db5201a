"""``cinesynth report``: a dataset as a page to look through."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cinesynth.cli import console


def report(
    dataset: Annotated[Path, typer.Argument(help="Dataset folder.")],
    out: Annotated[Path, typer.Option(help="HTML page to write; it needs no other file.")] = Path("report.html"),
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; all cores by default.")] = None,
) -> None:
    """Subjects in and out and why, and of each subject slices over time, contours, volumes and what asks for a look."""
    from cinesynth.data.report import write_report

    with console.progress() as step:
        overview = write_report(
            dataset, out, workers=workers, progress=lambda done, total, _: step("report", done, total, {})
        )
    if overview.flags:
        console.table("flags", ("flag", "subjects"), list(overview.flags.items()))
    console.out.print(
        f"{overview.path}: {overview.subjects} subjects in, {overview.rejected} left out, {overview.flagged} with flags"
    )
