"""The report: sections, the verdict of each, and what decided it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cinesynth.errors import DataError
from cinesynth.evaluation.section import Judgement, Section
from cinesynth.io.files import write_json, write_text

FORMAT = 1
PAGE, JSON = "index.html", "report.json"
NAMED = 5
"""Measures that a verdict names."""


@dataclass(frozen=True)
class Verdict:
    """The judgement of one section and the measures behind it."""

    title: str
    judgement: Judgement | None
    decided_by: str

    @classmethod
    def of(cls, section: Section) -> Verdict:
        """The worst judgement; a pass is decided by all measures together."""
        worst, title = section.judgement, section.title
        missing = [m.missing for m in section.measures if m.missing]
        if worst is None:
            return cls(title, None, f"nothing could be judged: {missing[0]}" if missing else "no measure has a limit")
        names = [m.name for m in section.measures if m.judgement == worst]
        if worst == "pass":
            return cls(title, worst, f"all {len(names)} judged measures" + _more(len(missing), " could not be made"))
        return cls(title, worst, "; ".join(names[:NAMED]) + _more(len(names) - NAMED, " more"))


def _more(count: int, what: str) -> str:
    return f"; {count}{what}" if count > 0 else ""


@dataclass(frozen=True)
class Report:
    """What was compared (``about``) and what was found."""

    about: dict[str, Any]
    sections: tuple[Section, ...]

    @property
    def verdicts(self) -> list[Verdict]:
        """One a section, in their order."""
        return [Verdict.of(section) for section in self.sections]

    @property
    def judgement(self) -> Judgement | None:
        """The worst of all sections."""
        found = [s.judgement for s in self.sections if s.judgement]
        return max(found, key=("pass", "warn", "fail").index) if found else None

    def to_json(self) -> dict[str, Any]:
        """Everything but the pictures."""
        return {
            "format": FORMAT,
            "synthetic": True,
            "notice": "about synthetic images; research use only, not for clinical use",
            "judgement": self.judgement,
            "verdicts": [vars(verdict) for verdict in self.verdicts],
            "about": self.about,
            "sections": [section.to_json() for section in self.sections],
        }

    def write(self, folder: Path) -> None:
        """``report.json`` and ``index.html`` in ``folder``, each wholly or not at all; `OutputError` on failure."""
        from cinesynth.evaluation.page import render

        write_json(folder / JSON, self.to_json())
        write_text(folder / PAGE, render(self))


def read_report(path: Path) -> dict[str, Any]:
    """The JSON of a report, from its file or its folder; `DataError` if it is none."""
    path = Path(path) / JSON if Path(path).is_dir() else Path(path)
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        content["about"]["synthetic"], content["sections"], content["verdicts"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path} is not the JSON of an evaluation: {error!r}", hint="make one: cinesynth evaluate"
        ) from None
    if content.get("format") != FORMAT:
        raise DataError(f"{path} has format {content.get('format')}, expected {FORMAT}", hint="evaluate again")
    return content


def number(value: object) -> str:
    """A number for people: three significant digits, whole thousands; anything else as it is."""
    if value is None:
        return "-"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int):
        return str(value)
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"


# --- What an evaluation found, as a page for people and as JSON for programs -----------------------------------------
