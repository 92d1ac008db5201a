"""The table of a cohort, ``manifest.csv``: what was asked for, what came out, and the hashes of each case's files."""

from __future__ import annotations

import csv
import io
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from cinesynth.cases.reading import IMAGE, LABEL
from cinesynth.cases.writing import read_sidecar
from cinesynth.io.files import write_text, writing
from cinesynth.io.lock import holding
from cinesynth.types import FURTHER_CONDITIONS

MANIFEST = "manifest.csv"
REQUESTED = ("diagnosis", "lv_edv_ml", "lv_esv_ml", "ef_percent", "slices", *FURTHER_CONDITIONS)
ACHIEVED = (
    "lv_edv_ml",
    "lv_esv_ml",
    "ef_percent",
    "slices",
    "rv_edv_ml",
    "rv_esv_ml",
    "myo_ed_ml",
    "myo_es_ml",
    "myo_mass_g",
)
FIELDS = ("seed", "accepted", "frames", "es_index", "frame_time_ms")
HASHES = {"image_sha256": IMAGE, "label_sha256": LABEL}
"""Files of a case whose SHA-256 stands in its row."""
COLUMNS = (
    "case",
    *FIELDS,
    "anatomy_tries",
    "motion_tries",
    *(f"requested_{name}" for name in REQUESTED),
    *(f"achieved_{name}" for name in ACHIEVED),
    *HASHES,
)
PATIENCE = 20.0
"""The table is written again after so many times as long as writing it took: large ones cost a twentieth of a run."""
Row = dict[str, Any]


class Table:
    """The manifest of the cases called ``names`` in ``out``; the sidecar of a complete case is read once.

    Several processes may write the table of one cohort: each writes the cases of all that it finds complete, and the
    last one finds all. What a process that was killed left of writing it is removed where folders can be locked.
    """

    def __init__(self, out: Path, names: Sequence[str]) -> None:
        self.out, self.names = out, names
        self.rows: dict[str, Row] = {}
        self._due_s = 0.0
        with holding(out) as held:
            for path in out.glob(f".tmp-*-{MANIFEST}") if held else ():
                with suppress(OSError):
                    path.unlink()

    def refresh(self) -> None:
        """Write the table, unless that was done just now."""
        begun_s = time.monotonic()
        if begun_s >= self._due_s:
            self.write()
            self._due_s = time.monotonic() + PATIENCE * (time.monotonic() - begun_s)

    def write(self) -> list[Row]:
        """Write the table of the cases that are complete; returns its rows."""
        while True:
            with holding(self.out):
                self._read()
                rows = [self.rows[name] for name in self.names if name in self.rows]
                write_text(self.out / MANIFEST, _csv(rows))
            if not self._read():  # where nothing is locked, another process may have written a shorter one meanwhile
                return rows

    def _read(self) -> bool:
        """Take in the cases that are newly complete; whether there are any."""
        with writing(self.out):
            present = set(os.listdir(self.out))
        before = len(self.rows)
        for name in self.names:
            if name in present and name not in self.rows:
                content = read_sidecar(self.out / name)
                if content is not None:
                    self.rows[name] = manifest_row(name, content)
        return len(self.rows) > before


def write_manifest(out: Path, folders: Sequence[Path]) -> list[Row]:
    """Write the table of those case ``folders`` in ``out`` that are complete; returns its rows."""
    return Table(out, [folder.name for folder in folders]).write()


def manifest_row(case: str, content: dict[str, Any]) -> Row:
    """A case's row; what is unknown is None, an empty cell."""
    acceptance = content["provenance"]["acceptance"]
    return {
        "case": case,
        **{name: content[name] for name in FIELDS},
        "anatomy_tries": acceptance["anatomy"]["attempts"],
        "motion_tries": acceptance["motion"]["attempts"],
        **{f"requested_{name}": content["requested"].get(name) for name in REQUESTED},
        **{f"achieved_{name}": content["achieved"].get(name) for name in ACHIEVED},
        **{column: content["files"][name] for column, name in HASHES.items()},
    }


def _csv(rows: Sequence[Row]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
