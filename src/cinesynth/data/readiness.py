"""What training, and `bundle` after it, need of a dataset: `doctor` and `train` ask the same before the first step."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from cinesynth.data.dataset_table import DatasetTable, SubjectRow
from cinesynth.data.packed import Record
from cinesynth.data.phantom import PHANTOM
from cinesynth.errors import DataError

TRAINED_ON = ("train", "validation")
"""The splits that training reads."""


MORE = "ingest more subjects: from five on every split has one; or edit the column split of dataset.csv"


class Need(NamedTuple):
    """Something that a dataset lacks, what it is about, and what to do."""

    about: str
    text: str
    hint: str


def unmet_needs(rows: Iterable[SubjectRow]) -> Iterator[Need]:
    """What the stages of a generator lack: subjects in both splits, and volumes for the empirical prior."""
    rows = list(rows)
    for split in TRAINED_ON:
        if not any(row.split == split for row in rows):
            yield Need("splits", f"{split} has no subjects", MORE)
    train = [row for row in rows if row.split == "train"]
    patients = [row for row in train if row.dataset != PHANTOM] or train
    if train and not any(has_ef(row) for row in patients):
        text = f"none of {len(patients)} training subjects has both LV volumes, on which weights fit their prior"
        yield Need("labels", text, "ingest studies with labels of the LV at ED and ES")


def unmet_by_segmenter(rows: Iterable[SubjectRow]) -> Iterator[Need]:
    """What the segmenter of the evaluation lacks: annotated subjects in both splits."""
    labelled = {row.split for row in rows if row.labelled_frames}
    for split in TRAINED_ON:
        if split not in labelled:
            yield Need("labels", f"{split} has no annotated subjects, which `train segmenter` needs", MORE)


def has_ef(subject: SubjectRow | Record) -> bool:
    """Whether the LV volumes of a subject are known and give an ejection fraction."""
    edv_ml, esv_ml = subject.lv_edv_ml, subject.lv_esv_ml
    return edv_ml is not None and esv_ml is not None and 0.0 < esv_ml < edv_ml


def check_readiness(dataset: Path, stage: str) -> None:
    """`DataError` if ``stage`` cannot be trained on a dataset, or the run not be bundled afterwards."""
    needs = unmet_by_segmenter if stage == "segmenter" else unmet_needs
    for need in needs(DatasetTable.read(dataset)):
        raise DataError(need.text, hint=need.hint)
