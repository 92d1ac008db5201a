"""A raw dataset of nnU-Net v2: one case per labelled frame, split as in the dataset.

Every frame with any annotation is a case. If a slice was annotated partially (Sunnybrook has no RV), its background
may hide unannotated structures and gets nnU-Net's ignore label, which is declared only if it is used. Arrays keep the
order of the dataset, base first, so that real studies and generated cases agree; the affine states their position.
All frames of a subject are in the same split; test subjects go to ``imagesTs``, and generated cases to training.
``splits_final.json`` is always written: nnU-Net's own folds are drawn by case, with one subject on both sides.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from cinesynth.cases.export_items import ExportItem, chosen_items, load_items, new_folder
from cinesynth.cases.writing import describe_origin, write_nifti
from cinesynth.data.duplicates import group_by_person, sketch
from cinesynth.data.terms import Terms, cited, strictest
from cinesynth.errors import DataError, InputError
from cinesynth.io.files import make_folder, write_csv, write_json
from cinesynth.io.tasks import ProgressCallback, no_progress
from cinesynth.types import STRUCTURES, FloatArray, Label, Study

LabelOrder = Literal["acdc", "mnms"]
FrameSelection = Literal["all", "edes"]
NUMBERS: Mapping[LabelOrder, Mapping[Label, int]] = {
    "acdc": {Label.BACKGROUND: 0, Label.RV: 1, Label.MYO: 2, Label.LV: 3},
    "mnms": {Label.BACKGROUND: 0, Label.LV: 1, Label.MYO: 2, Label.RV: 3},
}
"""Label numbers in the two orders that nnU-Net's own converters use."""
Subject = tuple[str, str]
"""Dataset and name."""
IGNORE = 4
"""The label of unannotated voxels: nnU-Net requires the highest number."""
FOLDER = re.compile(r"Dataset\d{3}_[A-Za-z0-9_-]+")
ENDING = ".nii.gz"
MAX_FOLDS = 5
"""nnU-Net's number of folds."""
SPLITS_FILE, CASES_TABLE = "splits_final.json", "cases.csv"


@dataclass
class NnunetExport:
    """What was written."""

    cases: Counter[str] = field(default_factory=Counter)
    """Cases by split."""
    with_ignored: int = 0
    """Partially annotated cases."""
    unlabelled: list[str] = field(default_factory=list)
    """Studies without any label, skipped."""
    rejected: tuple[str, ...] = ()
    """Generated cases that failed the acceptance rules, left out."""
    folds: int = 1
    """Folds in ``splits_final.json``: one by the split of the dataset, or several by subject if nobody validates."""


def export_nnunet(
    items: Sequence[ExportItem],
    out: Path,
    *,
    order: LabelOrder = "acdc",
    frames: FrameSelection = "all",
    include_rejected: bool = False,
    progress: ProgressCallback = no_progress,
) -> NnunetExport:
    """Write ``items`` as the raw dataset ``out``, a new folder with a name such as ``Dataset027_ACDC``.

    Generated cases that failed the acceptance rules are left out unless ``include_rejected``.
    Copy ``splits_final.json`` into the dataset's folder of ``nnUNet_preprocessed``. `InputError` for any other name,
    `DataError` if no training case is left, `OutputError` if ``out`` cannot be written; then nothing is left.
    """
    items, rejected = chosen_items(items, include_rejected)
    name = Path(out).resolve().name
    if not FOLDER.fullmatch(name):
        raise InputError(f"{out} is not a valid nnU-Net dataset name", hint="for example nnUNet_raw/Dataset027_ACDC")
    export = NnunetExport(rejected=rejected)
    rows: list[dict[str, object]] = []
    sketches: dict[Subject, FloatArray] = {}
    with new_folder(out) as folder:
        for part in ("imagesTr", "labelsTr"):
            make_folder(folder / part)
        for item, study in load_items(items, progress):
            written = list(_write_cases(folder, item, study, order, frames, export))
            rows += written
            if written and item.split != "test" and not item.synthetic:
                sketches[study.dataset, study.subject] = sketch(study)
        if not export.cases["train"]:
            hint = "name a dataset with labels, or add generated cases"
            raise DataError("no labelled training frame is left", hint=hint)
        folds = _folds(rows, sketches)
        export.folds = len(folds)
        write_json(folder / SPLITS_FILE, folds)
        write_json(folder / "dataset.json", _dataset(name, export, order, [item.terms for item in items]))
        write_csv(folder / CASES_TABLE, list(rows[0]), rows)
    return export


