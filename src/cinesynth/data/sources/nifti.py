"""Any folder of 3D or 4D NIfTI files that a `Layout` describes.

Subjects are those whose image files are there. Nothing is guessed: a number that the layout does not name, a
structure where it is said to be not annotated, or a subject without its row in the table is a `DataError`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast, get_args

import numpy as np

from cinesynth.data.nifti import Spacing, Volume, read_label, read_labels, read_volume
from cinesynth.data.orientation import oriented
from cinesynth.data.sources import Source
from cinesynth.data.sources.cycle import (
    Cycle,
    check_phases,
    choose_phases,
    frames_with_labels,
    labelled_study,
    some_frames,
    whole_cycle,
)
from cinesynth.data.sources.layout import Layout, Pair, Phases
from cinesynth.data.sources.patterns import FRAME, SUBJECT, find, numbered, only
from cinesynth.data.terms import Terms
from cinesynth.data.vocabulary import diagnosis_of, vendor_of
from cinesynth.errors import DataError
from cinesynth.io.tables import Table, TableRow, read_table, reading
from cinesynth.types import STRUCTURES, BoolArray, Label, LabelArray, PhasesFrom, Study


@dataclass(frozen=True)
class Subject:
    """Where everything about one subject is found."""

    root: Path
    name: str
    layout: Layout
    row: TableRow | None

    def column(self, column: str | None) -> str:
        """The subject's cell; empty where no column is named."""
        return self.row.text(column) if self.row and column else ""

    def frame(self, value: int | str) -> int:
        """A zero-based frame index, from a frame number of the layout or of a column."""
        return self.count(value) - self.layout.counts_from

    def count(self, value: int | str) -> int:
        """A whole number of the layout or of a column."""
        return self.row.index(value) if self.row and isinstance(value, str) else int(value)

    def volume_ml(self, column: str | None) -> float | None:
        """Millilitres of a column; none where no column is named, or its cell is empty."""
        return self.row.number(column) if self.row and column and self.column(column) else None

    @property
    def known_mm(self) -> Spacing:
        """The voxel edges that the layout knows better than the headers."""
        edges = (self.row.number(e) if self.row and isinstance(e, str) else e for e in self.layout.spacing_mm)
        x, y, z = (None if edge is None else float(edge) for edge in edges)
        return x, y, z

    def file(self, pattern: str) -> Path:
        """The one file of this subject that fits."""
        return only(self.root, pattern, self.name)

    def volume(self, path: Path, dimensions: int = 3) -> Volume:
        """An image of this subject."""
        return read_volume(path, dimensions, self.known_mm)


@reading()
def read_nifti(root: Path, layout: Layout) -> Source:
    """All subjects below ``root`` whose images fit ``layout``, read when asked for.

    `DataError` if there are none, or, while reading, naming the file or table cell that is missing or wrong.
    """
    root = Path(root)
    pattern = layout.image.ed if isinstance(layout.image, Pair) else layout.image
    names = sorted({match.subject for match in find(root, pattern)})
    if not names:
        raise DataError(
            f"no file in {root} fits {pattern!r}", hint=f"name the folder below which {SUBJECT} stands for a subject"
        )
    columns = layout.table
    table = read_table(root / columns.file, columns.subject) if columns else None
    files = partial(_files, root, layout) if layout.file else None
    terms = Terms(layout.licence, layout.citation, layout.note) if layout.licence else None
    return Source(tuple(names), partial(_read, root, layout, table), files=files, terms=terms)


def read_subject(subject: Subject) -> Study:
    """One subject as a study."""
    layout, table, cycle = subject.layout, subject.layout.table, _cycle(subject)
    declared = _declared_phases(subject)
    if declared:
        check_phases(cycle, *declared)  # before labels are looked for at frames that are not there
    label, labelled = _labels(subject, cycle, declared or ())
    phases = choose_phases(cycle, label, declared)
    if isinstance(layout.phases, Phases) and layout.phases.known_from:
        phases = phases._replace(phases_from=_origin(subject, layout.phases.known_from))
    if layout.phases == "labels" and phases.phases_from != "labels":
        raise DataError(
            f"{cycle.grid.path}: {int(labelled.sum())} labelled frames cannot tell ED and ES",
            hint="name the frames, label the LV in more of them, or leave phases out of the layout: they are assumed",
        )
    group = subject.column(table.group if table else None)
    study = labelled_study(
        cycle,
        label,
        _coverage(subject, cycle, label, labelled, phases[:2]),
        phases,
        subject=subject.name,
        dataset=layout.dataset,
        vendor=vendor_of(subject.column(table.vendor if table else None) or layout.vendor),
        diagnosis=diagnosis_of(group, layout.diagnoses),
        group=group,
        reported_ml=(
            subject.volume_ml(table.lv_edv_ml if table else None),
            subject.volume_ml(table.lv_esv_ml if table else None),
        ),
    )
    return oriented(study, layout.slices)


