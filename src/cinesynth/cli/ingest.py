"""``cinesynth ingest``, ``prepare`` and ``look``: studies into a dataset, and onto a preset's grid."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from cinesynth.cli import console
from cinesynth.config import load_config

if TYPE_CHECKING:
    from cinesynth.data.ingest import Summary
    from cinesynth.data.manifest import Row
    from cinesynth.data.sources import Source

app = typer.Typer(no_args_is_help=True, help="Bring studies into a dataset folder, on the scanner's own grid.")

SHOWN = 20
"""Rejections that are printed; ``rejected.csv`` has all."""


class OnError(str, Enum):
    """What to do with a study that cannot be read."""

    STOP = "stop"
    SKIP = "skip"


Out = Annotated[Path, typer.Option(help="Dataset folder; what other sources put there is kept.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of the split by subject.")]
Failing = Annotated[
    OnError,
    typer.Option("--on-error", help="A study that cannot be read: stop and add nothing, or list it in rejected.csv."),
]
Workers = Annotated[int | None, typer.Option(min=1, help="Processes that read; one a core by default.")]


@app.command("acdc")
def acdc(
    root: Annotated[Path, typer.Argument(help="ACDC folder, with patientNNN folders in it, training/ or testing/.")],
    out: Out,
    seed: Seed = 0,
    on_error: Failing = OnError.STOP,
    workers: Workers = None,
) -> None:
    """An ACDC folder, complete (with _4d files) or with ED and ES frames only."""
    from cinesynth.data.sources.acdc import read_acdc

    _ingest(read_acdc(root), out, seed, on_error, workers)


@app.command("mnms")
def mnms(
    root: Annotated[Path, typer.Argument(help="M&Ms folder: the CSV, Training/, Validation/ and Testing/.")],
    out: Out,
    seed: Seed = 0,
    on_error: Failing = OnError.STOP,
    workers: Workers = None,
) -> None:
    """M&Ms (Campello et al., 2021) as downloaded: whole cycles, labelled at ED and ES."""
    from cinesynth.data.sources.mnms import read_mnms

    _ingest(read_mnms(root), out, seed, on_error, workers)


@app.command("mnms2")
def mnms2(
    root: Annotated[Path, typer.Argument(help="M&Ms-2 folder: dataset_information.csv and dataset/.")],
    out: Out,
    cycles: Annotated[bool, typer.Option(help="Read whole cycles where they are there, or ED and ES alone.")] = True,
    seed: Seed = 0,
    on_error: Failing = OnError.STOP,
    workers: Workers = None,
) -> None:
    """M&Ms-2 (Martin-Isla et al., 2023) as downloaded: the short-axis stacks."""
    from cinesynth.data.sources.mnms2 import read_mnms2

    _ingest(read_mnms2(root, cycles=cycles), out, seed, on_error, workers)


@app.command("scd")
def scd(
    root: Annotated[Path, typer.Argument(help="Sunnybrook folder: SCD_IMAGES_*, SCD_ManualContours and the CSV.")],
    out: Out,
    seed: Seed = 0,
    on_error: Failing = OnError.STOP,
    workers: Workers = None,
) -> None:
    """Sunnybrook Cardiac Data as downloaded: DICOM, and contours of the LV and of the myocardium at ED."""
    from cinesynth.data.sources.scd import read_scd

    _ingest(read_scd(root), out, seed, on_error, workers)


@app.command("dsb")
def dsb(
    root: Annotated[Path, typer.Argument(help="Folder of the Data Science Bowl: train/, validate/ and test/.")],
    out: Out,
    seed: Seed = 0,
    on_error: Failing = OnError.STOP,
    workers: Workers = None,
) -> None:
    """Kaggle's Second Annual Data Science Bowl (2015): DICOM without labels."""
    from cinesynth.data.sources.dsb import read_dsb

    _ingest(read_dsb(root), out, seed, on_error, workers)


@app.command("cinema")
def cinema(
    root: Annotated[Path, typer.Argument(help="CineMA's preprocessed folder: <split>_metadata.csv and subjects.")],
    out: Out,
    seed: Seed = 0,
    on_error: Failing = OnError.STOP,
    workers: Workers = None,
) -> None:
    """What CineMA's preprocessing wrote, of any dataset and with old or new column names."""
    from cinesynth.data.sources.cinema import read_cinema

    _ingest(read_cinema(root), out, seed, on_error, workers)


