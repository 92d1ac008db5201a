"""Reports of `cinesynth evaluate` that the server shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cinesynth.errors import CinesynthError, InputError
from cinesynth.evaluation.report import PAGE, read_report


class Reports:
    """Reports in a folder that is one report or holds several; the folder is listed at each request."""

    def __init__(self, folder: Path | None) -> None:
        if folder is not None and not folder.is_dir():
            raise InputError(
                f"{folder} is not a directory", hint="pass the --out of `cinesynth evaluate`, or a folder of several"
            )
        self.folder = folder

    def _found(self) -> list[Path]:
        if self.folder is None:
            return []
        return [path for path in (self.folder, *sorted(self.folder.iterdir())) if (path / PAGE).is_file()]

    def listed(self) -> list[dict[str, Any]]:
        """Number, name and verdict of each report."""
        return [
            {"number": number, "name": folder.name, "judgement": _judgement(folder)}
            for number, folder in enumerate(self._found())
        ]

    def page(self, number: int) -> Path | None:
        """Path of the page of one report; None if there is no such report."""
        found = self._found()
        return found[number] / PAGE if 0 <= number < len(found) else None


def _judgement(folder: Path) -> str:
    try:
        return str(read_report(folder).get("judgement") or "not judged")
    except (CinesynthError, AttributeError):
        return "unreadable"