def _write_cases(
    folder: Path, item: ExportItem, study: Study, order: LabelOrder, frames: FrameSelection, export: NnunetExport
) -> Iterator[dict[str, object]]:
    """Write the labelled frames of a study; gives the row of each in the table of cases."""
    wanted = study.labelled
    if frames == "edes":
        wanted = wanted & np.isin(study.frame_index, (study.ed_index, study.es_index))
    if not wanted.any():
        export.unlabelled.append(item.name)
    part, origin = "Ts" if item.split == "test" else "Tr", describe_origin(study, item.synthetic)
    images, labels = folder / f"images{part}", folder / f"labels{part}"
    numbers = np.array([NUMBERS[order][structure] for structure in Label], dtype=np.uint8)
    for frame in np.flatnonzero(wanted):
        index, ours = int(study.frame_index[frame]), study.label[frame]
        unknown = ~study.coverage[frame].all(axis=-1)  # slices in which a structure was not annotated, Z
        label = numbers[ours]
        label[(ours == Label.BACKGROUND) & unknown] = IGNORE
        name = f"{item.name}_frame{index + 1:02d}"
        image_file, label_file = make_folder(images) / f"{name}_0000{ENDING}", make_folder(labels) / f"{name}{ENDING}"
        write_nifti(image_file, study.image[frame], study.affine, description=origin)
        write_nifti(label_file, label, study.affine, description=origin)
        export.cases[item.split] += 1
        export.with_ignored += bool(unknown.any())
        yield {
            "case": name,
            "dataset": study.dataset,
            "subject": study.subject,
            "frame_number": index + 1,
            "phase": {study.ed_index: "ED", study.es_index: "ES"}.get(index, ""),
            "split": item.split,
            "synthetic": "yes" if item.synthetic else "no",
            "accepted": item.verdict,
            "ignored_slices": int(unknown.sum()),
        }


def _folds(rows: Sequence[Mapping[str, object]], sketches: Mapping[Subject, FloatArray]) -> list[dict[str, list[str]]]:
    """nnU-Net's folds: the validation subjects of the dataset, else up to `MAX_FOLDS` groups of people in turn.

    ``sketches`` are those of real subjects, by which near-duplicates stay together. Generated cases validate only where
    there are fewer than two people. One person, who cannot be split, is trained and validated on, as in fold ``all``.
    """
    subjects: dict[Subject, list[str]] = {}
    for row in rows:
        if row["split"] != "test":
            subjects.setdefault((str(row["dataset"]), str(row["subject"])), []).append(str(row["case"]))
    groups = [{(str(row["dataset"]), str(row["subject"])) for row in rows if row["split"] == "validation"}]
    if not groups[0]:
        people: dict[object, set[Subject]] = {}
        for subject, person in zip(sketches, group_by_person(list(sketches.values())), strict=True):
            people.setdefault(person, set()).add(subject)
        if len(people) < 2:
            people |= {subject: {subject} for subject in subjects if subject not in sketches}
        parts = list(people.values())
        groups = [set().union(*parts[i::MAX_FOLDS]) for i in range(min(MAX_FOLDS, len(parts)))]
    folds = []
    for group in groups:
        train = [case for subject, cases in subjects.items() if subject not in group for case in cases]
        val = [case for subject, cases in subjects.items() if subject in group for case in cases]
        folds.append({"train": sorted(train or val), "val": sorted(val)})
    return folds


def _dataset(name: str, export: NnunetExport, order: LabelOrder, terms: Sequence[Terms]) -> dict[str, object]:
    numbers = {"background": 0} | {structure.name: NUMBERS[order][structure] for structure in STRUCTURES}
    return {
        "channel_names": {"0": "cine MRI"},
        "labels": numbers | ({"ignore": IGNORE} if export.with_ignored else {}),
        "numTraining": export.cases["train"] + export.cases["validation"],
        "file_ending": ENDING,
        "overwrite_image_reader_writer": "NibabelIO",  # the default reader refuses affines that are not orthonormal
        "name": name,
        "description": f"cine short-axis frames, written by cinesynth; {CASES_TABLE} says whose they are",
        "licence": strictest(terms),
        "reference": "; ".join(cited(terms)),
    }