def _origin(subject: Subject, column: str) -> PhasesFrom:
    """Who says ED and ES, according to the table."""
    said, known = subject.column(column), get_args(PhasesFrom)
    if said not in known:
        raise DataError(f"{column} of {subject.name} is {said!r}", hint=f"one of {', '.join(known)}")
    return cast(PhasesFrom, said)


@reading()
def _read(root: Path, layout: Layout, table: Table | None, name: str) -> Study:
    return read_subject(Subject(root, name, layout, table.row(name) if table else None))


def _files(root: Path, layout: Layout, name: str) -> list[Path]:
    """All that a subject is made of: the layout, the table, and every file that fits a pattern."""
    patterns = [
        pattern
        for files in (layout.image, layout.label)
        for pattern in ((files.ed, files.es) if isinstance(files, Pair) else (files,))
        if pattern
    ]
    own = [layout.file] if layout.file else []
    table = [root / layout.table.file] if layout.table else []
    return own + table + [match.path for pattern in patterns for match in find(root, pattern, name)]


def _cycle(subject: Subject) -> Cycle:
    image, phases = subject.layout.image, subject.layout.phases
    frames = subject.count(phases.frames) if isinstance(phases, Phases) and phases.frames is not None else None
    if isinstance(image, Pair):
        pair = [subject.volume(subject.file(pattern)) for pattern in (image.ed, image.es)]
        return some_frames(pair, _declared_phases(subject) or (0, 1), frames or 2)
    if FRAME in image:
        files = numbered(subject.root, image, subject.name)
        index = [number - subject.layout.counts_from for number in files]
        return some_frames([subject.volume(path) for path in files.values()], index, frames or max(index) + 1)
    return whole_cycle(subject.volume(subject.file(image), 4))


def _declared_phases(subject: Subject) -> tuple[int, int] | None:
    """Zero-based ED and ES, if the layout says them. Files of ED and ES alone are a cycle of two."""
    phases = subject.layout.phases
    if isinstance(phases, Phases):
        return subject.frame(phases.ed), subject.frame(phases.es)
    return (0, 1) if isinstance(subject.layout.image, Pair) else None


def _labels(subject: Subject, cycle: Cycle, phases: Sequence[int]) -> tuple[LabelArray, BoolArray]:
    """Labels ``T X Y Z``, and which frames have them, ``T``."""
    files, numbers = subject.layout.label, subject.layout.numbers
    if isinstance(files, str) and FRAME not in files:
        label = read_labels(subject.file(files), cycle.grid, numbers)
        return label, frames_with_labels(label)
    label = cycle.no_labels
    labelled = np.zeros(len(label), dtype=np.bool_)
    for index, path in _label_files(subject, phases).items():
        here = cycle.frame_index == index
        if not here.any():
            raise DataError(f"{path} labels frame {index}, which has no image", hint="copy the whole dataset again")
        frame = read_label(path, cycle.grid, numbers)
        if not frame.any():
            raise DataError(f"{path} holds nothing but 0", hint="the label is empty or wrong: copy it again")
        label[here], labelled[here] = frame, True
    return label, labelled


def _label_files(subject: Subject, phases: Sequence[int]) -> dict[int, Path]:
    """Label files of single frames, by zero-based frame."""
    files = subject.layout.label
    if files is None:
        return {}
    if isinstance(files, Pair):
        return dict(zip(phases, map(subject.file, (files.ed, files.es)), strict=True))
    found = numbered(subject.root, files, subject.name)
    return {number - subject.layout.counts_from: path for number, path in found.items()}


def _coverage(
    subject: Subject, cycle: Cycle, label: LabelArray, labelled: BoolArray, phases: tuple[int, int]
) -> BoolArray:
    """What the layout says was annotated, ``T Z S``; `DataError` where the files hold more."""
    layout, coverage = subject.layout, cycle.no_coverage
    looked = np.broadcast_to(labelled[:, None], coverage.shape[:2])
    if layout.empty_slices == "unknown":
        looked = looked & label.any(axis=(1, 2))
    for structure in layout.structures:
        frames = _frames_named(layout.covered_in(structure), cycle, phases)
        covered = looked & frames[:, None]
        _check_covered(subject, structure, (label == structure).any(axis=(1, 2)) & ~covered, cycle)
        coverage[..., STRUCTURES.index(structure)] = covered
    return coverage


def _frames_named(names: Sequence[str], cycle: Cycle, phases: tuple[int, int]) -> BoolArray:
    if "all" in names:
        return np.ones(len(cycle.frame_index), dtype=np.bool_)
    wanted = [index for name, index in zip(("ed", "es"), phases, strict=True) if name in names]
    return np.isin(cycle.frame_index, wanted)


def _check_covered(subject: Subject, structure: Label, strange: BoolArray, cycle: Cycle) -> None:
    if strange.any():
        frame = int(cycle.frame_index[strange.any(axis=1)][0])
        raise DataError(
            f"{cycle.grid.path}: frame {frame} (counted from 0) has {structure.name}, which was not annotated there "
            f"according to the layout {subject.layout.dataset}",
            hint="correct 'covers' or 'labels' of the layout",
        )