@app.command("dicom")
def dicom(
    root: Annotated[Path, typer.Argument(help="Folder or zip of DICOM files, in any order and with any names.")],
    out: Out,
    seed: Seed = 0,
    on_error: Failing = OnError.STOP,
    workers: Workers = None,
) -> None:
    """Any short-axis cine in DICOM; scouts, long axes and duplicates are set aside and listed."""
    from cinesynth.data.sources.dicom import read_dicom

    _ingest(read_dicom(root), out, seed, on_error, workers)


@app.command("nifti")
def nifti(
    root: Annotated[Path, typer.Argument(help="Folder of NIfTI files.")],
    out: Out,
    layout: Annotated[
        str, typer.Option(help="YAML that says what lies where, or the name of one that ships (najman4d, ...).")
    ],
    seed: Seed = 0,
    on_error: Failing = OnError.STOP,
    workers: Workers = None,
) -> None:
    """Any folder of 3D or 4D NIfTI files that a small YAML describes."""
    from cinesynth.data.sources.layout import load_layout
    from cinesynth.data.sources.nifti import read_nifti

    _ingest(read_nifti(root, load_layout(layout)), out, seed, on_error, workers)


@app.command("phantom")
def phantom(
    out: Out,
    subjects: Annotated[int, typer.Option(min=1, help="How many analytic hearts.")] = 40,
    frames: Annotated[int | None, typer.Option(min=6, help="Frames of each cycle; 20-30 by default.")] = None,
    seed: Seed = 0,
    workers: Workers = None,
) -> None:
    """Analytic beating hearts, labelled at every frame: no patient data, no licence."""
    from cinesynth.data.sources.phantom import read_phantoms

    _ingest(read_phantoms(subjects, frames=frames), out, seed, OnError.STOP, workers)


def _ingest(source: Source, out: Path, seed: int, on_error: OnError, workers: int | None) -> None:
    from cinesynth.data.ingest import ingest

    with console.progress() as step:
        summary = ingest(
            source,
            out,
            seed=seed,
            on_error="skip" if on_error is OnError.SKIP else "stop",
            progress=lambda done, total, _: step("ingest", done, total, {}),
            workers=workers,
        )
    _print(summary)


def _print(summary: Summary) -> None:
    """Who is in, what is known of them, and who is not and why."""
    splits = ("train", "validation", "test")
    rows = [
        (*group, *(counts[split] for split in splits), sum(counts.values()))
        for group, counts in sorted(summary.counts().items())
    ]
    console.table(f"added to {summary.folder}", ("dataset", "vendor", "diagnosis", *splits, "subjects"), rows)
    columns = ("dataset", "annotated", "ED and ES from", "slice order from", "subjects")
    console.table("what is known of them", columns, _known(summary.added))
    if summary.rejected:
        left_out = [(escape(r.name), escape(r.reason)) for r in summary.rejected[:SHOWN]]
        console.table("left out", ("name", "reason"), left_out)
        console.out.print(f"{len(summary.rejected)} left out, all of them in rejected.csv of the dataset")
    labelled = sum(row.labelled_frames for row in summary.added)
    console.out.print(
        f"{len(summary.added)} subjects, {labelled} labelled frames, {summary.file_bytes / 2**20:.1f} MiB; "
        f"{summary.total} subjects in the dataset"
    )


def _known(rows: Sequence[Row]) -> list[tuple[str, str, str, str, int]]:
    found = Counter((row.dataset, _annotated(row.coverage), row.phases_from, row.slices_from) for row in rows)
    return [(*kind, count) for kind, count in sorted(found.items())]


def _annotated(coverage: str) -> str:
    """``MYO ED; LV ED ES`` of ``RV -; MYO ED 7/12; LV ED 7/12 ES 5/12``: which structures at which phases."""
    parts = re.sub(r" \d+/\d+", "", coverage).split("; ")
    return "; ".join(part for part in parts if not part.endswith(" -")) or "nothing"


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
