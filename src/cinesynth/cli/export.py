"""``cinesynth export``: write studies and generated cases in the formats of other tools."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cinesynth.cli import console

if TYPE_CHECKING:
    from cinesynth.cases.export_items import ExportItem
    from cinesynth.io.tasks import ProgressCallback


class Format(str, Enum):
    """File formats."""

    NIFTI = "nifti"
    NNUNET = "nnunet"
    DICOM = "dicom"


class LabelOrder(str, Enum):
    """Label numbers: 1 RV, 2 myocardium, 3 LV as in ACDC, or 1 LV, 2 myocardium, 3 RV as in M&Ms."""

    ACDC = "acdc"
    MNMS = "mnms"


class FrameSelection(str, Enum):
    """Labelled frames that become nnU-Net cases."""

    ALL = "all"
    EDES = "edes"


def export(
    to: Annotated[Format, typer.Option(help="NIfTI files, an nnU-Net v2 raw dataset, or DICOM.")],
    out: Annotated[Path, typer.Option(help="New folder; for nnunet, with a name such as Dataset027_ACDC.")],
    dataset: Annotated[Path | None, typer.Option(help="Dataset folder.")] = None,
    case: Annotated[list[Path] | None, typer.Option(help="Generated case or cohort folder; can be repeated.")] = None,
    split: Annotated[str | None, typer.Option(help="Only this split of --dataset: train, validation or test.")] = None,
    subject: Annotated[list[str] | None, typer.Option(help="Only this subject of --dataset; can be repeated.")] = None,
    label_order: Annotated[
        LabelOrder, typer.Option(help="nnunet: 1 RV 2 MYO 3 LV (acdc), or 1 LV 2 MYO 3 RV (mnms).")
    ] = LabelOrder.ACDC,
    select: Annotated[
        FrameSelection, typer.Option(help="nnunet: all labelled frames, or only ED and ES.")
    ] = FrameSelection.ALL,
    segmentations: Annotated[bool, typer.Option(help="dicom: also write the labels as DICOM SEG.")] = True,
) -> None:
    """Export studies of a dataset, generated cases, or both.

    Generated data are marked as synthetic. For nnU-Net the splits of the dataset are kept, and generated cases are
    used in training only.
    """
    from cinesynth.cases.export_items import case_items, dataset_items

    items = dataset_items(dataset, split, subject or ()) if dataset is not None else []
    items += case_items(case or ())
    with console.progress() as step:
        if to is Format.NIFTI:
            lines = _nifti(items, out, step)
        elif to is Format.NNUNET:
            lines = _nnunet(items, out, label_order, select, step)
        else:
            lines = _dicom(items, out, segmentations, step)
    for line in lines:
        console.out.print(line, markup=False)


def _nifti(items: list[ExportItem], out: Path, progress: ProgressCallback) -> list[str]:
    from cinesynth.cases.export_nifti import export_nifti

    done = export_nifti(items, out, progress)
    again = [f"to read them back: cinesynth ingest nifti {path.parent} --layout {path}" for path in done.layouts]
    lost = [f"{name}: partly labelled, which a layout cannot express; see studies.csv" for name in done.without_layout]
    return [f"{_studies(done.studies)} in {out}", *again, *lost]


def _nnunet(
    items: list[ExportItem], out: Path, order: LabelOrder, select: FrameSelection, progress: ProgressCallback
) -> list[str]:
    from cinesynth.cases.export_nnunet import SPLITS_FILE, export_nnunet

    done = export_nnunet(
        items,
        out,
        order="mnms" if order is LabelOrder.MNMS else "acdc",
        frames="edes" if select is FrameSelection.EDES else "all",
        progress=progress,
    )
    counts = ", ".join(f"{done.cases[split]} {split}" for split in ("train", "validation", "test"))
    lines = [f"cases in {out}: {counts}"]
    if done.with_ignored:
        lines.append(f"{done.with_ignored} are partly annotated: unannotated structures have the ignore label")
    if done.unlabelled:
        lines.append(f"skipped without labels: {_studies(len(done.unlabelled))}, the first is {done.unlabelled[0]}")
    if done.has_splits:
        lines.append(f"copy {SPLITS_FILE} into nnUNet_preprocessed/{out.resolve().name} and train fold 0")
    else:
        lines.append("no validation subjects: train nnU-Net with fold all")
    return lines


def _dicom(items: list[ExportItem], out: Path, segmentations: bool, progress: ProgressCallback) -> list[str]:
    from cinesynth.cases.export_dicom import export_dicom

    done = export_dicom(items, out, segmentations=segmentations, progress=progress)
    return [f"{_studies(done.studies)} in {out}: {done.images} images, {done.segmentations} segmentations"]


def _studies(count: int) -> str:
    return f"{count} {'study' if count == 1 else 'studies'}"
