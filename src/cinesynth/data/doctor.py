"""Checking a dataset: what is damaged, what is inconsistent, and what a training run would see."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from cinesynth.data.dataset_table import TABLE_FILE, DatasetTable, SubjectRow
from cinesynth.data.duplicates import sketch
from cinesynth.data.findings import Finding, duplicate_findings, name_of, subject_findings
from cinesynth.data.geometry import Grid
from cinesynth.data.packed import load_study
from cinesynth.data.quality import flags
from cinesynth.data.readiness import unmet_by_segmenter, unmet_needs
from cinesynth.errors import DataError
from cinesynth.io.tasks import ProgressCallback, no_progress
from cinesynth.types import STRUCTURES, Diagnosis, FloatArray, Label, Study


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
            checkup.findings.append(Finding(name_of(row), error.message, hint=error.hint))
        else:
            checkup.findings += subject_findings(row, study, grid, flags(study))
            checkup.tallies.setdefault((row.split, row.dataset), Tally()).add(row, study)
            origins = checkup.origins.setdefault(row.dataset, Counter())
            origins.update((f"ED, ES: {study.phases_from}", f"slices: {study.slices_from}"))
            if study.notes:
                checkup.notes[name_of(row)] = study.notes
            sketches[name_of(row)] = sketch(study)
        progress("doctor", number, len(table), {})
    checkup.findings += duplicate_findings(table, sketches)
    counts = Counter(row.split for row in table)
    checkup.findings += [Finding(need.about, need.text, hint=need.hint) for need in unmet_needs(table)]
    if not checkup.serious:  # otherwise labels lack anyway
        checkup.findings += [Finding(need.about, need.text, "look") for need in unmet_by_segmenter(table)]
    if not counts["test"]:
        checkup.findings.append(Finding("splits", "test has no subjects", "look"))
    known = {row.file for row in table}
    found = {f"studies/{path.name}" for path in dataset.glob("studies/*")}
    if unlisted := sorted(found - known):
        text = f"{len(unlisted)} files are not listed in {TABLE_FILE}: {Path(unlisted[0]).name} ..."
        checkup.findings.append(Finding("studies", text, "look"))
    return checkup
