"""The real people with masks of LV, myocardium and RV: 80 of ACDC, 64 of M&Ms at ED and ES, 10 of Najman throughout."""

from collections.abc import Iterator
from pathlib import Path

from cinesynth.data.sources.acdc import read_acdc
from cinesynth.data.sources.layout import load_layout
from cinesynth.data.sources.nifti import read_nifti
from cinesynth.types import Study


def people(cine_data: Path) -> Iterator[Study]:
    """On the grids of their scanners, read one by one."""
    yield from read_acdc(cine_data / "acdc")
    for name in ("mnms_edes", "najman4d"):
        yield from read_nifti(cine_data / name, load_layout(name))
