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
from cinesynth.data.normalisation import default_es_index
from cinesynth.data.orientation import oriented
from cinesynth.data.other_formats import require_reader
from cinesynth.data.sources import Source, source_of
from cinesynth.data.sources.cycle import (
    Cycle,
    EdEs,
    check_numbers,
    check_phases,
    choose_phases,
    frame_of,
    frame_time_of,
    labelled_study,
    some_frames,
    whole_cycle,
)
from cinesynth.data.sources.layout import EdEsFiles, LabelFiles, Layout, PhaseSettings
from cinesynth.data.sources.patterns import FRAME, NUMBERED, SLICE, SUBJECT, TIME, find, numbered, only
from cinesynth.data.sources.slices import read_slice_labels, read_slices, stacked
from cinesynth.data.terms import Terms, diagnosis_of, vendor_of
from cinesynth.errors import DataError
from cinesynth.io.tables import SubjectTable, TableRow, read_table, reading
from cinesynth.types import STRUCTURES, BoolArray, Label, LabelArray, PhasesFrom, Study

NO_COPY = "give images that are copies of a frame of the cycle, or the numbers of the frames, under phases"


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
        return read_volume(path, dimensions, self.known_mm)

    @property
    def known_mm(self) -> Spacing:
        """The voxel edges that the layout knows, ``X Y Z``."""
        edges = (self.row.number(e) if isinstance(e, str) else e for e in self.layout.spacing_mm)
        return cast(Spacing, tuple(None if edge is None else float(edge) for edge in edges))

    def slices(self) -> list[Volume]:
        """The slices of this subject where each is a file, in the order of the stack."""
        return read_slices(numbered(self.root, str(self.layout.image), self.name), self.known_mm)


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
    for each in _patterns(layout):
        require_reader(each)
    terms = Terms(layout.licence, layout.citation, layout.note) if layout.licence else None
    read = partial(read_subject, root, layout, table)
    return source_of({name: name for name in names}, read, files, terms=terms, numbers=layout.numbers)


def _files(root: Path, layout: Layout, name: str) -> list[Path]:
    """Everything that decides the study: the layout, the table, and the files that fit a pattern."""
    found = [layout.file] if layout.file else []
    found += [root / layout.table.file] if layout.table else []
    return found + [match.path for pattern in _patterns(layout) for match in find(root, pattern, name)]


def _patterns(layout: Layout) -> list[str]:
    """Every pattern of the layout."""
    found: list[str] = []
    for files in (layout.image, layout.label, layout.phases):
        if isinstance(files, EdEsFiles | LabelFiles):
            found += [pattern for pattern in (files.ed, files.es) if pattern]
        elif isinstance(files, str) and SUBJECT in files:
            found.append(files)
    return found


def read_subject(root: Path, layout: Layout, table: SubjectTable | None, name: str) -> Study:
    """One subject as a study."""
    subject = NiftiSubject(root, name, layout, table.row(name) if table else TableRow(root, name, {}))
    columns, cycle = layout.columns, _cycle(subject)
    declared = _phases(subject, cycle)
    if declared:
        check_phases(cycle, *declared[:2])  # first, because label files of missing frames would be missing, too
    label, labelled = _labels(subject, cycle, declared)
    ed, es, phases_from = declared or choose_phases(cycle, label, None)
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
        return some_frames(pair, _numbered_phases(subject) or (0, 1), frames or 2)
    if SLICE in image:
        return whole_cycle(stacked(subject.slices(), subject.known_mm[2]))
    if TIME in image:
        times = numbered(subject.root, image, subject.name)
        step_ms = frame_time_of(subject.name, list(times))
        cycle = some_frames([subject.volume(path) for path in times.values()], range(len(times)), len(times))
        return cycle._replace(grid=cycle.grid._replace(frame_time_ms=step_ms))
    if FRAME in image:
        files = numbered(subject.root, image, subject.name)
        index = [int(number) - subject.layout.counts_from for number in files]
        if frames is None:
            check_numbers(subject.name, index, subject.layout.counts_from)
        return some_frames([subject.volume(path) for path in files.values()], index, frames or len(index))
    whole = subject.volume(subject.file(image), 4)
    if whole.data.shape[2] == 1:
        raise DataError(
            f"{whole.path} holds one slice, expected the short-axis stack",
            hint="a layout with {slice} in the names stacks files of one slice each",
        )
    return whole_cycle(whole)


