"""A dataset looked at again: what is damaged, what contradicts itself, and what a training run would see."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cinesynth.data import Progress
from cinesynth.data.duplicates import find_twins, sketch
from cinesynth.data.geometry import Grid, place
from cinesynth.data.manifest import COLUMNS, FIRST_COLUMNS, SPLITS, Manifest, Row, describe
from cinesynth.data.nifti import PLANE_STEP_MM, SLICE_STEP_MM
from cinesynth.data.packed import load_study
from cinesynth.errors import DataError
from cinesynth.physiology import SLICE_RANGE
from cinesynth.types import STRUCTURES, Diagnosis, FloatArray, Label, Study

SKEW = 0.01
"""Cosine between two voxel edges above which a grid is worth a word."""


@dataclass(frozen=True)
class Finding:
    """Something about one subject, or about the dataset; a serious one stops a training run or spoils its result."""

    about: str
    text: str
    serious: bool = True


@dataclass
class Tally:
    """What a training run would see of one source in one split."""

    subjects: int = 0
    whole_cycles: int = 0
    """Subjects with all frames; ED and ES alone are no cycle."""
    frames: int = 0
    labelled_frames: int = 0
    slices: int = 0
    """Slices of all labelled frames."""
    covered: Counter[Label] = field(default_factory=Counter)
    """Of these, where each structure was annotated."""
    known: Counter[str] = field(default_factory=Counter)
    """Subjects whose ``edv``, ``ef``, ``reported edv``, ``diagnosis`` or ``frame time`` is known."""

    def add(self, row: Row, study: Study) -> None:
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
        """Share of the slices of labelled frames in which ``structure`` was annotated."""
        return 100.0 * self.covered[structure] / self.slices if self.slices else None


@dataclass
class Checkup:
    """What was found."""

    findings: list[Finding] = field(default_factory=list)
    tallies: dict[tuple[str, str], Tally] = field(default_factory=dict)
    """By split and source."""
    origins: dict[str, Counter[str]] = field(default_factory=dict)
    """Of each source: where ED and ES, and the order of slices, come from."""
    notes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Of each subject that has any."""

    @property
    def serious(self) -> list[Finding]:
        """Findings that must be dealt with before training."""
        return [finding for finding in self.findings if finding.serious]


def examine(dataset: Path, grid: Grid, progress: Progress | None = None) -> Checkup:
    """Read every study of ``dataset`` and check it against the manifest, ``grid`` and all others.

    `DataError` if there is no readable manifest; whatever else is wrong is a `Finding`.
    """
    dataset, checkup = Path(dataset), Checkup()
    manifest, sketches = Manifest.read(dataset), dict[str, FloatArray]()
    for number, row in enumerate(manifest, start=1):
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
        if progress:
            progress(number, len(manifest), row.subject)
    checkup.findings += _twin_findings(manifest, sketches)
    checkup.findings += _split_findings(manifest)
    checkup.findings += _stray_findings(dataset, manifest)
    return checkup


def _name(row: Row) -> str:
    return f"{row.dataset} {row.subject}"


def _subject_findings(row: Row, study: Study, grid: Grid) -> Iterator[Finding]:
    name = _name(row)
    if told := _contradictions(row, study):
        yield Finding(name, f"manifest.csv says otherwise than the study: {', '.join(told)}")
    try:
        place(study, grid)
    except DataError as error:
        yield Finding(name, error.message)
    yield from (Finding(name, text, serious=False) for text in (*_odd_geometry(study), *_odd_labels(row, study)))


def _contradictions(row: Row, study: Study) -> list[str]:
    """Columns of the manifest that are not what the study says; older datasets do not have all of them."""
    true = describe(study, row.split, row.file, row.sha256)
    columns = COLUMNS if row.coverage else FIRST_COLUMNS
    return [name for name in columns if getattr(row, name) != getattr(true, name)]


def _odd_geometry(study: Study) -> Iterator[str]:
    ranges = (PLANE_STEP_MM, PLANE_STEP_MM, SLICE_STEP_MM)
    if not all(low <= step <= high for step, (low, high) in zip(study.spacing_mm, ranges, strict=True)):
        yield f"voxels of {' x '.join(f'{step:g}' for step in study.spacing_mm)} mm are not those of a cine"
    axes = study.affine[:3, :3] / study.spacing_mm
    if (skew := float(np.abs(axes.T @ axes - np.eye(3)).max())) > SKEW:
        yield f"voxel edges are not perpendicular (cosine {skew:.2f})"
    if not SLICE_RANGE[0] <= (slices := study.image.shape[3]) <= SLICE_RANGE[1]:
        yield f"{slices} slices do not cover a heart"


def _odd_labels(row: Row, study: Study) -> Iterator[str]:
    edv, esv = row.lv_edv_ml, row.lv_esv_ml
    if edv is not None and esv is not None and esv >= edv:
        yield f"ESV {esv:.0f} mL is not below EDV {edv:.0f} mL: are ED and ES exchanged?"
    for name, index in (("ED", study.ed_index), ("ES", study.es_index)):
        frame = np.flatnonzero(study.frame_index == index)[0]
        seen = set(np.unique(study.label[frame]).tolist())
        covered = study.coverage[frame].any(axis=0)
        if empty := [s.name for i, s in enumerate(STRUCTURES) if covered[i] and s not in seen]:
            yield f"{', '.join(empty)} was annotated at {name} and is nowhere to be seen"


def _twin_findings(manifest: Manifest, sketches: dict[str, FloatArray]) -> Iterator[Finding]:
    names, splits = list(sketches), {_name(row): row.split for row in manifest}
    for twins in find_twins(list(sketches.values())):
        first, second = names[twins.first], names[twins.second]
        apart = splits[first] != splits[second]
        where = f"in {splits[first]} and in {splits[second]}" if apart else f"both in {splits[first]}"
        text = f"shows the same images as {second} (correlation {twins.correlation:.3f}), {where}: one person twice"
        yield Finding(first, text, serious=apart)


def _split_findings(manifest: Manifest) -> Iterator[Finding]:
    counts = Counter(row.split for row in manifest)
    for split in SPLITS:
        if not counts[split]:
            yield Finding("splits", f"nobody is in {split}", serious=split == SPLITS[0])


def _stray_findings(dataset: Path, manifest: Manifest) -> Iterator[Finding]:
    known = {row.file for row in manifest}
    files = (dataset / "studies").iterdir() if (dataset / "studies").is_dir() else ()
    strays = sorted(path.name for path in files if f"studies/{path.name}" not in known)
    if strays:
        yield Finding("studies", f"{len(strays)} files that manifest.csv does not list: {strays[0]} ...", serious=False)
