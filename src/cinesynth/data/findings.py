"""What is wrong with a dataset: the questions that `doctor` asks of it, and training before it begins."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from cinesynth.data.dataset_table import COLUMNS, FIRST_COLUMNS, TABLE_FILE, SubjectRow, describe
from cinesynth.data.duplicates import find_duplicates
from cinesynth.data.flag import Flag, Grade
from cinesynth.data.geometry import Grid, place
from cinesynth.data.nifti import is_plausible_spacing
from cinesynth.data.space import in_mm
from cinesynth.errors import DataError
from cinesynth.types import FloatArray, Study


@dataclass(frozen=True)
class Finding:
    """Something about one subject or the dataset; one that stops is refused by training."""

    about: str
    text: str
    grade: Grade = "stops"
    hint: str = ""

    @property
    def serious(self) -> bool:
        """Whether it must be resolved before training."""
        return self.grade == "stops"


def name_of(row: SubjectRow) -> str:
    """A subject as findings name it."""
    return f"{row.dataset} {row.subject}"


def subject_findings(row: SubjectRow, study: Study, grid: Grid, flags: Iterable[Flag]) -> Iterator[Finding]:
    """Findings of one subject: against its row, against ``grid``, and its ``flags``."""
    name, true = name_of(row), describe(study, row.split, row.file, row.sha256)
    columns = COLUMNS if row.coverage else FIRST_COLUMNS  # older datasets lack some columns
    if columns := tuple(column for column in columns if getattr(row, column) != getattr(true, column)):
        hint = "ingest the study again into a new folder"
        yield Finding(name, f"{TABLE_FILE} contradicts the study: {', '.join(columns)}", hint=hint)
    try:
        place(study, grid)
    except DataError as error:
        yield Finding(name, error.message, hint=error.hint)
    if not is_plausible_spacing(study.spacing_mm):
        text = f"voxels of {in_mm(study.spacing_mm)} are not plausible for a cine"
        yield Finding(name, text, hint="correct the voxel size, and ingest the study again into a new folder")
    for flag in flags:
        accept = f"{flag.hint}. If it is right, ingest the study again with --accept {flag.name}"
        yield Finding(name, flag.text, flag.grade, accept if flag.grade == "stops" else flag.hint)


def duplicate_findings(rows: Iterable[SubjectRow], sketches: Mapping[str, FloatArray]) -> Iterator[Finding]:
    """Pairs of subjects that are one person; they stop training where they lie in two splits."""
    names, splits = list(sketches), {name_of(row): row.split for row in rows}
    for pair in find_duplicates(list(sketches.values())):
        first, second = names[pair.first], names[pair.second]
        apart = splits[first] != splits[second]
        where = f"in {splits[first]} and in {splits[second]}" if apart else f"both in {splits[first]}"
        text = (
            f"shows the same images as {second} (correlation {pair.correlation:.3f}), {where}: probably the same person"
        )
        yield Finding(first, text, "stops" if apart else "look", "remove one of the two from the dataset" * apart)


def refuse(findings: Iterable[Finding], dataset: Path) -> None:
    """`DataError` if any of ``findings`` stops training; it tells the first and names all subjects."""
    serious = [finding for finding in findings if finding.serious]
    if not serious:
        return
    first, *others = serious
    text = first.text if first.about.split()[-1] in first.text else f"{first.about}: {first.text}"
    names = ", ".join(dict.fromkeys(finding.about for finding in others))
    more = f"; {len(others)} more finding{'s' if len(others) > 1 else ''}: {names}" if others else ""
    raise DataError(
        f"{text}{more}",
        hint=f"{first.hint or 'ingest the study again'} (`cinesynth doctor {dataset}` lists everything)",
    )
