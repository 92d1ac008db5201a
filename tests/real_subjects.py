"""The real subjects with masks of LV, myocardium and (but for Najman) RV; their own tables say how many there are."""

import csv
from collections.abc import Iterator
from pathlib import Path

from cinesynth.data.sources.acdc import read_acdc
from cinesynth.data.sources.layout import load_layout
from cinesynth.data.sources.nifti import read_nifti
from cinesynth.types import Study


def real_subjects(cine_data: Path) -> Iterator[Study]:
    """ACDC and M&Ms at ED and ES, Najman at every frame, each on its scanner's grid; read one by one."""
    yield from read_acdc(cine_data / "acdc")
    for name in ("mnms_edes", "najman4d"):
        yield from read_nifti(cine_data / name, load_layout(name))


def table(folder: Path) -> dict[str, dict[str, str]]:
    """``subjects.csv`` of a set by subject, read without the package."""
    with (folder / "subjects.csv").open(newline="") as file:
        return {row["subject"]: row for row in csv.DictReader(file)}


def acdc_patients(cine_data: Path) -> list[str]:
    """ACDC has no table: its folders."""
    return sorted(path.name for path in cine_data.glob("acdc/training/patient*"))
