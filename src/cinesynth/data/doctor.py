"""Checking a dataset: what is damaged, what is inconsistent, and what a training run would see."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cinesynth.data.dataset_table import COLUMNS, FIRST_COLUMNS, TABLE_FILE, DatasetTable, SubjectRow, describe
from cinesynth.data.duplicates import find_duplicates, sketch
from cinesynth.data.geometry import Grid, place
from cinesynth.data.nifti import is_plausible_spacing
from cinesynth.data.packed import load_study
from cinesynth.data.readiness import unmet_by_segmenter, unmet_needs
from cinesynth.errors import DataError
from cinesynth.io.tasks import ProgressCallback, no_progress
from cinesynth.physiology import SLICE_RANGE
from cinesynth.types import STRUCTURES, Diagnosis, FloatArray, Label, Study


@dataclass(frozen=True)
class Finding:
    """A problem of one subject or of the dataset; a serious one stops a training run or spoils its result."""

    about: str
    text: str
    serious: bool = True
    hint: str = ""


@dataclass
class Tally:
    """What a training run would see of one source in one split."""

    subjects: int = 0
    whole_cycles: int = 0
    """Subjects with all frames, not only ED and ES."""
    frames: int = 0
    labelled_frames: int = 0
    slices: int = 0
    """Slices in all labelled frames."""
    covered: Counter[Label] = field(default_factory=Counter)
    """Of these, the slices in which each structure was annotated."""
    known: Counter[str] = field(default_factory=Counter)
    """Subjects with known ``edv``, ``ef``, ``reported edv``, ``diagnosis`` and ``frame time``, respectively."""

    def add(self, row: SubjectRow, study: Study) -> None:
        """Count one subject."""
        labelled = study.coverage[study.labelled]  # T Z S
        self.subjects += 1
        self.whole_cycles += 2 < len(study.image) == study.frames_in_cycle
        self.frames += len(study.image)
        self.labelled_frames += len(labelled)
        self.slices += labelled.shape[0] * labelled.shape[1]
        self.covered.update({s: int(labelled[..., i].sum()) for i, s in enumerate(STRUCTURES)})
        facts = {
            "edv": row.lv_edv_ml is not None,
            "ef": row.ef_percent is not None,
            "reported edv": row.reported_lv_edv_ml is not None,
            "diagnosis": row.diagnosis is not Diagnosis.UNKNOWN,
            "frame time": row.frame_time_ms is not None,
        }
        self.known.update(name for name, known in facts.items() if known)

    def coverage_percent(self, structure: Label) -> float | None:
        """Percentage of the slices of labelled frames in which ``structure`` was annotated; None without slices."""
        return 100.0 * self.covered[structure] / self.slices if self.slices else None


@dataclass
class Checkup:
    """The result of `examine`."""

    findings: list[Finding] = field(default_factory=list)
    tallies: dict[tuple[str, str], Tally] = field(default_factory=dict)
    """By split and dataset name."""
    origins: dict[str, Counter[str]] = field(default_factory=dict)
    """For each dataset name, how often ED and ES, and the slice order, were determined in which way."""
    notes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """The notes of each subject that has any."""

    @property
    def serious(self) -> list[Finding]:
        """Findings that must be resolved before training."""
        return [finding for finding in self.findings if finding.serious]


def examine(dataset: Path, grid: Grid, progress: ProgressCallback = no_progress) -> Checkup:
    """Read every study of ``dataset`` and check it against the table, against ``grid`` and against all other studies.

    `DataError` if the table cannot be read; everything else that is wrong becomes a `Finding`.
    """
    dataset, checkup = Path(dataset), Checkup()
    table, sketches = DatasetTable.read(dataset), dict[str, FloatArray]()
    for number, row in enumerate(table, start=1):
        try:
            study = load_study(dataset, row)
        except DataError as error:
            checkup.findings.append(Finding(_name(row), error.message))
        else:
            checkup.findings += _subject_findings(row, study, grid)
            checkup.tallies.setdefault((row.split, row.dataset), Tally()).add(row, study)
            origins = checkup.origins.setdefault(row.dataset, Counter())
            origins.update((f"ED, ES: {study.phases_from}", f"slices: {study.slices_from}"))
            if study.notes:
                checkup.notes[_name(row)] = study.notes
            sketches[_name(row)] = sketch(study)
        progress("doctor", number, len(table), {})
    checkup.findings += _duplicate_findings(table, sketches)
    counts = Counter(row.split for row in table)
    checkup.findings += [Finding(need.about, need.text, hint=need.hint) for need in unmet_needs(table)]
    if not checkup.serious:  # otherwise labels lack anyway
        checkup.findings += [Finding(need.about, need.text, serious=False) for need in unmet_by_segmenter(table)]
    if not counts["test"]:
        checkup.findings.append(Finding("splits", "test has no subjects", serious=False))
    known = {row.file for row in table}
    found = {f"studies/{path.name}" for path in dataset.glob("studies/*")}
    if unlisted := sorted(found - known):
        text = f"{len(unlisted)} files are not listed in {TABLE_FILE}: {Path(unlisted[0]).name} ..."
        checkup.findings.append(Finding("studies", text, serious=False))
    return checkup


def _name(row: SubjectRow) -> str:
    return f"{row.dataset} {row.subject}"


def _subject_findings(row: SubjectRow, study: Study, grid: Grid) -> Iterator[Finding]:
    name, true = _name(row), describe(study, row.split, row.file, row.sha256)
    columns = COLUMNS if row.coverage else FIRST_COLUMNS  # older datasets lack some columns
    if columns := tuple(column for column in columns if getattr(row, column) != getattr(true, column)):
        yield Finding(name, f"{TABLE_FILE} contradicts the study: {', '.join(columns)}")
    try:
        place(study, grid)
    except DataError as error:
        yield Finding(name, error.message)
    yield from (Finding(name, text, serious=False) for text in _oddities(row, study))


def _oddities(row: SubjectRow, study: Study) -> Iterator[str]:
    if not is_plausible_spacing(study.spacing_mm):
        yield f"voxels of {' x '.join(f'{step:g}' for step in study.spacing_mm)} mm are not plausible for a cine"
    axes = study.affine[:3, :3] / study.spacing_mm
    if (skew := float(np.abs(axes.T @ axes - np.eye(3)).max())) > 0.01:
        yield f"voxel edges are not perpendicular (cosine {skew:.2f})"
    if not SLICE_RANGE[0] <= (slices := study.image.shape[3]) <= SLICE_RANGE[1]:
        yield f"{slices} slices, expected {SLICE_RANGE[0]} to {SLICE_RANGE[1]} to cover a heart"
    edv, esv = row.lv_edv_ml, row.lv_esv_ml
    if edv is not None and esv is not None and esv >= edv:
        yield f"ESV {esv:.0f} mL is not below EDV {edv:.0f} mL: ED and ES may be exchanged"
    for name, index in (("ED", study.ed_index), ("ES", study.es_index)):
        frame = np.flatnonzero(study.frame_index == index)[0]
        seen = set(np.unique(study.label[frame]).tolist())
        covered = study.coverage[frame].any(axis=0)
        if empty := [s.name for i, s in enumerate(STRUCTURES) if covered[i] and s not in seen]:
            yield f"{', '.join(empty)} was annotated at {name} but has no voxels"


def _duplicate_findings(table: DatasetTable, sketches: dict[str, FloatArray]) -> Iterator[Finding]:
    names, splits = list(sketches), {_name(row): row.split for row in table}
    for pair in find_duplicates(list(sketches.values())):
        first, second = names[pair.first], names[pair.second]
        apart = splits[first] != splits[second]
        where = f"in {splits[first]} and in {splits[second]}" if apart else f"both in {splits[first]}"
        text = (
            f"shows the same images as {second} (correlation {pair.correlation:.3f}), {where}: probably the same person"
        )
        yield Finding(first, text, serious=apart)
