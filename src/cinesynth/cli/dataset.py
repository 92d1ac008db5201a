"""``cinesynth prepare``, ``look``, ``doctor``, ``qc`` and ``export``: check, show and convert studies."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from rich.markup import escape
from typer import Context, Option

from cinesynth.cli import console, progress
from cinesynth.cli.options import Dataset, DatasetFolder, Workers, refuse_without_effect
from cinesynth.errors import DataError, InputError

if TYPE_CHECKING:
    from cinesynth.cases.export_nifti import NiftiExport
    from cinesynth.cases.export_nnunet import NnunetExport
    from cinesynth.data.doctor import Checkup


def prepare(
    dataset: Dataset, preset: Annotated[str, Option(help="Preset whose grid the dataset is resampled to.")] = "small"
) -> None:
    """Resample a dataset to a preset's grid and report the effect on the volumes. Training does this automatically."""
    import numpy as np

    from cinesynth.config import load_config
    from cinesynth.data.geometry import Grid
    from cinesynth.data.packed import prepare as pack
    from cinesynth.data.packed import volume_errors_percent

    grid = Grid.from_config(load_config(preset).grid)
    with progress.shown("reading the dataset") as step:
        packed = pack(dataset, grid, step)
    x, y, z = grid.size
    spacing = " x ".join(f"{s:g}" for s in grid.spacing_mm)
    size = f"{packed.path.stat().st_size / 2**20:.1f} MiB"
    console.out.print(f"{len(packed)} subjects on {x} x {y} x {z} voxels of {spacing} mm, {size}")
    rows: list[tuple[object, ...]] = []
    for name, errors in volume_errors_percent(dataset, grid).items():
        measures = (np.median(abs(errors)), errors.mean(), abs(errors).max()) if len(errors) else (None, None, None)
        rows.append((name, *measures, len(errors)))
    columns = ("LV volume", "median |error| %", "mean error %", "largest |error| %", "subjects")
    console.table("volumes on the grid, compared with the native labels", columns, rows)


def look(
    dataset: Dataset,
    subject: Annotated[str, Option(help="Subject, as named in dataset.csv.")],
    out: Annotated[Path, Option(help="PNG file to write.")],
) -> None:
    """Draw a contact sheet of one subject, with its labels as contours."""
    from cinesynth.data.dataset_table import DatasetTable
    from cinesynth.data.packed import load_study
    from cinesynth.reports.contact_sheet import render_study

    rows = {row.subject: row for row in DatasetTable.read(dataset)}
    if subject not in rows:
        raise InputError(f"{subject} is not in {dataset}", hint=f"one of {', '.join(list(rows)[:5])}, ...")
    render_study(load_study(dataset, rows[subject]), out)
    console.out.print(str(out))


# --- Checks ----------------------------------------------------------------------------------------------------------

SEEN = ("split", "dataset", "subjects", "cycles", "frames", "labelled", "RV/MYO/LV %")
KNOWN = ("split", "dataset", "EDV", "EF", "reported", "diagnosis", "frame time")


def doctor(
    dataset: DatasetFolder,
    preset: Annotated[str, Option(help="Preset whose grid every heart must fit into.")] = "small",
) -> None:
    """Check hashes, geometry, splits and labels of a dataset, and show what a training run would see.

    Exits with an error if a finding must be resolved before training.
    """
    from cinesynth.config import load_config
    from cinesynth.data.dataset_table import SPLITS
    from cinesynth.data.doctor import examine
    from cinesynth.data.geometry import Grid
    from cinesynth.types import STRUCTURES

    grid = Grid.from_config(load_config(preset).grid)
    with progress.shown("reading the dataset") as step:
        checkup = examine(dataset, grid, step)
    tallies = sorted(checkup.tallies.items(), key=lambda entry: (SPLITS.index(entry[0][0]), entry[0][1]))
    seen: list[tuple[object, ...]] = []
    for place, tally in tallies:
        percent = "/".join("-" if p is None else f"{p:.0f}" for p in map(tally.coverage_percent, STRUCTURES))
        seen.append((*place, tally.subjects, tally.whole_cycles, tally.frames, tally.labelled_frames, percent))
    console.table("what a training run would see", SEEN, seen)
    console.out.print("cycles: subjects with all frames; %: annotated slices of labelled frames, by structure")
    facts = ("edv", "ef", "reported edv", "diagnosis", "frame time")
    rows = [(*place, *(tally.known[fact] for fact in facts)) for place, tally in tallies]
    console.table("subjects with this metadata", KNOWN, rows)
    console.out.print("reported: EDV stated by the source; it is not used in training")
    known = [(name, what, count) for name, counts in checkup.origins.items() for what, count in sorted(counts.items())]
    console.table("origin of the metadata", ("dataset", "from", "subjects"), known)
    if checkup.notes:
        notes = [(escape(about), escape("; ".join(texts))) for about, texts in list(checkup.notes.items())[:20]]
        console.table("notes on subjects", ("about", "what"), notes)
        console.out.print(f"{len(checkup.notes)} subjects with notes; dataset.csv has all of them")
    conclude(dataset, checkup)


