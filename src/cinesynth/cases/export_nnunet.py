"""A raw dataset of nnU-Net v2: one case per labelled frame, split as in the dataset.

Every frame with any annotation is a case. If a slice was annotated partially (Sunnybrook has no RV), its background
may hide unannotated structures and gets nnU-Net's ignore label, which is declared only if it is used. Arrays keep the
order of the dataset, base first, so that real studies and generated cases agree; the affine states their position.
All frames of a subject are in the same split; test subjects go to ``imagesTs``, and generated cases to training.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import numpy as np

from cinesynth.cases.export_items import ExportItem, check_items, load_items, new_folder, write_rows
from cinesynth.cases.nifti import describe_origin, write_nifti
from cinesynth.data.terms import Terms, cited, strictest
from cinesynth.errors import DataError, InputError
from cinesynth.io.files import make_folder, write_json
from cinesynth.io.tasks import ProgressCallback, no_progress
from cinesynth.types import STRUCTURES, BoolArray, Label, LabelArray, Study

LabelOrder = Literal["acdc", "mnms"]
FrameSelection = Literal["all", "edes"]
NUMBERS: Mapping[LabelOrder, Mapping[Label, int]] = MappingProxyType(
    {
        "acdc": {Label.BACKGROUND: 0, Label.RV: 1, Label.MYO: 2, Label.LV: 3},
        "mnms": {Label.BACKGROUND: 0, Label.LV: 1, Label.MYO: 2, Label.RV: 3},
    }
)
"""Label numbers in the two orders that nnU-Net's own converters use."""
IGNORE = 4
"""The label of unannotated voxels: nnU-Net requires the highest number."""
FOLDER = re.compile(r"Dataset\d{3}_[A-Za-z0-9_-]+")
ENDING = ".nii.gz"
SPLITS_FILE, CASES_TABLE = "splits_final.json", "cases.csv"


@dataclass
class NnunetExport:
    """What was written to ``folder``."""

    folder: Path
    cases: Counter[str] = field(default_factory=Counter)
    """Cases by split."""
    with_ignored: int = 0
    """Partially annotated cases."""
    unlabelled: list[str] = field(default_factory=list)
    """Studies without any label, skipped."""
    has_splits: bool = False
    """Whether ``splits_final.json`` was written: it needs training and validation cases."""


@dataclass(frozen=True)
class LabelledFrame:
    """One labelled frame: a case of nnU-Net. ``frame`` counts the stored frames of the study."""

    name: str
    item: ExportItem
    study: Study
    frame: int

    @property
    def split(self) -> str:
        """The split of the subject."""
        return self.item.split

    @property
    def unknown(self) -> BoolArray:
        """Slices in which a structure was not annotated, shape ``Z``."""
        slices: BoolArray = ~self.study.coverage[self.frame].all(axis=-1)
        return slices

    def label(self, order: LabelOrder) -> LabelArray:
        """The label ``X Y Z`` in the numbers of ``order``; background of `unknown` slices gets `IGNORE`."""
        ours = self.study.label[self.frame]
        label: LabelArray = np.array([NUMBERS[order][structure] for structure in Label], dtype=np.uint8)[ours]
        label[(ours == Label.BACKGROUND) & self.unknown] = IGNORE
        return label

    def row(self) -> dict[str, object]:
        """The row of the cases table."""
        index = int(self.study.frame_index[self.frame])
        phases = {self.study.ed_index: "ED", self.study.es_index: "ES"}
        return {
            "case": self.name,
            "dataset": self.study.dataset,
            "subject": self.study.subject,
            "frame_number": index + 1,
            "phase": phases.get(index, ""),
            "split": self.split,
            "synthetic": "yes" if self.item.synthetic else "no",
            "ignored_slices": int(self.unknown.sum()),
        }


def export_nnunet(
    items: Sequence[ExportItem],
    out: Path,
    *,
    order: LabelOrder = "acdc",
    frames: FrameSelection = "all",
    progress: ProgressCallback = no_progress,
) -> NnunetExport:
    """Write ``items`` as the raw dataset ``out``, a new folder with a name such as ``Dataset027_ACDC``.

    Copy ``splits_final.json`` into the dataset's folder of ``nnUNet_preprocessed``. `InputError` for any other name,
    `DataError` if no training case is left, `OutputError` if ``out`` cannot be written; then nothing is left.
    """
    check_items(items)
    if not FOLDER.fullmatch(Path(out).resolve().name):
        raise InputError(f"{out} is not a valid nnU-Net dataset name", hint="for example nnUNet_raw/Dataset027_ACDC")
    export, rows = NnunetExport(Path(out)), []
    with new_folder(out) as folder:
        for part in ("imagesTr", "labelsTr"):
            make_folder(folder / part)
        for item, study in load_items(items, progress):
            rows += [_write_case(folder, case, order, export) for case in _cases(item, study, frames, export)]
        if not export.cases["train"]:
            raise DataError(
                "no labelled training frame is left", hint="name a dataset with labels, or add generated cases"
            )
        export.has_splits = _write_splits(folder, rows)
        write_json(folder / "dataset.json", _dataset(export, order, [item.terms for item in items]))
        write_rows(folder / CASES_TABLE, rows)
    return export


def _cases(item: ExportItem, study: Study, frames: FrameSelection, export: NnunetExport) -> Iterator[LabelledFrame]:
    wanted = study.labelled
    if frames == "edes":
        wanted = wanted & np.isin(study.frame_index, (study.ed_index, study.es_index))
    if not wanted.any():
        export.unlabelled.append(item.name)
    for frame in np.flatnonzero(wanted):
        name = f"{item.name}_frame{study.frame_index[frame] + 1:02d}"
        yield LabelledFrame(name, item, study, int(frame))


def _write_case(folder: Path, case: LabelledFrame, order: LabelOrder, export: NnunetExport) -> dict[str, object]:
    part = "Ts" if case.split == "test" else "Tr"
    images, labels = make_folder(folder / f"images{part}"), make_folder(folder / f"labels{part}")
    affine, origin = case.study.affine, describe_origin(case.study, case.item.synthetic)
    write_nifti(images / f"{case.name}_0000{ENDING}", case.study.image[case.frame], affine, description=origin)
    write_nifti(labels / f"{case.name}{ENDING}", case.label(order), affine, description=origin)
    export.cases[case.split] += 1
    export.with_ignored += bool(case.unknown.any())
    return case.row()


def _write_splits(folder: Path, rows: Sequence[dict[str, object]]) -> bool:
    """Write fold 0; without validation cases there is no fold, and nnU-Net trains on ``all``."""
    fold = {
        name: sorted(str(row["case"]) for row in rows if row["split"] == split)
        for name, split in (("train", "train"), ("val", "validation"))
    }
    if not all(fold.values()):
        return False
    write_json(folder / SPLITS_FILE, [fold])
    return True


def _dataset(export: NnunetExport, order: LabelOrder, terms: Sequence[Terms]) -> dict[str, object]:
    numbers = {"background": 0} | {structure.name: NUMBERS[order][structure] for structure in STRUCTURES}
    return {
        "channel_names": {"0": "cine MRI"},
        "labels": numbers | ({"ignore": IGNORE} if export.with_ignored else {}),
        "numTraining": export.cases["train"] + export.cases["validation"],
        "file_ending": ENDING,
        "overwrite_image_reader_writer": "NibabelIO",  # the default reader refuses affines that are not orthonormal
        "name": export.folder.resolve().name,
        "description": f"cine short-axis frames, written by cinesynth; {CASES_TABLE} says whose they are",
        "licence": strictest(terms),
        "reference": "; ".join(cited(terms)),
    }
