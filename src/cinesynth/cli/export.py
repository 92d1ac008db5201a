"""``cinesynth export``: studies and generated cases for other tools."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cinesynth.cli import console

if TYPE_CHECKING:
    from cinesynth.cases.export_items import ExportItem
    from cinesynth.io.progress import ProgressCallback


class Format(str, Enum):
    """What to write."""

    NIFTI = "nifti"
    NNUNET = "nnunet"
    DICOM = "dicom"


class Order(str, Enum):
    """Numbers of the labels: 1 RV, 2 myocardium, 3 LV as in ACDC, or 1 LV, 2 myocardium, 3 RV as in M&Ms."""

    ACDC = "acdc"
    MNMS = "mnms"


class Frames(str, Enum):
    """Labelled frames that become cases of nnU-Net."""

    ALL = "all"
    EDES = "edes"


def export(
    to: Annotated[Format, typer.Option(help="NIfTI files, a raw dataset of nnU-Net v2, or DICOM.")],
    out: Annotated[Path, typer.Option(help="New folder; for nnunet with a name such as Dataset027_ACDC.")],
    data: Annotated[Path | None, typer.Option(help="Dataset folder.")] = None,
    case: Annotated[
        list[Path] | None, typer.Option(help="Generated case, or a folder of them (a cohort); may be given again.")
    ] = None,
    split: Annotated[str | None, typer.Option(help="Of --data only train, validation or test.")] = None,
    subject: Annotated[list[str] | None, typer.Option(help="Of --data only this one; may be given again.")] = None,
    label_order: Annotated[
        Order, typer.Option(help="nnunet: 1 RV 2 MYO 3 LV (acdc), or 1 LV 2 MYO 3 RV (mnms).")
    ] = Order.ACDC,
    frames: Annotated[Frames, typer.Option(help="nnunet: all labelled frames, or ED and ES alone.")] = Frames.ALL,
    segmentations: Annotated[bool, typer.Option(help="dicom: write the labels too, as DICOM SEG.")] = True,
) -> None:
    """Write studies of a dataset, generated cases, or both, in the formats that other tools read.

    What is not of a person is marked as synthetic. nnU-Net gets the splits of the dataset, and generated cases train.
    """
    from cinesynth.cases.export_items import case_items, dataset_items

    items = dataset_items(data, split, subject or ()) if data is not None else []
    items += case_items(case or ())
    with console.progress() as progress:
        if to is Format.NIFTI:
            told = _nifti(items, out, progress)
        elif to is Format.NNUNET:
            told = _nnunet(items, out, label_order, frames, progress)
        else:
            told = _dicom(items, out, segmentations, progress)
    for line in told:
        console.out.print(line, markup=False)


def _nifti(items: list[ExportItem], out: Path, progress: ProgressCallback) -> list[str]:
    from cinesynth.cases.export_nifti import export_nifti

    done = export_nifti(items, out, progress)
    again = [f"read again by: cinesynth ingest nifti {path.parent} --layout {path}" for path in done.layouts]
    lost = [f"{name}: labels in part, which no layout can tell; studies.csv says where" for name in done.without_layout]
    return [f"{_studies(done.studies)} in {out}", *again, *lost]


def _nnunet(items: list[ExportItem], out: Path, order: Order, frames: Frames, progress: ProgressCallback) -> list[str]:
    from cinesynth.cases.export_nnunet import SPLITS_FILE, export_nnunet

    done = export_nnunet(
        items,
        out,
        order="mnms" if order is Order.MNMS else "acdc",
        frames="edes" if frames is Frames.EDES else "all",
        progress=progress,
    )
    counts = ", ".join(f"{done.cases[split]} {split}" for split in ("train", "validation", "test"))
    told = [f"cases in {out}: {counts}"]
    if done.with_ignored:
        told.append(f"{done.with_ignored} are annotated in part: what nobody drew has the ignore label")
    if done.unlabelled:
        told.append(f"left out without labels: {_studies(len(done.unlabelled))}, {done.unlabelled[0]} first")
    if done.has_splits:
        told.append(f"copy {SPLITS_FILE} into nnUNet_preprocessed/{out.resolve().name} and train fold 0")
    else:
        told.append("nobody to validate on: train nnU-Net on all")
    return told


def _dicom(items: list[ExportItem], out: Path, segmentations: bool, progress: ProgressCallback) -> list[str]:
    from cinesynth.cases.export_dicom import export_dicom

    done = export_dicom(items, out, segmentations=segmentations, progress=progress)
    return [f"{_studies(done.studies)} in {out}: {done.images} images, {done.segmentations} segmentations"]


def _studies(count: int) -> str:
    return f"{count} {'study' if count == 1 else 'studies'}"
