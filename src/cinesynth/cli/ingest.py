"""``cinesynth ingest``, ``prepare`` and ``look``: studies into a dataset, and onto a preset's grid."""

from __future__ import annotations

import inspect
import re
from collections import Counter
from collections.abc import Callable, Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from cinesynth.cli import console
from cinesynth.cli.bundle import Weights
from cinesynth.config import load_config
from cinesynth.data.sources import Source
from cinesynth.errors import InputError

if TYPE_CHECKING:
    from cinesynth.data.ingest import Summary
    from cinesynth.data.manifest import Row

app = typer.Typer(no_args_is_help=True, help="Bring studies into a dataset folder, on the scanner's own grid.")

SHOWN = 20
"""Rejections that are printed; ``rejected.csv`` has all."""


class OnError(str, Enum):
    """What to do with a study that cannot be read."""

    STOP = "stop"
    SKIP = "skip"


Verb = Callable[..., Source]
MASKS = ("annotate", "weights")
"""Options of no use where a source always knows ED and ES."""


def _verb(name: str, *, without: tuple[str, ...] = ()) -> Callable[[Verb], Verb]:
    """Make a verb of a function that returns a `Source`: its own options, and those of `_ingest` but ``without``."""

    def register(read: Verb) -> Verb:
        own = inspect.signature(read, eval_str=True).parameters
        _, *others = inspect.signature(_ingest, eval_str=True).parameters.values()
        common = [option for option in others if option.name not in without]

        def command(**given: Any) -> None:
            source = read(**{option: given.pop(option) for option in own})
            _ingest(source, **given)

        options = [option.replace(kind=option.KEYWORD_ONLY) for option in (*own.values(), *common)]
        command.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined]
        app.command(name, help=read.__doc__)(command)
        return read

    return register


def _ingest(
    source: Source,
    out: Annotated[Path, typer.Option(help="Dataset folder; what other sources put there is kept.")],
    seed: Annotated[int, typer.Option(min=0, help="Seed of the split by subject.")] = 0,
    on_error: Annotated[
        OnError, typer.Option(help="A study that cannot be read: stop and add nothing, or list it in rejected.csv.")
    ] = OnError.STOP,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes that read; one a core by default.")] = None,
    annotate: Annotated[
        bool, typer.Option("--annotate", help="Where ED and ES would be assumed, find them by masks of the weights.")
    ] = False,
    weights: Weights = None,
) -> None:
    from cinesynth.data.ingest import ingest

    if annotate:
        from cinesynth.synthesis.annotate import PhaseFinder

        finder = PhaseFinder.load(weights)
        source = source.amended(finder, finder.version)
    elif weights:
        raise InputError("--weights was given without --annotate", hint="give both, or neither")
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


@_verb("acdc", without=MASKS)
def acdc(
    root: Annotated[Path, typer.Argument(help="ACDC folder, with patientNNN folders in it, training/ or testing/.")],
) -> Source:
    """An ACDC folder, complete (with _4d files) or with ED and ES frames only."""
    from cinesynth.data.sources.acdc import read_acdc

    return read_acdc(root)


@_verb("mnms")
def mnms(
    root: Annotated[Path, typer.Argument(help="M&Ms folder: the CSV, Training/, Validation/ and Testing/.")],
) -> Source:
    """M&Ms (Campello et al., 2021) as downloaded: whole cycles, labelled at ED and ES."""
    from cinesynth.data.sources.mnms import read_mnms

    return read_mnms(root)


@_verb("mnms2", without=MASKS)
def mnms2(
    root: Annotated[Path, typer.Argument(help="M&Ms-2 folder: dataset_information.csv and dataset/.")],
    cycles: Annotated[bool, typer.Option(help="Read whole cycles where they are there, or ED and ES alone.")] = True,
) -> Source:
    """M&Ms-2 (Martin-Isla et al., 2023) as downloaded: the short-axis stacks."""
    from cinesynth.data.sources.mnms2 import read_mnms2

    return read_mnms2(root, cycles=cycles)


@_verb("scd", without=MASKS)
def scd(
    root: Annotated[Path, typer.Argument(help="Sunnybrook folder: SCD_IMAGES_*, SCD_ManualContours and the CSV.")],
) -> Source:
    """Sunnybrook Cardiac Data as downloaded: DICOM, and contours of the LV and of the myocardium at ED."""
    from cinesynth.data.sources.scd import read_scd

    return read_scd(root)


@_verb("dsb")
def dsb(
    root: Annotated[Path, typer.Argument(help="Folder of the Data Science Bowl: train/, validate/ and test/.")],
) -> Source:
    """Kaggle's Second Annual Data Science Bowl (2015): DICOM without labels."""
    from cinesynth.data.sources.dsb import read_dsb

    return read_dsb(root)


@_verb("cinema")
def cinema(
    root: Annotated[Path, typer.Argument(help="CineMA's preprocessed folder: <split>_metadata.csv and subjects.")],
) -> Source:
    """What CineMA's preprocessing wrote, of any dataset and with old or new column names."""
    from cinesynth.data.sources.cinema import read_cinema

    return read_cinema(root)


@_verb("dicom")
def dicom(
    root: Annotated[Path, typer.Argument(help="Folder or zip of DICOM files, in any order and with any names.")],
) -> Source:
    """Any short-axis cine in DICOM; scouts, long axes and duplicates are set aside and listed."""
    from cinesynth.data.sources.dicom import read_dicom

    return read_dicom(root)


@_verb("nifti")
def nifti(
    root: Annotated[Path, typer.Argument(help="Folder of NIfTI files.")],
    layout: Annotated[
        str, typer.Option(help="YAML that says what lies where, or the name of one that ships (najman4d, ...).")
    ],
) -> Source:
    """Any folder of 3D or 4D NIfTI files that a small YAML describes."""
    from cinesynth.data.sources.layout import load_layout
    from cinesynth.data.sources.nifti import read_nifti

    return read_nifti(root, load_layout(layout))


@_verb("phantom", without=("on_error", *MASKS))
def phantom(
    subjects: Annotated[int, typer.Option(min=1, help="How many analytic hearts.")] = 40,
    frames: Annotated[int | None, typer.Option(min=6, help="Frames of each cycle; 20-30 by default.")] = None,
) -> Source:
    """Analytic beating hearts, labelled at every frame: no patient data, no licence."""
    from cinesynth.data.sources.phantom import read_phantoms

    return read_phantoms(subjects, frames=frames)


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
    size = f"{packed.path.stat().st_size / 2**20:.1f} MiB"
    console.out.print(f"{len(packed)} subjects on {x} x {y} x {z} voxels of {spacing} mm, {size}")
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
    from cinesynth.reports.contact_sheet import render_study

    rows = {row.subject: row for row in Manifest.read(data)}
    if subject not in rows:
        raise InputError(f"{subject} is not in {data}", hint=f"one of {', '.join(list(rows)[:5])}, ...")
    render_study(load_study(data, rows[subject]), out)
    console.out.print(str(out))
