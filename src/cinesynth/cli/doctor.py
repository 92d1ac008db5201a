"""``cinesynth doctor`` and ``qc``: check a dataset and make its quality-control page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from cinesynth.cli import console
from cinesynth.cli.options import Workers
from cinesynth.config import load_config

if TYPE_CHECKING:
    from cinesynth.data.doctor import Checkup

SEEN = ("split", "dataset", "subjects", "cycles", "frames", "labelled", "RV/MYO/LV %")
KNOWN = ("split", "dataset", "EDV", "EF", "reported", "diagnosis", "frame time")


def doctor(
    dataset: Annotated[Path, typer.Argument(help="Dataset folder.")],
    preset: Annotated[str, typer.Option(help="Preset whose grid every heart must fit into.")] = "small",
) -> None:
    """Check hashes, geometry, splits and labels of a dataset, and show what a training run would see.

    Exits with an error if a finding must be resolved before training.
    """
    from cinesynth.data.doctor import examine
    from cinesynth.data.geometry import Grid
    from cinesynth.errors import DataError

    grid = Grid.from_config(load_config(preset).grid)
    with console.progress() as step:
        checkup = examine(dataset, grid, step)
    _print(checkup)
    if count := len(checkup.serious):
        raise DataError(
            f"{count} finding{'s' if count > 1 else ''} in {dataset} must be resolved before training",
            hint="ingest damaged studies again into a new folder, and remove one subject of each duplicate pair",
        )
    console.out.print(f"{dataset}: no problems found")


def _print(checkup: Checkup, shown: int = 20) -> None:
    from cinesynth.data.dataset_table import SPLITS
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
    console.out.print("cycles: subjects with all frames; %: annotated slices of labelled frames, by structure")
    facts = ("edv", "ef", "reported edv", "diagnosis", "frame time")
    rows = [(*place, *(tally.known[fact] for fact in facts)) for place, tally in tallies]
    console.table("subjects with this metadata", KNOWN, rows)
    console.out.print("reported: EDV stated by the source; it is not used in training")
    known = [(name, what, count) for name, counts in checkup.origins.items() for what, count in sorted(counts.items())]
    console.table("origin of the metadata", ("dataset", "from", "subjects"), known)
    if checkup.notes:
        notes = [(escape(about), escape("; ".join(texts))) for about, texts in list(checkup.notes.items())[:shown]]
        console.table("notes on subjects", ("about", "what"), notes)
        console.out.print(f"{len(checkup.notes)} subjects with notes; dataset.csv has all of them")
    if checkup.findings:
        found = [("must" if f.serious else "look", escape(f.about), escape(f.text)) for f in checkup.findings]
        console.table("findings", ("", "about", "what"), found)


# --- ``cinesynth qc`` ------------------------------------------------------------------------------------------------


def qc(
    dataset: Annotated[Path, typer.Argument(help="Dataset folder.")],
    out: Annotated[Path, typer.Option(help="HTML page to write; it is self-contained.")] = Path("report.html"),
    workers: Workers = None,
) -> None:
    """Make a quality-control page: subjects included and skipped, with slices, contours, volumes and flagged items."""
    from cinesynth.reports.dataset_page import write_report

    with console.progress() as step:
        overview = write_report(dataset, out, workers=workers, progress=step)
    if overview.flags:
        console.table("flags", ("flag", "subjects"), list(overview.flags.items()))
    console.out.print(
        f"{overview.path}: {overview.subjects} subjects, {overview.rejected} skipped, {overview.flagged} flagged"
    )
