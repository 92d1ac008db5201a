"""Any folder of 3D or 4D NIfTI files that a `Layout` describes.

Every subject with image files is read. Nothing is guessed: a label number that the layout does not name, a structure
in a frame where the layout says it was not annotated, or a subject without a row in the table is a `DataError`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast, get_args

import numpy as np

from cinesynth.data.nifti import Spacing, Volume, read_label, read_labels, read_volume
from cinesynth.data.orientation import oriented
from cinesynth.data.sources import Source, source_of
from cinesynth.data.sources.cycle import Cycle, check_phases, choose_phases, labelled_study, some_frames, whole_cycle
from cinesynth.data.sources.layout import FRAME, SUBJECT, EdEsFiles, Layout, PhaseSettings, find, numbered, only
from cinesynth.data.terms import Terms, diagnosis_of, vendor_of
from cinesynth.errors import DataError
from cinesynth.io.tables import SubjectTable, TableRow, read_table, reading
from cinesynth.types import STRUCTURES, BoolArray, Label, LabelArray, PhasesFrom, Study


@dataclass(frozen=True)
class NiftiSubject:
    """One subject: its files by pattern, and its row of the table, empty if there is none."""

    root: Path
    name: str
    layout: Layout
    row: TableRow

    def column(self, column: str | None) -> str:
        """The subject's cell; empty if no column is named."""
        return self.row.text(column) if column else ""

    def volume_ml(self, column: str | None) -> float | None:
        """A volume from the table; none if no column is named, or its cell is empty."""
        return self.row.number(column) if column and self.column(column) else None

    def count(self, value: int | str) -> int:
        """A whole number from the layout or the table."""
        return self.row.index(value) if isinstance(value, str) else value

    def file(self, pattern: str) -> Path:
        """The only file of this subject that fits."""
        return only(self.root, pattern, self.name)

    def volume(self, path: Path, dimensions: int = 3) -> Volume:
        """An image of this subject; voxel edges that the layout knows replace those of the header."""
        edges = (self.row.number(e) if isinstance(e, str) else e for e in self.layout.spacing_mm)
        known_mm = tuple(None if edge is None else float(edge) for edge in edges)
        return read_volume(path, dimensions, cast(Spacing, known_mm))


@reading()
def read_nifti(root: Path, layout: Layout) -> Source:
    """All subjects below ``root`` whose images fit ``layout``."""
    root = Path(root)
    pattern = layout.image.ed if isinstance(layout.image, EdEsFiles) else layout.image
    names = sorted({match.subject for match in find(root, pattern)})
    if not names:
        hint = f"name the folder in which {SUBJECT} stands for a subject"
        raise DataError(f"no file in {root} fits {pattern!r}", hint=hint)
    columns = layout.table
    table = read_table(root / columns.file, columns.subject) if columns else None
    # Without a file of the layout, a changed layout could not be told from the one that an ingestion began with.
    files = partial(_files, root, layout) if layout.file else None
    terms = Terms(layout.licence, layout.citation, layout.note) if layout.licence else None
    read = partial(read_subject, root, layout, table)
    return source_of({name: name for name in names}, read, files, terms=terms, numbers=layout.numbers)


def _files(root: Path, layout: Layout, name: str) -> list[Path]:
    """Everything that decides the study: the layout, the table, and the files that fit a pattern."""
    found = [layout.file] if layout.file else []
    found += [root / layout.table.file] if layout.table else []
    for files in (layout.image, layout.label):
        patterns = (files.ed, files.es) if isinstance(files, EdEsFiles) else (files,) if files else ()
        found += [match.path for pattern in patterns for match in find(root, pattern, name)]
    return found


def read_subject(root: Path, layout: Layout, table: SubjectTable | None, name: str) -> Study:
    """One subject as a study."""
    subject = NiftiSubject(root, name, layout, table.row(name) if table else TableRow(root, name, {}))
    columns, cycle = layout.columns, _cycle(subject)
    declared = _declared_phases(subject)
    if declared:
        check_phases(cycle, *declared)  # first, because label files of missing frames would be missing, too
    label, labelled = _labels(subject, cycle, declared)
    ed, es, phases_from = choose_phases(cycle, label, declared)
    if isinstance(layout.phases, PhaseSettings) and layout.phases.known_from:
        origin, known = subject.row.text(layout.phases.known_from), get_args(PhasesFrom)
        if origin not in known:
            raise DataError(f"{layout.phases.known_from} of {name} is {origin!r}", hint=f"one of {', '.join(known)}")
        phases_from = cast(PhasesFrom, origin)
    if layout.phases == "labels" and phases_from != "labels":
        raise DataError(
            f"{cycle.grid.path}: {int(labelled.sum())} labelled frames do not determine ED and ES",
            hint="name the frames of ED and ES, label the LV in more frames, or remove the key `phases` from the "
            "layout: ED and ES are then assumed",
        )
    group = subject.column(columns.group)
    study = labelled_study(
        cycle,
        label,
        (ed, es, phases_from),
        _coverage(layout, cycle, label, labelled, {"ed": ed, "es": es}),
        subject=subject.name,
        dataset=layout.dataset,
        vendor=vendor_of(subject.column(columns.vendor) or layout.vendor),
        diagnosis=diagnosis_of(group, layout.diagnoses),
        group=group,
        reported_lv_edv_ml=subject.volume_ml(columns.lv_edv_ml),
        reported_lv_esv_ml=subject.volume_ml(columns.lv_esv_ml),
    )
    return oriented(study, layout.slices)


