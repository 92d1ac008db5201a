"""``cinesynth doctor``: whether a dataset is what it says, and what a training run would see."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from cinesynth.cli import console
from cinesynth.config import load_config

if TYPE_CHECKING:
    from cinesynth.data.doctor import Checkup

SEEN = ("split", "dataset", "subjects", "cycles", "frames", "labelled", "RV/MYO/LV %")
KNOWN = ("split", "dataset", "EDV", "EF", "reported", "diagnosis", "frame time")
SHOWN = 20
"""Subjects whose notes are printed; the manifest and the report have all."""


def doctor(
    dataset: Annotated[Path, typer.Argument(help="Dataset folder.")],
    preset: Annotated[str, typer.Option(help="Preset whose grid every heart must fit.")] = "small",
) -> None:
    """Check hashes, geometry, splits and labels of a dataset, and say what a training run would see.

    Ends with an error if something must be dealt with before training.
    """
    from cinesynth.data.doctor import examine
    from cinesynth.data.geometry import Grid
    from cinesynth.errors import DataError

    grid = Grid.from_config(load_config(preset).grid)
    with console.progress() as step:
        checkup = examine(dataset, grid, lambda done, total, _: step("doctor", done, total, {}))
    _print(checkup)
    if count := len(checkup.serious):
        raise DataError(
            f"{count} finding{'s' if count > 1 else ''} in {dataset} must be dealt with before training",
            hint="ingest what is damaged again into a new folder, and leave one of two twins out",
        )
    console.out.print(f"{dataset} is sound")


def _print(checkup: Checkup) -> None:
    from cinesynth.data.manifest import SPLITS
    from cinesynth.types import STRUCTURES

    tallies = sorted(checkup.tallies.items(), key=lambda entry: (SPLITS.index(entry[0][0]), entry[0][1]))
    seen = [
        (
            *place,
            tally.subjects,
            tally.whole_cycles,
            tally.frames,
            tally.labelled_frames,
            "/".join("-" if p is None else f"{p:.0f}" for p in map(tally.coverage_percent, STRUCTURES)),
        )
        for place, tally in tallies
    ]
    console.table("what a training run would see", SEEN, seen)
    console.out.print(
        "cycles: subjects with all frames; %: slices of labelled frames in which the structure was annotated"
    )
    facts = ("edv", "ef", "reported edv", "diagnosis", "frame time")
    rows = [(*place, *(tally.known[fact] for fact in facts)) for place, tally in tallies]
    console.table("subjects of whom it is known", KNOWN, rows)
    console.out.print("reported: an EDV that the source states, which nothing is trained on")
    known = [(name, what, count) for name, counts in checkup.origins.items() for what, count in sorted(counts.items())]
    console.table("how it is known", ("dataset", "from", "subjects"), known)
    if checkup.notes:
        notes = [(escape(about), escape("; ".join(texts))) for about, texts in list(checkup.notes.items())[:SHOWN]]
        console.table("notes on subjects", ("about", "what"), notes)
        console.out.print(f"{len(checkup.notes)} subjects with notes, all of them in manifest.csv")
    if checkup.findings:
        found = [("must" if f.serious else "look", escape(f.about), escape(f.text)) for f in checkup.findings]
        console.table("findings", ("", "about", "what"), found)


# --- ``cinesynth report`` --------------------------------------------------------------------------------------------


def report(
    dataset: Annotated[Path, typer.Argument(help="Dataset folder.")],
    out: Annotated[Path, typer.Option(help="HTML page to write; it needs no other file.")] = Path("report.html"),
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; all cores by default.")] = None,
) -> None:
    """Subjects in and out and why, and of each subject slices over time, contours, volumes and what asks for a look."""
    from cinesynth.reports.dataset_page import write_report

    with console.progress() as step:
        overview = write_report(dataset, out, workers=workers, progress=step)
    if overview.flags:
        console.table("flags", ("flag", "subjects"), list(overview.flags.items()))
    console.out.print(
        f"{overview.path}: {overview.subjects} subjects in, {overview.rejected} left out, {overview.flagged} with flags"
    )
