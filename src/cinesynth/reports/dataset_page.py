"""The page: tables of what is in the dataset and what is not, then a contact sheet of every subject."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from html import escape
from importlib import resources
from pathlib import Path
from string import Template

from cinesynth import __version__
from cinesynth.data.dataset_table import SPLITS, DatasetTable, SubjectRow
from cinesynth.data.ingest import read_skipped
from cinesynth.data.packed import load_study
from cinesynth.data.quality import QualityCheck, flagged_checks
from cinesynth.data.sources import Skipped
from cinesynth.errors import DataError
from cinesynth.io.files import write_text
from cinesynth.io.parallel import ordered_map
from cinesynth.io.progress import ProgressCallback, no_progress
from cinesynth.reports.dataset_sheet import render_subject

LISTED = ("subject", "dataset", "group", "split", "frames", "slices", "EDV mL", "ESV mL", "EF %", "flags")
"""Columns of the list of subjects."""
NUMBERS = ("subjects", *SPLITS, "share", "frames", "slices", "EDV mL", "ESV mL", "EF %")
"""Columns that are set to the right."""


@dataclass(frozen=True)
class Entry:
    """One subject of the page."""

    row: SubjectRow
    flags: tuple[QualityCheck, ...]
    png: bytes
    fault: str = ""
    """Why its file cannot be read; then there is no picture."""

    @property
    def remarks(self) -> tuple[str, ...]:
        """All that asks for a look, in words."""
        return (*([self.fault] if self.fault else []), *map(str, self.flags))


@dataclass(frozen=True)
class Overview:
    """What a report found."""

    path: Path
    subjects: int
    flagged: int
    rejected: int
    flags: dict[str, int]
    """Subjects with each flag, most frequent first."""


@dataclass(frozen=True)
class _Examiner:
    """Reads, checks and draws the subjects of one dataset; may be sent to other processes."""

    dataset: Path

    def __call__(self, row: SubjectRow) -> Entry:
        try:
            study = load_study(self.dataset, row)
        except DataError as error:
            return Entry(row, (), b"", error.message)
        return Entry(row, flagged_checks(study), render_subject(study))


def write_report(
    dataset_folder: Path, out_html: Path, *, workers: int | None = None, progress: ProgressCallback = no_progress
) -> Overview:
    """Write the report on a dataset as one HTML file that needs nothing else.

    Up to ``workers`` processes (all cores by default) each read one study at a time. A study whose file is missing or
    altered is reported on the page. `DataError` if ``dataset_folder`` is no dataset, `OutputError` if the page cannot
    be written.
    """
    dataset = Path(dataset_folder)
    manifest, rejected = DatasetTable.read(dataset), read_skipped(dataset)
    entries: list[Entry] = []
    with closing(ordered_map(_Examiner(dataset), manifest.rows, workers)) as examined:
        for entry in examined:
            entries.append(entry)
            progress("report", len(entries), len(manifest), {})
    write_text(Path(out_html), _page(dataset.resolve().name, entries, rejected))
    flagged = sum(bool(entry.remarks) for entry in entries)
    return Overview(Path(out_html), len(entries), flagged, len(rejected), dict(_counts(entries).most_common()))


def _counts(entries: Sequence[Entry]) -> Counter[str]:
    names = ({*(check.name for check in entry.flags), *(["unreadable"] if entry.fault else [])} for entry in entries)
    return Counter(name for each in names for name in sorted(each))


def _page(name: str, entries: Sequence[Entry], rejected: Sequence[Skipped]) -> str:
    flagged = sum(bool(entry.remarks) for entry in entries)
    template = Template((resources.files(__package__) / "templates" / "dataset.html").read_text(encoding="utf-8"))
    return template.substitute(
        title=escape(f"Dataset {name}"),
        subtitle=f"{len(entries)} subjects in, {len(rejected)} left out, {flagged} with flags. "
        f"A flag asks for a look; nothing is dropped for it. Written by cinesynth {escape(__version__)}.",
        overview="\n".join(_overview(entries, rejected)),
        subjects="\n".join(_article(entry) for entry in entries),
    )


def _overview(entries: Sequence[Entry], rejected: Sequence[Skipped]) -> Iterator[str]:
    groups: dict[tuple[str, str, str], Counter[str]] = {}
    for row in (entry.row for entry in entries):
        groups.setdefault((row.dataset, row.vendor, row.group or row.diagnosis.value), Counter())[row.split] += 1
    yield "<h2>In the dataset</h2>"
    columns = ("dataset", "vendor", "group", *SPLITS, "subjects")
    yield _table(columns, [(*key, *(n[split] for split in SPLITS), n.total()) for key, n in sorted(groups.items())])
    yield "<h2>Left out</h2>"
    left_out = [(rejection.name, rejection.reason, rejection.hint) for rejection in rejected]
    yield _table(("name", "reason", "what to do"), left_out) if left_out else "<p>Nothing.</p>"
    yield "<h2>Flags</h2>"
    counts = [(name, n, f"{100 * n / len(entries):.1f} %") for name, n in _counts(entries).most_common()]
    yield _table(("flag", "subjects", "share"), counts) if counts else "<p>None.</p>"
    yield "<h2>List of subjects</h2>"
    yield _table(LISTED, [_summary(entry) for entry in entries], linked=True)


def _summary(entry: Entry) -> tuple[object, ...]:
    row = entry.row
    volumes = (_number(row.lv_edv_ml), _number(row.lv_esv_ml), _number(row.ef_percent))
    frames = f"{row.stored_frames} of {row.frames}"
    group = row.group or row.diagnosis.value
    return (row.subject, row.dataset, group, row.split, frames, row.slices, *volumes, "; ".join(entry.remarks))


def _article(entry: Entry) -> str:
    row, parts = entry.row, []
    kind = ' class="flagged"' if entry.remarks else ""
    parts.append(f'<article id="{_anchor((row.subject, row.dataset))}"{kind}>')
    parts.append(f"<h3>{escape(row.subject)}</h3>")
    parts.append(f'<p class="quiet">{escape(_facts(row))}</p>')
    if entry.remarks:
        parts.extend(["<ul>", *(f'<li class="flag">{escape(remark)}</li>' for remark in entry.remarks), "</ul>"])
    if row.notes:
        parts.append(f'<p class="quiet">Notes: {escape(row.notes)}</p>')
    if entry.png:
        picture = base64.b64encode(entry.png).decode("ascii")
        parts.append(f'<img loading="lazy" alt="{escape(row.subject)}" src="data:image/png;base64,{picture}">')
    return "\n".join((*parts, "</article>"))


def _facts(row: SubjectRow) -> str:
    size = f"{row.spacing_x_mm:.3g} x {row.spacing_y_mm:.3g} x {row.spacing_z_mm:.3g} mm, {row.slices} slices"
    time = f" of {row.frame_time_ms:.1f} ms" if row.frame_time_ms else ""
    frames = f"{row.stored_frames} of {row.frames} frames{time}, ED {row.ed_index}, ES {row.es_index}"
    heart = f"LV {_number(row.lv_edv_ml)} / {_number(row.lv_esv_ml)} mL, EF {_number(row.ef_percent)} %"
    if row.reported_lv_edv_ml or row.reported_lv_esv_ml:
        heart += f" (reported {_number(row.reported_lv_edv_ml)} / {_number(row.reported_lv_esv_ml)} mL)"
    origin = f"phases from {row.phases_from}, slice order {row.slices_from}"
    group = row.diagnosis.value if row.group in ("", row.diagnosis.value) else f"{row.group} ({row.diagnosis.value})"
    labels = f"labels: {row.coverage}" if row.coverage else f"labels: {row.labels or 'none'}"
    return " · ".join((row.dataset, row.vendor, group, row.split, size, frames, heart, labels, origin))


def _table(columns: Sequence[str], rows: Sequence[Sequence[object]], linked: bool = False) -> str:
    """A table; ``linked`` rows begin with a subject and its dataset, and lead to its contact sheet."""
    kinds = [' class="number"' if name in NUMBERS else "" for name in columns]
    head = "".join(f"<th{kind}>{escape(name)}</th>" for name, kind in zip(columns, kinds, strict=True))
    lines = []
    for row in rows:
        cells = [escape(str(value)) for value in row]
        if linked:
            cells[0] = f'<a href="#{_anchor(row)}">{cells[0]}</a>'
        lines.append("".join(f"<td{kind}>{cell}</td>" for cell, kind in zip(cells, kinds, strict=True)))
    body = "\n".join(f"<tr>{line}</tr>" for line in lines)
    return f'<div class="wide"><table>\n<tr>{head}</tr>\n{body}\n</table></div>'


def _anchor(row: Sequence[object]) -> str:
    """The mark of a subject on the page, from its name and its dataset."""
    return escape(f"{row[1]}_{row[0]}".replace(" ", "_"))


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


# --- A dataset as a page to look through -----------------------------------------------------------------------------
