"""A raw dataset of nnU-Net v2: one case a labelled frame, in training or testing as the manifest says.

Every frame in which anything was annotated is a case. Where a slice was annotated in part (Sunnybrook: no RV), its
background may be what nobody drew: those voxels get nnU-Net's ignore label, which is declared only if it is needed.
Arrays are those of the dataset, base first, so that real studies and generated cases agree; the affine tells where
they lie. Frames of one person, all of them, are in training, in validation or in ``imagesTs``; generated cases train.
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

from cinesynth.cases.export_items import Item, check_items, new_folder, write_rows
from cinesynth.cases.export_nifti import describe_origin, write_nifti
from cinesynth.data.terms import Terms, cited, strictest
from cinesynth.errors import DataError, InputError
from cinesynth.io.files import make_folder, write_json
from cinesynth.io.progress import ProgressCallback, no_progress
from cinesynth.types import STRUCTURES, BoolArray, Label, LabelArray, Study

Order = Literal["acdc", "mnms"]
Frames = Literal["all", "edes"]
NUMBERS: Mapping[Order, Mapping[Label, int]] = MappingProxyType(
    {
        "acdc": {Label.BACKGROUND: 0, Label.RV: 1, Label.MYO: 2, Label.LV: 3},
        "mnms": {Label.BACKGROUND: 0, Label.LV: 1, Label.MYO: 2, Label.RV: 3},
    }
)
"""Numbers of the labels, in the two orders that nnU-Net's own converters use."""
IGNORE = 4
"""Voxels that nobody annotated: nnU-Net wants the highest number for them."""
FOLDER = re.compile(r"Dataset\d{3}_[A-Za-z0-9_-]+")
ENDING = ".nii.gz"
SPLITS_FILE, TABLE = "splits_final.json", "cases.csv"


@dataclass
class NnunetExport:
    """What was written; cases are counted by split."""

    folder: Path
    cases: Counter[str] = field(default_factory=Counter)
    with_ignored: int = 0
    """Cases that are annotated in part."""
    unlabelled: list[str] = field(default_factory=list)
    """Studies without any label, left out."""
    has_splits: bool = False
    """Whether there is a ``splits_final.json``: it needs cases to train on and to validate on."""


@dataclass(frozen=True)
class Case:
    """One labelled frame."""

    name: str
    item: Item
    study: Study
    frame: int  # among the stored ones

    @property
    def split(self) -> str:
        """Where the person belongs."""
        return self.item.split

    @property
    def unknown(self) -> BoolArray:
        """Slices in which a structure was not annotated, ``Z``."""
        slices: BoolArray = ~self.study.coverage[self.frame].all(axis=-1)
        return slices

    def label(self, order: Order) -> LabelArray:
        """``X Y Z`` in the numbers of ``order``, background of `unknown` slices ignored."""
        ours = self.study.label[self.frame]
        label: LabelArray = np.array([NUMBERS[order][structure] for structure in Label], dtype=np.uint8)[ours]
        label[(ours == Label.BACKGROUND) & self.unknown] = IGNORE
        return label

    def row(self) -> dict[str, object]:
        """The line of the table."""
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
    items: Sequence[Item],
    out: Path,
    *,
    order: Order = "acdc",
    frames: Frames = "all",
    progress: ProgressCallback = no_progress,
) -> NnunetExport:
    """Write ``items`` as the raw dataset ``out``, a new folder with a name such as ``Dataset027_ACDC``.

    ``splits_final.json`` belongs into ``nnUNet_preprocessed`` of that dataset. `InputError` for another name,
    `DataError` if nothing is left to train on, `OutputError` if it cannot be written; then nothing is left.
    """
    check_items(items)
    if not FOLDER.fullmatch(Path(out).resolve().name):
        raise InputError(f"{out} is no name of an nnU-Net dataset", hint="for example nnUNet_raw/Dataset027_ACDC")
    export, rows = NnunetExport(Path(out)), []
    with new_folder(out) as folder:
        for part in ("imagesTr", "labelsTr"):
            make_folder(folder / part)
        for number, item in enumerate(items, start=1):
            rows += [_write_case(folder, case, order, export) for case in _cases(item, frames, export)]
            progress("export", number, len(items), {})
        if not export.cases["train"]:
            raise DataError("no labelled frame is left to train on", hint="name a dataset with labels, or add cases")
        export.has_splits = _write_splits(folder, rows)
        write_json(folder / "dataset.json", _dataset(export, order, [item.terms for item in items]))
        write_rows(folder / TABLE, rows)
    return export


def _cases(item: Item, frames: Frames, export: NnunetExport) -> Iterator[Case]:
    study = item.load()
    wanted = study.labelled
    if frames == "edes":
        wanted = wanted & np.isin(study.frame_index, (study.ed_index, study.es_index))
    if not wanted.any():
        export.unlabelled.append(item.name)
    for frame in np.flatnonzero(wanted):
        name = f"{item.name}_frame{study.frame_index[frame] + 1:02d}"
        yield Case(name, item, study, int(frame))


def _write_case(folder: Path, case: Case, order: Order, export: NnunetExport) -> dict[str, object]:
    part = "Ts" if case.split == "test" else "Tr"
    images, labels = make_folder(folder / f"images{part}"), make_folder(folder / f"labels{part}")
    affine, origin = case.study.affine, describe_origin(case.study, case.item.synthetic)
    write_nifti(images / f"{case.name}_0000{ENDING}", case.study.image[case.frame], affine, description=origin)
    write_nifti(labels / f"{case.name}{ENDING}", case.label(order), affine, description=origin)
    export.cases[case.split] += 1
    export.with_ignored += bool(case.unknown.any())
    return case.row()


def _write_splits(folder: Path, rows: Sequence[dict[str, object]]) -> bool:
    """One fold, fold 0; without anybody to validate on there is none, and nnU-Net trains on ``all``."""
    fold = {
        name: sorted(str(row["case"]) for row in rows if row["split"] == split)
        for name, split in (("train", "train"), ("val", "validation"))
    }
    if not all(fold.values()):
        return False
    write_json(folder / SPLITS_FILE, [fold])
    return True


def _dataset(export: NnunetExport, order: Order, terms: Sequence[Terms]) -> dict[str, object]:
    numbers = {"background": 0} | {structure.name: NUMBERS[order][structure] for structure in STRUCTURES}
    return {
        "channel_names": {"0": "cine MRI"},
        "labels": numbers | ({"ignore": IGNORE} if export.with_ignored else {}),
        "numTraining": export.cases["train"] + export.cases["validation"],
        "file_ending": ENDING,
        "overwrite_image_reader_writer": "NibabelIO",  # the default reader refuses affines that are not orthonormal
        "name": export.folder.resolve().name,
        "description": f"cine short-axis frames, written by cinesynth; {TABLE} says whose they are",
        "licence": strictest(terms),
        "reference": "; ".join(cited(terms)),
    }
