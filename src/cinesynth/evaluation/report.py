"""The report: sections and the verdict on each, as one HTML page and as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cinesynth.config.migration import rename_keys
from cinesynth.errors import DataError
from cinesynth.evaluation.section import Judgement, Metric, Section, worst
from cinesynth.io.files import write_json, write_text
from cinesynth.reports import render_template

FORMAT = 2
PAGE, JSON = "index.html", "report.json"


@dataclass(frozen=True)
class SectionVerdict:
    """The judgement of one section and the metrics behind it."""

    title: str
    judgement: Judgement | None
    decided_by: str

    @classmethod
    def of(cls, section: Section, named: int = 5) -> SectionVerdict:
        """The worst judgement, with the first ``named`` metrics that have it; a pass is decided by all of them."""
        judgement, title = section.judgement, section.title
        missing = [m.missing for m in section.metrics if m.missing]
        if judgement is None:
            return cls(title, None, f"nothing could be judged: {missing[0]}" if missing else "no metric has a limit")
        names = [m.name for m in section.metrics if m.judgement == judgement]
        if judgement == "pass":
            without = f"; {len(missing)} without a value" if missing else ""
            return cls(title, judgement, f"all {len(names)} judged metrics{without}")
        more = f"; {len(names) - named} more" if len(names) > named else ""
        return cls(title, judgement, "; ".join(names[:named]) + more)


@dataclass(frozen=True)
class EvaluationReport:
    """What was compared (``metadata``) and what came out (``sections``)."""

    metadata: dict[str, Any]
    sections: tuple[Section, ...]

    @property
    def verdicts(self) -> list[SectionVerdict]:
        """One for each section, in their order."""
        return [SectionVerdict.of(section) for section in self.sections]

    @property
    def judgement(self) -> Judgement | None:
        """The worst of all sections."""
        return worst(section.judgement for section in self.sections)

    def to_json(self) -> dict[str, Any]:
        """Everything but the figures."""
        return {
            "format": FORMAT,
            "synthetic": True,
            "notice": "about synthetic images; research use only, not for clinical use",
            "judgement": self.judgement,
            "verdicts": [vars(verdict) for verdict in self.verdicts],
            "metadata": self.metadata,
            "sections": [section.to_json() for section in self.sections],
        }

    def to_html(self) -> str:
        """One page that needs no other file."""
        metadata, missing = self.metadata, missing_by_reason
        return render_template("evaluation.html", report=self, metadata=metadata, missing_of=missing, number=number)

    def write(self, folder: Path) -> None:
        """``report.json`` and ``index.html`` in ``folder``, each whole or not at all; `OutputError` on failure."""
        write_json(folder / JSON, self.to_json())
        write_text(folder / PAGE, self.to_html())


def number(value: object) -> str:
    """A number to read: three significant digits, thousands and integers whole; other values as they are."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return str(value)


def missing_by_reason(metrics: Sequence[Metric]) -> list[tuple[str, str, Judgement | None]]:
    """Names of the metrics without a value, why, and the judgement: a missing value may be a defect itself."""
    reasons: dict[tuple[str, Judgement | None], list[str]] = {}
    for m in metrics:
        if m.missing:
            reasons.setdefault((m.missing, m.judgement), []).append(m.name)
    return [(", ".join(names), reason, judgement) for (reason, judgement), names in reasons.items()]


# --- Reading ---------------------------------------------------------------------------------------------------------


def read_report(path: Path) -> dict[str, Any]:
    """The JSON of a report, from its file or its folder, in today's format; `DataError` where it is not a report."""
    path = Path(path) / JSON if Path(path).is_dir() else Path(path)
    try:
        content = migrated(json.loads(path.read_text(encoding="utf-8")))
        content["metadata"]["synthetic"], content["sections"], content["verdicts"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        hint = "write one with: cinesynth evaluate --real DATASET --synthetic COHORT --out FOLDER"
        raise DataError(f"{path} is not the report.json of an evaluation: {error!r}", hint=hint) from None
    if content.get("format") != FORMAT:
        raise DataError(f"{path} has format {content.get('format')}, expected {FORMAT}", hint="evaluate again")
    return content


def migrated(content: dict[str, Any]) -> dict[str, Any]:
    """A report of format 1 under today's keys; anything else as it is."""
    if content.get("format") != 1:
        return content
    metadata, names = content["about"], {"people": "subjects"}
    real = {key: rename_keys(part, names) if isinstance(part, dict) else part for key, part in metadata["real"].items()}
    metadata = {**metadata, "real": real, "synthetic": rename_keys(metadata["synthetic"], names)}
    sections = [rename_keys(section, {"measures": "metrics", "listings": "tables"}) for section in content["sections"]]
    return {**rename_keys(content, {"about": "metadata"}), "format": FORMAT, "metadata": metadata, "sections": sections}
