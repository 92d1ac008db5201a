"""``cinesynth ingest``, ``prepare`` and ``look``: studies into a dataset, and onto a preset's grid."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cinesynth.cli import console
from cinesynth.config import load_config

if TYPE_CHECKING:
    from cinesynth.data.sources import Source

app = typer.Typer(no_args_is_help=True, help="Bring studies into a dataset folder, on the scanner's own grid.")

Out = Annotated[Path, typer.Option(help="Dataset folder; what other sources put there is kept.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of the split by subject.")]


@app.command("acdc")
def acdc(
    root: Annotated[Path, typer.Argument(help="ACDC folder, with patientNNN folders in it, training/ or testing/.")],
    out: Out,
    seed: Seed = 0,
) -> None:
    """An ACDC folder, complete (with _4d files) or with ED and ES frames only."""
    from cinesynth.data.sources.acdc import read_acdc

    _ingest(read_acdc(root), out, seed)


@app.command("phantom")
def phantom(
    out: Out,
    subjects: Annotated[int, typer.Option(min=1, help="How many analytic hearts.")] = 40,
    frames: Annotated[int | None, typer.Option(min=6, help="Frames of each cycle; 20-30 by default.")] = None,
    seed: Seed = 0,
) -> None:
    """Analytic beating hearts, labelled at every frame: no patient data, no licence."""
    from cinesynth.data.sources.phantom import read_phantoms

    _ingest(read_phantoms(subjects, frames=frames), out, seed)


def _ingest(source: Source, out: Path, seed: int) -> None:
    from cinesynth.data.ingest import ingest

    with console.progress() as step:
        summary = ingest(source, out, seed=seed, progress=lambda done, total, _: step("ingest", done, total, {}))
    splits = ("train", "validation", "test")
    rows = [
        (*group, *(counts[split] for split in splits), sum(counts.values()))
        for group, counts in sorted(summary.counts().items())
    ]
    console.table(f"added to {summary.folder}", ("dataset", "vendor", "diagnosis", *splits, "subjects"), rows)
    labelled = sum(row.labelled_frames for row in summary.added)
    console.out.print(
        f"{len(summary.added)} subjects, {labelled} labelled frames, {summary.file_bytes / 2**20:.1f} MiB; "
        f"{summary.total} subjects in the dataset"
    )


def prepare(
    data: Annotated[Path, typer.Option(help="Dataset folder.")],
    preset: Annotated[str, typer.Option(help="Preset whose grid the dataset is brought to.")] = "small",
) -> None:
    """Bring a dataset to a preset's grid, and say what that does to the volumes (training does it by itself)."""
    from cinesynth.data.geometry import Grid
    from cinesynth.data.packed import prepare as pack
    from cinesynth.data.packed import volume_report

    grid = Grid.from_config(load_config(preset).grid)
    with console.progress() as step:
        packed = pack(data, grid, lambda done, total, _: step("prepare", done, total, {}))
    report = volume_report(data, grid)
    edv, esv = report.median_percent
    x, y, z = grid.size
    spacing = " x ".join(f"{s:g}" for s in grid.spacing_mm)
    console.out.print(f"{len(packed)} subjects on {x} x {y} x {z} voxels of {spacing} mm")
    rows = [("EDV", edv, *_extremes(report.errors_percent()[0])), ("ESV", esv, *_extremes(report.errors_percent()[1]))]
    columns = ("LV volume", "median |error| %", "mean error %", "largest |error| %", "subjects")
    console.table("grid against the native labels", columns, rows)


def _extremes(errors: object) -> tuple[float | None, float | None, int]:
    import numpy as np

    values = np.asarray(errors, dtype=np.float64)
    if not len(values):
        return None, None, 0
    return float(values.mean()), float(np.abs(values).max()), len(values)


def look(
    data: Annotated[Path, typer.Option(help="Dataset folder.")],
    subject: Annotated[str, typer.Option(help="Subject, as in manifest.csv.")],
    out: Annotated[Path, typer.Option(help="PNG to write.")],
) -> None:
    """A contact sheet of a study of the dataset, with its labels as contours."""
    from cinesynth.data.manifest import Manifest
    from cinesynth.data.packed import load_study
    from cinesynth.errors import InputError
    from cinesynth.synthesis.export.sheet import render_study

    rows = {row.subject: row for row in Manifest.read(data)}
    if subject not in rows:
        raise InputError(f"{subject} is not in {data}", hint=f"one of {', '.join(list(rows)[:5])}, ...")
    render_study(load_study(data, rows[subject]), out)
    console.out.print(str(out))
