"""The quality-control page of a dataset: tables of its subjects, and a contact sheet of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from cinesynth import __version__
from cinesynth.data.dataset_table import SPLITS, DatasetTable, SubjectRow
from cinesynth.data.flag import Flag
from cinesynth.data.ingest import read_skipped
from cinesynth.data.packed import load_study
from cinesynth.data.quality import flags
from cinesynth.data.sources import Skipped
from cinesynth.errors import DataError
from cinesynth.io.files import write_text
from cinesynth.io.tasks import ProgressCallback, no_progress, ordered_map
from cinesynth.reports import render_template
from cinesynth.reports.contact_sheet import render_subject

SUBJECT_COLUMNS = ("subject", "dataset", "group", "split", "frames", "slices", "EDV mL", "ESV mL", "EF %", "flags")
RIGHT_ALIGNED = ("subjects", *SPLITS, "share", "frames", "slices", "EDV mL", "ESV mL", "EF %")


@dataclass(frozen=True)
class SubjectEntry:
    """One subject of the page; ``fault`` says why its file could not be read, and then there is no picture."""

    row: SubjectRow
    flags: tuple[Flag, ...]
    png: bytes
    fault: str = ""

    @property
    def remarks(self) -> tuple[str, ...]:
        """The fault and the flags as sentences."""
        return (*([self.fault] if self.fault else []), *map(str, self.flags))

    @property
    def anchor(self) -> str:
        """The ``id`` of the subject on the page."""
        return f"{self.row.dataset}_{self.row.subject}".replace(" ", "_")


@dataclass(frozen=True)
class Overview:
    """What a page reports: counts of subjects, and of subjects with each flag, most frequent first."""

    path: Path
    subjects: int
    flagged: int
    rejected: int
    flags: dict[str, int]


def _examined(dataset: Path, row: SubjectRow) -> SubjectEntry:
    try:
        study = load_study(dataset, row)
    except DataError as error:
        return SubjectEntry(row, (), b"", error.message)
    return SubjectEntry(row, flags(study), render_subject(study))


def write_report(
    dataset_folder: Path, out_html: Path, *, workers: int | None = None, progress: ProgressCallback = no_progress
) -> Overview:
    """Write the quality-control page of a dataset as one self-contained HTML file.

    Up to ``workers`` processes (all cores by default) each read one study at a time. Studies whose file is missing or
    altered are reported on the page. `DataError` if ``dataset_folder`` is not a dataset, `OutputError` if the page
    cannot be written.
    """
    dataset = Path(dataset_folder)
    manifest, rejected = DatasetTable.read(dataset), read_skipped(dataset)
    entries: list[SubjectEntry] = []
    with closing(ordered_map(partial(_examined, dataset), manifest.rows, workers)) as examined:
        for entry in examined:
            entries.append(entry)
            progress("qc", len(entries), len(manifest), {})
    flagged = sum(bool(entry.remarks) for entry in entries)
    page = render_template(
        "dataset.html",
        title=f"Dataset {dataset.resolve().name}",
        subtitle=f"{len(entries)} subjects in, {len(rejected)} left out, {flagged} with flags. "
        f"Flagged subjects deserve a look; none is dropped. Written by cinesynth {__version__}.",
        overview=list(_overview(entries, rejected)),
        anchors=[entry.anchor for entry in entries],
        numbers=RIGHT_ALIGNED,
        subjects=entries,
        ml=_number,
    )
    write_text(Path(out_html), page)
    return Overview(Path(out_html), len(entries), flagged, len(rejected), dict(_counts(entries).most_common()))


def _counts(entries: Sequence[SubjectEntry]) -> Counter[str]:
    names = ({*(flag.name for flag in entry.flags), *(["unreadable"] if entry.fault else [])} for entry in entries)
    return Counter(name for each in names for name in sorted(each))


def _overview(
    entries: Sequence[SubjectEntry], rejected: Sequence[Skipped]
) -> Iterator[tuple[str, Sequence[str], Sequence[tuple[object, ...]]]]:
    """Title, columns and rows of each table."""
    groups: dict[tuple[str, str, str], Counter[str]] = {}
    for row in (entry.row for entry in entries):
        groups.setdefault((row.dataset, row.vendor, row.group or row.diagnosis.value), Counter())[row.split] += 1
    columns = ("dataset", "vendor", "group", *SPLITS, "subjects")
    counts = [(*key, *(n[split] for split in SPLITS), n.total()) for key, n in sorted(groups.items())]
    yield "In the dataset", columns, counts
    left_out = [(rejection.name, rejection.reason, rejection.hint) for rejection in rejected]
    yield "Left out", ("name", "reason", "what to do"), left_out
    found = [(name, n, f"{100 * n / len(entries):.1f} %") for name, n in _counts(entries).most_common()]
    yield "Flags", ("flag", "subjects", "share"), found
    summaries: list[tuple[object, ...]] = []
    for row, remarks in ((entry.row, entry.remarks) for entry in entries):
        about = row.subject, row.dataset, row.group or row.diagnosis.value, row.split
        volumes = map(_number, (row.lv_edv_ml, row.lv_esv_ml, row.ef_percent))
        summaries.append((*about, f"{row.stored_frames} of {row.frames}", row.slices, *volumes, "; ".join(remarks)))
    yield "List of subjects", SUBJECT_COLUMNS, summaries


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