def _phases(subject: NiftiSubject, cycle: Cycle) -> EdEs | None:
    """ED and ES if the layout gives them: as numbers, or as images. Files of ED and ES alone are a cycle of two."""
    phases = subject.layout.phases
    if isinstance(phases, EdEsFiles):
        ed, es = (frame_of(subject.volume(subject.file(pattern)), cycle, NO_COPY) for pattern in (phases.ed, phases.es))
        return ed, es, "metadata"
    if isinstance(phases, PhaseSettings) and phases.es is None:
        count, ed = cycle.frames_in_cycle, subject.count(phases.ed) - subject.layout.counts_from
        return ed, (ed + default_es_index(count)) % count, "assumed"
    numbers = _numbered_phases(subject)
    return (*numbers, "metadata") if numbers else None


def _numbered_phases(subject: NiftiSubject) -> tuple[int, int] | None:
    """Zero-based ED and ES by the numbers of the layout, or of files of ED and ES alone."""
    phases, first = subject.layout.phases, subject.layout.counts_from
    if isinstance(phases, PhaseSettings) and phases.es is not None:
        return subject.count(phases.ed) - first, subject.count(phases.es) - first
    return (0, 1) if isinstance(subject.layout.image, EdEsFiles) else None


def _labels(subject: NiftiSubject, cycle: Cycle, phases: EdEs | None) -> tuple[LabelArray, BoolArray]:
    """Labels ``T X Y Z``, and which frames are labelled, ``T``."""
    files, numbers = subject.layout.label, subject.layout.numbers
    if isinstance(files, str) and SLICE in files:
        images = {
            path: number for number, path in numbered(subject.root, str(subject.layout.image), subject.name).items()
        }
        label = read_slice_labels(numbered(subject.root, files, subject.name), images, subject.slices(), numbers)
        return label, np.asarray(label.any(axis=(1, 2, 3)))
    if isinstance(files, str) and not any(part in files for part in NUMBERED):
        label = read_labels(subject.file(files), cycle.grid, numbers)
        return label, np.asarray(label.any(axis=(1, 2, 3)))
    paths = _label_files(subject, phases)
    label = cycle.no_labels
    for index, path in paths.items():
        here = cycle.frame_index == index
        if not here.any():
            hint = "give each label file the number of its image, and see counts_from of the layout"
            raise DataError(f"{path} labels frame {index}, which has no image", hint=hint)
        frame = read_label(path, cycle.grid, numbers)
        if not frame.any():
            raise DataError(f"{path} contains nothing but 0", hint="the label is empty or wrong: copy it again")
        label[here] = frame
    return label, np.isin(cycle.frame_index, list(paths))


def _label_files(subject: NiftiSubject, phases: EdEs | None) -> dict[int, Path]:
    """Files that label one frame each, by zero-based frame."""
    files = subject.layout.label
    if isinstance(files, LabelFiles):
        pairs = zip(phases or (), (files.ed, files.es), strict=False)
        return {int(index): subject.file(pattern) for index, pattern in pairs if pattern}
    if files is None:
        return {}
    found = numbered(subject.root, files, subject.name)
    if TIME not in files:
        return {int(number) - subject.layout.counts_from: path for number, path in found.items()}
    times = list(numbered(subject.root, str(subject.layout.image), subject.name))
    if strange := [path for time, path in found.items() if time not in times]:
        raise DataError(f"{strange[0]} has no image of this time", hint="give each label file the time of its image")
    return {times.index(time): path for time, path in found.items()}


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
