"""Subjects of studies: analytic hearts from four scanners."""

from dataclasses import replace
from pathlib import Path

import pytest

from cinesynth.data.ingest import ingest
from cinesynth.data.phantom import read_phantoms
from tests.once import made_once


@pytest.fixture(scope="session")
def twenty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty analytic hearts from four scanners, six frames each, that stand in for patients."""

    def make(folder: Path) -> None:
        source = read_phantoms(20, frames=6)
        studies = [replace(source.read(name), dataset="people") for name in source.names]
        ingest(studies, folder / "people", fractions=(0.6, 0.2, 0.2))

    return made_once(tmp_path_factory, "twenty", make) / "people"
