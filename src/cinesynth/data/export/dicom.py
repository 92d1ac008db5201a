"""Studies as DICOM: ``OUT/NAME/cine/`` is a classic MR series, ``OUT/NAME/segmentation/`` an object a labelled frame.

Slices keep the order of the dataset, base first: DICOM has no voxel order to restore, each image says where it lies.
Whole numbers of 16 bits stay exactly as they are. What is not of a person says so in every file: in ImageType,
SeriesDescription, DerivationDescription and ImageComments, and in the patient's name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom.dataset import Dataset

from cinesynth.atomic import make_folder
from cinesynth.data import Progress
from cinesynth.data.export.dicom_series import Series
from cinesynth.data.export.folder import new_folder
from cinesynth.data.export.items import Item, check_items


@dataclass
class DicomExport:
    """What was written."""

    folder: Path
    studies: int = 0
    images: int = 0
    segmentations: int = 0


def export_dicom(
    items: Sequence[Item], out: Path, *, segmentations: bool = True, progress: Progress | None = None
) -> DicomExport:
    """Write ``items`` into the new folder ``out``; ``ModuleNotFoundError`` if segmentations need highdicom.

    `DataError` if a study is missing, altered or cannot be said in DICOM, `OutputError` if it cannot be written; then
    nothing is left.
    """
    check_items(items)
    if segmentations:
        import highdicom  # noqa: F401  # before anything is written

    export = DicomExport(Path(out))
    with new_folder(out) as folder:
        for number, item in enumerate(items, start=1):
            _write_study(folder / item.name, Series(item.load(), item.synthetic), segmentations, export)
            if progress:
                progress(number, len(items), item.name)
    return export


def _write_study(folder: Path, series: Series, segmentations: bool, export: DicomExport) -> None:
    study, cine = series.study, make_folder(folder / "cine")
    for frame, index in enumerate(study.frame_index):
        images = list(series.images(frame))
        for z, image in enumerate(images):
            _save(image, cine / f"slice{z + 1:02d}_frame{index + 1:02d}.dcm")
        if segmentations and study.labelled[frame]:
            from cinesynth.data.export.dicom_seg import segmentation

            path = make_folder(folder / "segmentation") / f"frame{index + 1:02d}.dcm"
            _save(segmentation(series, frame, images), path)
            export.segmentations += 1
        export.images += len(images)
    export.studies += 1


def _save(dataset: Dataset, path: Path) -> None:
    dataset.save_as(path, enforce_file_format=True)
