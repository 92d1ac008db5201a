"""What training, and `bundle` after it, need of a dataset: `doctor` and `train` ask the same before the first step."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, TypeAlias

from cinesynth.data.dataset_table import DatasetTable, SubjectRow
from cinesynth.data.packed import Record
from cinesynth.data.phantom import PHANTOM
from cinesynth.errors import DataError

TRAINED_ON = ("train", "validation")
"""The splits that training reads."""
Subject: TypeAlias = SubjectRow | Record


class Need(NamedTuple):
    """Something that a dataset lacks, what it is about, and what to do."""

    about: str
    text: str
    hint: str


def unmet_needs(subjects: Iterable[Subject], generator: bool = True) -> Iterator[Need]:
    """What training lacks: subjects in both splits and, for a ``generator``, volumes for the empirical prior."""
    subjects = list(subjects)
    for split in TRAINED_ON:
        if not any(s.split == split for s in subjects):
            hint = "ingest more subjects: from five on every split has one; or edit the column split of dataset.csv"
            yield Need("splits", f"{split} has no subjects", hint)
    train = [s for s in subjects if s.split == "train"]
    patients = [s for s in train if s.dataset != PHANTOM] or train
    if generator and train and not any(has_ef(s) for s in patients):
        text = f"none of {len(patients)} training subjects has both LV volumes, on which weights fit their prior"
        yield Need("labels", text, "ingest studies with labels of the LV at ED and ES")


def has_ef(subject: Subject) -> bool:
    """Whether the LV volumes of a subject are known and give an ejection fraction."""
    edv_ml, esv_ml = subject.lv_edv_ml, subject.lv_esv_ml
    return edv_ml is not None and esv_ml is not None and 0.0 < esv_ml < edv_ml


def check_readiness(dataset: Path, stage: str) -> None:
    """`DataError` if ``stage`` cannot be trained on a dataset, or the run not be bundled afterwards."""
    for need in unmet_needs(DatasetTable.read(dataset), generator=stage != "segmenter"):
        raise DataError(need.text, hint=need.hint)
