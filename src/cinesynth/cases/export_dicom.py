"""Studies as DICOM: ``OUT/NAME/cine/`` is a classic MR series, ``OUT/NAME/segmentation/`` an object per labelled frame.

The series has a folder per frame, so that readers of single volumes find one. Slices keep the order of the dataset,
base first; each image states its position. 16-bit integers are stored unchanged. Every file of a synthetic study says
so: in ImageType, SeriesDescription, DerivationDescription, ImageComments and the patient's name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

import cinesynth
from cinesynth.cases.dicom_series import MAKER, MAX_TEXT, DicomSeries
from cinesynth.cases.export_items import ExportItem, chosen_items, load_items, new_folder
from cinesynth.io.files import make_folder
from cinesynth.io.tasks import ProgressCallback, no_progress
from cinesynth.reports.slices import COLOURS
from cinesynth.types import STRUCTURES, Label

if TYPE_CHECKING:
    import highdicom as hd  # an optional dependency, imported where a segmentation is made


@dataclass
class DicomExport:
    """Counts of what was written."""

    studies: int
    images: int = 0
    segmentations: int = 0
    rejected: tuple[str, ...] = ()
    """Generated cases that failed the acceptance rules, left out."""


def export_dicom(
    items: Sequence[ExportItem],
    out: Path,
    *,
    segmentations: bool = True,
    include_rejected: bool = False,
    progress: ProgressCallback = no_progress,
) -> DicomExport:
    """Write ``items`` into the new folder ``out``, without rejected cases unless ``include_rejected``.

    `DataError` if a study is missing, altered or cannot be expressed in DICOM, `OutputError` if it cannot be written,
    ``ModuleNotFoundError`` if segmentations are requested and highdicom is not installed; then nothing is left.
    """
    items, rejected = chosen_items(items, include_rejected)
    if segmentations:
        import highdicom  # noqa: F401  # fail before anything is written
    export = DicomExport(studies=len(items), rejected=rejected)
    with new_folder(out) as folder:
        for item, study in load_items(items, progress):
            series = DicomSeries(study, item.synthetic, item.accepted)
            for frame, index in enumerate(study.frame_index):
                images = list(series.images(frame))
                place = make_folder(folder / item.name / "cine" / f"frame{index + 1:02d}")
                for z, image in enumerate(images):
                    image.save_as(place / f"slice{z + 1:02d}.dcm", enforce_file_format=True)
                if segmentations and study.labelled[frame]:
                    path = make_folder(folder / item.name / "segmentation") / f"frame{index + 1:02d}.dcm"
                    segmentation(series, frame, images).save_as(path, enforce_file_format=True)
                    export.segmentations += 1
                export.images += len(images)
    return export


# --- Labels as DICOM Segmentation objects ----------------------------------------------------------------------------

_SEGMENTS = {
    Label.RV: ("RV cavity", codes.SCT.RightVentricle),
    Label.MYO: ("LV myocardium", codes.SCT.LeftVentricleMyocardium),
    Label.LV: ("LV cavity", codes.SCT.LeftVentricle),
}
"""Name and code of each structure."""


def segmentation(series: DicomSeries, frame: int, images: Sequence[Dataset]) -> Dataset:
    """The label of a stored frame as DICOM SEG; ``images`` are that frame's images, base first.

    Only structures annotated in the frame become segments, each with a plane for every slice in which any structure
    was annotated. Empty planes are kept: they say that the slice was examined and the structure is not in it.
    """
    import highdicom as hd

    study, coverage = series.study, series.study.coverage[frame]  # coverage: Z S
    covered = [i for i in range(len(STRUCTURES)) if coverage[:, i].any()]
    slices = np.flatnonzero(coverage.any(axis=1))
    planes = study.label[frame].transpose(2, 1, 0)[slices]  # Z Y X
    masks = np.stack([planes == STRUCTURES[i] for i in covered], axis=-1).astype(np.uint8)
    index = int(study.frame_index[frame])
    creator = MAKER if series.synthetic else f"annotators of {study.dataset}"
    return hd.seg.Segmentation(
        source_images=[images[z] for z in slices.tolist()],
        pixel_array=masks,
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[_describe(series, number, i, frame) for number, i in enumerate(covered, start=1)],
        series_instance_uid=series.uid("segmentations"),
        series_number=100,  # any number but that of the images
        sop_instance_uid=series.uid("segmentation", index),
        instance_number=index + 1,
        manufacturer=MAKER,
        manufacturer_model_name=MAKER,
        software_versions=cinesynth.__version__,
        device_serial_number="0",
        content_label="HEART",
        content_creator_name=f"{creator[: MAX_TEXT - 1]}^",
        content_description=f"frame {index + 1} of {study.frames_in_cycle}"[:MAX_TEXT],
        series_description=("SYNTHETIC " if series.synthetic else "") + "heart segmentation",
        omit_empty_frames=False,
    )


def _describe(series: DicomSeries, number: int, i: int, frame: int) -> hd.seg.SegmentDescription:
    import highdicom as hd

    name, code = _SEGMENTS[STRUCTURES[i]]
    kinds = hd.seg.SegmentAlgorithmTypeValues
    algorithm = hd.AlgorithmIdentificationSequence(MAKER, codes.DCM.ArtificialIntelligence, cinesynth.__version__)
    segment = hd.seg.SegmentDescription(
        segment_number=number,
        segment_label=name,
        segmented_property_category=codes.SCT.AnatomicalStructure,
        segmented_property_type=code,
        algorithm_type=kinds.AUTOMATIC if series.synthetic else kinds.MANUAL,
        algorithm_identification=algorithm if series.synthetic else None,
        display_color=hd.color.CIELabColor.from_rgb(*COLOURS[STRUCTURES[i]]),
    )
    slices = np.flatnonzero(series.study.coverage[frame, :, i]) + 1
    segment.SegmentDescription = f"annotated in slices {', '.join(map(str, slices))}, counted from the base"
    return segment