def conclude(dataset: Path, checkup: Checkup) -> None:
    """Print the findings of a dataset; `DataError` if training would refuse it."""
    words = {"stops": "must", "look": "look", "note": "note"}
    found = [(words[f.grade], escape(f.about), escape(f.text)) for f in checkup.findings]
    if found:
        console.table("findings", ("", "about", "what"), found)
    if serious := checkup.serious:
        hints = list(dict.fromkeys(finding.hint for finding in serious if finding.hint))
        raise DataError(
            f"{len(serious)} finding{'s' if len(serious) > 1 else ''} in {dataset} must be resolved before training",
            hint="; ".join(hints[:3]) or "ingest the source again into a new folder",
        )
    looks = sum(finding.grade == "look" for finding in checkup.findings)
    asks = f"nothing stops training; {looks} finding{'s ask' if looks > 1 else ' asks'} for a look"
    console.out.print(f"{dataset}: {asks if looks else 'no problems found'}")


def split(
    dataset: DatasetFolder,
    seen_by: Annotated[
        str | None,
        Option(metavar="WEIGHTS", help="Give to training whom these weights have seen: a folder or a name."),
    ] = None,
) -> None:
    """Show the splits of a dataset; with --seen-by, hold out nobody on whom these weights were trained.

    Training that starts from weights (--initial) can be judged only on people whom they have not seen.
    """
    from collections import Counter

    from cinesynth.data.dataset_table import SPLITS, DatasetTable

    if seen_by is not None:
        from cinesynth.config import parse_config
        from cinesynth.data.geometry import Grid
        from cinesynth.memorisation.trained_on import move_to_training
        from cinesynth.weights.folder import fingerprints_in, stage_info
        from cinesynth.weights.registry import find_bundle

        weights = find_bundle(seen_by)
        if (stored := fingerprints_in(weights)) is None:
            raise InputError(
                f"{weights} has no fingerprints of its training subjects", hint="name weights that have them"
            )
        grid = Grid.from_config(parse_config(stage_info(weights, "vae")["config"]).grid)
        with progress.shown("reading the dataset") as step:
            moved = move_to_training(dataset, stored, grid, step)
        for row in moved:
            console.out.print(f"{row.dataset} {row.subject}: from {row.split} to train", markup=False)
    counts = Counter((row.dataset, row.split) for row in DatasetTable.read(dataset))
    names = sorted({name for name, _ in counts})
    console.table(f"{dataset}", ("dataset", *SPLITS), [(n, *(counts[n, s] for s in SPLITS)) for n in names])


def qc(
    dataset: DatasetFolder,
    out: Annotated[Path, Option(help="HTML page to write; it is self-contained.")] = Path("report.html"),
    workers: Workers = None,
) -> None:
    """Make a quality-control page: subjects included and skipped, with slices, contours, volumes and flagged items."""
    from cinesynth.reports.dataset_page import write_report

    with progress.shown("reading the dataset") as step:
        overview = write_report(dataset, out, workers=workers, progress=step)
    if overview.flags:
        console.table("flags", ("flag", "subjects"), list(overview.flags.items()))
    console.out.print(
        f"{overview.path}: {overview.subjects} subjects, {overview.rejected} skipped, {overview.flagged} flagged"
    )


# --- Other tools' formats --------------------------------------------------------------------------------------------