def _cycle(subject: NiftiSubject) -> Cycle:
    image, phases = subject.layout.image, subject.layout.phases
    frames = subject.count(phases.frames) if isinstance(phases, PhaseSettings) and phases.frames is not None else None
    if isinstance(image, EdEsFiles):
        pair = [subject.volume(subject.file(pattern)) for pattern in (image.ed, image.es)]
        return some_frames(pair, _declared_phases(subject) or (0, 1), frames or 2)
    if FRAME in image:
        files = numbered(subject.root, image, subject.name)
        index = [number - subject.layout.counts_from for number in files]
        return some_frames([subject.volume(path) for path in files.values()], index, frames or max(index) + 1)
    return whole_cycle(subject.volume(subject.file(image), 4))


def _declared_phases(subject: NiftiSubject) -> tuple[int, int] | None:
    """Zero-based ED and ES if the layout names them. Files of ED and ES alone are a cycle of two frames."""
    phases, first = subject.layout.phases, subject.layout.counts_from
    if isinstance(phases, PhaseSettings):
        return subject.count(phases.ed) - first, subject.count(phases.es) - first
    return (0, 1) if isinstance(subject.layout.image, EdEsFiles) else None


def _labels(subject: NiftiSubject, cycle: Cycle, phases: tuple[int, int] | None) -> tuple[LabelArray, BoolArray]:
    """Labels ``T X Y Z``, and which frames are labelled, ``T``."""
    files, numbers = subject.layout.label, subject.layout.numbers
    if isinstance(files, str) and FRAME not in files:
        label = read_labels(subject.file(files), cycle.grid, numbers)
        return label, np.asarray(label.any(axis=(1, 2, 3)))
    paths: dict[int, Path] = {}  # by zero-based frame
    if isinstance(files, EdEsFiles):
        paths = dict(zip(phases or (), map(subject.file, (files.ed, files.es)), strict=True))
    elif files is not None:
        found = numbered(subject.root, files, subject.name)
        paths = {number - subject.layout.counts_from: path for number, path in found.items()}
    label = cycle.no_labels
    for index, path in paths.items():
        here = cycle.frame_index == index
        if not here.any():
            raise DataError(f"{path} labels frame {index}, which has no image", hint="copy the whole dataset again")
        frame = read_label(path, cycle.grid, numbers)
        if not frame.any():
            raise DataError(f"{path} contains nothing but 0", hint="the label is empty or wrong: copy it again")
        label[here] = frame
    return label, np.isin(cycle.frame_index, list(paths))


def _coverage(
    layout: Layout, cycle: Cycle, label: LabelArray, labelled: BoolArray, phases: Mapping[str, int]
) -> BoolArray:
    """The coverage ``T Z S`` according to the layout; `DataError` if files label more than that."""
    coverage = np.zeros((len(label), label.shape[3], len(STRUCTURES)), dtype=np.bool_)
    inspected = np.broadcast_to(labelled[:, None], coverage.shape[:2])
    if layout.empty_slices == "unknown":
        inspected = inspected & label.any(axis=(1, 2))
    covers = {Label[name]: frames for name, frames in layout.covers.items()}
    for structure in layout.structures:
        names = covers.get(structure, ("all",))
        frames = np.isin(cycle.frame_index, [phases[name] for name in names if name != "all"]) | ("all" in names)
        covered = inspected & frames[:, None]
        unexpected = (label == structure).any(axis=(1, 2)) & ~covered
        if unexpected.any():
            frame = int(cycle.frame_index[unexpected.any(axis=1)][0])
            raise DataError(
                f"{cycle.grid.path}: frame {frame} (counted from 0) has {structure.name}, which was not annotated "
                f"there according to the layout {layout.dataset}",
                hint="correct 'covers' or 'labels' of the layout",
            )
        coverage[..., STRUCTURES.index(structure)] = covered
    return coverage
