"""``cinesynth ingest``: add studies to a dataset."""

from __future__ import annotations

import inspect
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.markup import escape
from typer import Argument, Option

from cinesynth.cli import console, progress
from cinesynth.cli.options import Weights, Workers
from cinesynth.errors import InputError

if TYPE_CHECKING:
    from cinesynth.data.sources import Source
else:
    Source = Any  # its import is slow, and typer evaluates every annotation

app = typer.Typer(no_args_is_help=True, help="Add studies to a dataset folder, on the scanner's own grid.")

Verb = Callable[..., Source]
MASKS = ("annotate", "weights")
"""Options that are useless for sources that always state ED and ES."""


def _verb(name: str, *, without: tuple[str, ...] = ()) -> Callable[[Verb], Verb]:
    """Make a verb of a function that returns a `Source`: its own options plus those of `_ingest` except ``without``."""

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
    out: Annotated[Path, Option(help="Dataset folder; subjects from other sources are kept.")],
    seed: Annotated[int, Option(min=0, help="Seed of the split by subject.")] = 0,
    on_error: Annotated[
        Literal["stop", "skip"],
        Option(help="If a study cannot be read: stop and add nothing, or skip it and list it in skipped.csv."),
    ] = "stop",
    accept: Annotated[
        list[str] | None,
        Option(
            metavar="FLAG",
            help="Take studies in spite of this flag, which the refusal names; can be repeated.",
        ),
    ] = None,
    workers: Workers = None,
    annotate: Annotated[
        bool,
        Option(
            "--annotate", help="Detect ED and ES with the weights instead of assuming them where nothing states them."
        ),
    ] = False,
    weights: Weights = None,
) -> None:
    from cinesynth.data.ingest import ingest

    if annotate:
        from cinesynth.synthesis.annotate import PhaseFinder

        finder = PhaseFinder.load(progress.announce(weights, "cpu"))
        source = source.map(finder, finder.version)
    elif weights:
        raise InputError("--weights has no effect without --annotate", hint="pass both, or neither")
    with progress.shown("reading studies") as step:
        summary = ingest(source, out, seed=seed, on_error=on_error, progress=step, workers=workers, accept=accept or ())
    splits = ("train", "validation", "test")
    rows = [
        (*group, *(counts[split] for split in splits), sum(counts.values()))
        for group, counts in sorted(summary.counts().items())
    ]
    console.table(f"added to {summary.folder}", ("dataset", "vendor", "diagnosis", *splits, "subjects"), rows)
    added = ((row.dataset, _annotated(row.coverage), row.phases_from, row.slices_from) for row in summary.added)
    known = [(*kind, count) for kind, count in sorted(Counter(added).items())]
    columns = ("dataset", "annotated", "ED and ES from", "slice order from", "subjects")
    console.table("their annotations and metadata", columns, known)
    if summary.skipped:
        left_out = [(escape(r.name), escape(r.reason)) for r in summary.skipped[:20]]
        console.table("skipped", ("name", "reason"), left_out)
        console.out.print(f"{len(summary.skipped)} skipped; skipped.csv in the dataset lists all of them")
    labelled = sum(row.labelled_frames for row in summary.added)
    console.out.print(
        f"{len(summary.added)} subjects, {labelled} labelled frames, {summary.file_bytes / 2**20:.1f} MiB; "
        f"{summary.total} subjects in the dataset"
    )


@_verb("acdc", without=MASKS)
def acdc(
    root: Annotated[Path, Argument(help="ACDC folder with patientNNN folders, training/ or testing/ in it.")],
) -> Source:
    """ACDC (Bernard et al., 2018), complete with _4d files or with ED and ES frames only."""
    from cinesynth.data.sources.acdc import read_acdc

    return read_acdc(root)


@_verb("mnms")
def mnms(
    root: Annotated[Path, Argument(help="M&Ms folder with the CSV, Training/, Validation/ and Testing/.")],
) -> Source:
    """M&Ms (Campello et al., 2021) as downloaded: whole cycles, labelled at ED and ES."""
    from cinesynth.data.sources.mnms import read_mnms

    return read_mnms(root)


@_verb("mnms2", without=MASKS)
def mnms2(
    root: Annotated[Path, Argument(help="M&Ms-2 folder with dataset_information.csv and dataset/.")],
    cycles: Annotated[bool, Option(help="Read whole cycles where available, or only ED and ES.")] = True,
) -> Source:
    """M&Ms-2 (Martin-Isla et al., 2023) as downloaded: the short-axis stacks."""
    from cinesynth.data.sources.mnms import read_mnms2

    return read_mnms2(root, cycles=cycles)


@_verb("scd", without=MASKS)
def scd(
    root: Annotated[Path, Argument(help="Sunnybrook folder with SCD_IMAGES_*, SCD_ManualContours and the CSV.")],
) -> Source:
    """Sunnybrook Cardiac Data as downloaded: DICOM, contours of the LV at ED and ES and of the myocardium at ED."""
    from cinesynth.data.sources.scd import read_scd

    return read_scd(root)


@_verb("dsb")
def dsb(root: Annotated[Path, Argument(help="Data Science Bowl folder with train/, validate/ and test/.")]) -> Source:
    """Kaggle's Second Annual Data Science Bowl (2015): DICOM without labels."""
    from cinesynth.data.sources.dicom import read_dsb

    return read_dsb(root)


@_verb("cinema")
def cinema(
    root: Annotated[
        Path, Argument(help="Folder preprocessed by CineMA, with <split>_metadata.csv and subject folders.")
    ],
) -> Source:
    """Output of CineMA's preprocessing, of any dataset, with old or new column names."""
    from cinesynth.data.sources.cinema import read_cinema

    return read_cinema(root)


@_verb("dicom")
def dicom(
    root: Annotated[Path, Argument(help="Folder or zip of DICOM files, in any order and with any names.")],
) -> Source:
    """Any short-axis cine in DICOM. Scouts, long-axis views and duplicates are skipped and listed."""
    from cinesynth.data.sources.dicom import read_dicom

    return read_dicom(root)


@_verb("nifti")
def nifti(
    root: Annotated[Path, Argument(help="Folder of NIfTI files.")],
    layout: Annotated[
        str, Option(help="YAML that describes the folder, or the name of a layout that ships (najman4d, ...).")
    ],
) -> Source:
    """Any folder of 3D or 4D NIfTI files (or .mha, .nrrd), described by a small YAML."""
    from cinesynth.data.sources.layout import load_layout
    from cinesynth.data.sources.nifti import read_nifti

    return read_nifti(root, load_layout(layout))


@_verb("phantom", without=("on_error", *MASKS))
def phantom(
    subjects: Annotated[int, Option(min=1, help="Number of analytic hearts.")] = 40,
    frames: Annotated[int | None, Option(min=6, help="Frames per cycle. Default: 20-30, drawn per heart.")] = None,
) -> Source:
    """Analytic beating hearts, labelled at every frame: no patient data, no usage restrictions."""
    from cinesynth.data.phantom import read_phantoms

    return read_phantoms(subjects, frames=frames)


def _annotated(coverage: str) -> str:
    """Which structures are annotated at which phases: ``RV -; MYO ED 7/12; LV ED 7/12`` becomes ``MYO ED; LV ED``."""
    parts = re.sub(r" \d+/\d+", "", coverage).split("; ")
    return "; ".join(part for part in parts if not part.endswith(" -")) or "nothing"