def export(
    context: Context,
    to: Annotated[
        Literal["nifti", "nnunet", "dicom"], Option(help="NIfTI files, an nnU-Net v2 raw dataset, or DICOM.")
    ],
    out: Annotated[Path, Option(help="New folder; for nnunet, with a name such as Dataset027_ACDC.")],
    dataset: Annotated[Path | None, Option(help="Dataset folder.")] = None,
    case: Annotated[list[Path] | None, Option(help="Generated case or cohort folder; can be repeated.")] = None,
    split: Annotated[str | None, Option(help="Only this split of --dataset: train, validation or test.")] = None,
    subject: Annotated[list[str] | None, Option(help="Only this subject of --dataset; can be repeated.")] = None,
    label_order: Annotated[
        Literal["acdc", "mnms"], Option(help="nnunet: 1 RV 2 MYO 3 LV (acdc), or 1 LV 2 MYO 3 RV (mnms).")
    ] = "acdc",
    select: Annotated[Literal["all", "edes"], Option(help="nnunet: all labelled frames, or only ED and ES.")] = "all",
    segmentations: Annotated[bool, Option(help="dicom: also write the labels as DICOM SEG.")] = True,
    include_rejected: Annotated[
        bool, Option("--include-rejected", help="Also export generated cases that failed the acceptance rules.")
    ] = False,
) -> None:
    """Export studies of a dataset, generated cases, or both.

    Generated data are marked as synthetic, and cases that failed the acceptance rules are left out. For nnU-Net the
    splits of the dataset are kept, and generated cases are used in training only.
    """
    from cinesynth.cases.export_items import case_items, dataset_items

    refuse_without_effect(context, [] if to == "nnunet" else ["label_order", "select"], f"on --to {to}")
    refuse_without_effect(context, [] if to == "dicom" else ["segmentations"], f"on --to {to}")
    refuse_without_effect(context, [] if dataset else ["split", "subject"], "without --dataset")
    items = dataset_items(dataset, split, subject or ()) if dataset is not None else []
    items += case_items(case or ())
    with progress.shown("reading studies") as step:
        if to == "nifti":
            from cinesynth.cases.export_nifti import export_nifti

            nifti = export_nifti(items, out, step, include_rejected=include_rejected)
            lines, rejected = _about_nifti(nifti, out), nifti.rejected
        elif to == "nnunet":
            from cinesynth.cases.export_nnunet import export_nnunet

            nnunet = export_nnunet(
                items, out, order=label_order, frames=select, include_rejected=include_rejected, progress=step
            )
            lines, rejected = _about_nnunet(nnunet, out), nnunet.rejected
        else:
            from cinesynth.cases.export_dicom import export_dicom

            dicom = export_dicom(
                items, out, segmentations=segmentations, include_rejected=include_rejected, progress=step
            )
            counts = f"{dicom.images} images, {dicom.segmentations} segmentations"
            lines, rejected = [f"{_studies(dicom.studies)} in {out}: {counts}"], dicom.rejected
    if rejected:
        lines.append(f"left out: {_studies(len(rejected))} that failed the acceptance rules; see --include-rejected")
    for line in lines:
        console.out.print(line, markup=False)


def _about_nifti(done: NiftiExport, out: Path) -> list[str]:
    lines = [f"{_studies(done.studies)} in {out}"]
    lines += [f"to read them back: cinesynth ingest nifti {p.parent} --layout {p}" for p in done.layouts]
    lost = "partly labelled, which a layout cannot express; see studies.csv"
    return lines + [f"{name}: {lost}" for name in done.without_layout]


def _about_nnunet(done: NnunetExport, out: Path) -> list[str]:
    from cinesynth.cases.export_nnunet import SPLITS_FILE

    lines = [f"cases in {out}: " + ", ".join(f"{done.cases[s]} {s}" for s in ("train", "validation", "test"))]
    if done.with_ignored:
        lines.append(f"{done.with_ignored} are partly annotated: unannotated structures have the ignore label")
    if skipped := done.unlabelled:
        lines.append(f"skipped without labels: {_studies(len(skipped))}, the first is {skipped[0]}")
    folds = "fold 0" if done.folds == 1 else f"folds 0 to {done.folds - 1}, which hold out whole subjects"
    return [*lines, f"copy {SPLITS_FILE} into nnUNet_preprocessed/{out.resolve().name} and train {folds}"]


def _studies(count: int) -> str:
    return f"{count} {'study' if count == 1 else 'studies'}"
