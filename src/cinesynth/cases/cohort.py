"""The table of a cohort, ``cohort.csv``: request, result and file hashes of each case."""

from __future__ import annotations

import csv
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from cinesynth.cases.reading import read_sidecar
from cinesynth.cases.schema import IMAGE, LABEL
from cinesynth.errors import DataError
from cinesynth.io.files import holding, with_either_name, write_csv, writing
from cinesynth.types import FURTHER_CONDITIONS

COHORT_TABLE, OLD_COHORT_TABLE = "cohort.csv", "manifest.csv"
"""The table's name, and its name in cinesynth 0.1.0; the old file is read where the new one is missing."""
REQUESTED = ("diagnosis", "lv_edv_ml", "lv_esv_ml", "ef_percent", "slices", *FURTHER_CONDITIONS)
VOLUMES = ("lv_edv_ml", "lv_esv_ml", "ef_percent", "slices", "rv_edv_ml", "rv_esv_ml", "myo_ed_ml", "myo_es_ml")
ACHIEVED = (*VOLUMES, "myo_mass_g")
FIELDS = ("seed", "accepted", "frames", "es_index", "frame_time_ms")
HASHES = {"image_sha256": IMAGE, "label_sha256": LABEL}
COLUMNS = (
    "case",
    *FIELDS,
    "anatomy_attempts",
    "motion_attempts",
    *(f"requested_{name}" for name in REQUESTED),
    *(f"achieved_{name}" for name in ACHIEVED),
    *HASHES,
)
Row = dict[str, Any]


class CohortTable:
    """The table of the cases called ``names`` in ``out``. The sidecar of a complete case is read once.

    Several processes may write the table of one cohort: each writes every complete case that it finds, so the last
    write is complete. Temporary files of killed processes are removed if the file system can lock folders.
    """

    def __init__(self, out: Path, names: Sequence[str], patience: float = 20.0) -> None:
        # A refresh waits `patience` times the last writing time: a large table then takes a twentieth of a run.
        self.out, self.names, self.patience = out, names, patience
        self.rows: dict[str, Row] = {}
        self._due_s = 0.0
        with holding(out) as held:
            for path in out.glob(f".tmp-*-{COHORT_TABLE}") if held else ():
                with suppress(OSError):
                    path.unlink()

    def refresh(self) -> None:
        """Write the table unless it was written recently."""
        begun_s = time.monotonic()
        if begun_s >= self._due_s:
            self.write()
            self._due_s = time.monotonic() + self.patience * (time.monotonic() - begun_s)

    def write(self) -> list[Row]:
        """Write the rows of all complete cases and return them; `DataError` if a sidecar is damaged."""
        while True:
            with holding(self.out):
                self._read()
                rows = [self.rows[name] for name in self.names if name in self.rows]
                write_csv(self.out / COHORT_TABLE, COLUMNS, rows)
            if not self._read():  # without locks, another process may have written a shorter table meanwhile
                return rows

    def _read(self) -> bool:
        """Add newly completed cases; returns whether there were any."""
        with writing(self.out):
            present = set(os.listdir(self.out))
        before = len(self.rows)
        for name in self.names:
            if name in present and name not in self.rows:
                content = read_sidecar(self.out / name)
                if content is not None:
                    self.rows[name] = cohort_row(name, content)
        return len(self.rows) > before


def write_cohort_table(out: Path, folders: Sequence[Path]) -> list[Row]:
    """Write the table of the complete cases among ``folders`` in ``out``; returns its rows."""
    return CohortTable(out, [folder.name for folder in folders]).write()


def cohort_row(case: str, content: dict[str, Any]) -> Row:
    """The row of a case from its sidecar; unknown values are None, an empty cell."""
    acceptance = content["provenance"]["acceptance"]
    return {
        "case": case,
        **{name: content[name] for name in FIELDS},
        "anatomy_attempts": acceptance["anatomy"]["attempts"],
        "motion_attempts": acceptance["motion"]["attempts"],
        **{f"requested_{name}": content["requested"].get(name) for name in REQUESTED},
        **{f"achieved_{name}": content["achieved"].get(name) for name in ACHIEVED},
        **{column: content["files"][name] for column, name in HASHES.items()},
    }


def cohort_cases(folder: Path) -> tuple[str, ...]:
    """Names of the case folders in the table of a cohort; `DataError` if there is no readable table, or it is empty."""
    path = with_either_name(Path(folder) / COHORT_TABLE, Path(folder) / OLD_COHORT_TABLE)
    hint = "generate a cohort: cinesynth generate --count 50 --out COHORT"
    try:
        with path.open(encoding="utf-8", newline="") as file:
            names = tuple(row["case"] for row in csv.DictReader(file))
    except (OSError, UnicodeDecodeError, KeyError, csv.Error):
        raise DataError(f"{folder} is not a cohort: no readable {path.name} with a column 'case'", hint=hint) from None
    if not names:
        raise DataError(f"{folder} holds no case", hint=hint)
    return names
