"""The reports of `cinesynth evaluate` that a server was told to show."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cinesynth.errors import CinesynthError, InputError
from cinesynth.evaluation.report import PAGE, read_report


class Reports:
    """Those in a folder: it is one itself, or holds some. They are found anew whenever they are asked for."""

    def __init__(self, folder: Path | None) -> None:
        if folder is not None and not folder.is_dir():
            raise InputError(
                f"{folder} is no folder", hint="name the --out of cinesynth evaluate, or a folder of several"
            )
        self.folder = folder

    def _found(self) -> list[Path]:
        if self.folder is None:
            return []
        return [path for path in (self.folder, *sorted(self.folder.iterdir())) if (path / PAGE).is_file()]

    def listed(self) -> list[dict[str, Any]]:
        """Number, name and judgement of each."""
        return [
            {"number": number, "name": folder.name, "judgement": _judgement(folder)}
            for number, folder in enumerate(self._found())
        ]

    def page(self, number: int) -> Path | None:
        """The page of one."""
        found = self._found()
        return found[number] / PAGE if 0 <= number < len(found) else None


def _judgement(folder: Path) -> str:
    try:
        return str(read_report(folder).get("judgement") or "not judged")
    except (CinesynthError, AttributeError):
        return "not readable"
