"""Phantoms in the place of patients and of generated hearts: other seeds are other people."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cinesynth.data.geometry import Grid
from cinesynth.data.ingest import ingest
from cinesynth.data.packed import PackedDataset, prepare
from cinesynth.data.phantom import phantom_study
from cinesynth.evaluation.cases import CaseSet, cohort, patients
from cinesynth.synthesis.cohort import case_name, write_manifest
from cinesynth.synthesis.export.case import save_case
from cinesynth.types import Cine, ClinicalPrior, Label, Study

GRID = Grid((64, 64, 12), (3.0, 3.0, 10.0))
FRAMES = 8
PROVENANCE = {
    "request": {},
    "weights": {"sha256": ""},
    "acceptance": {"accepted": True, "anatomy": {"tries": 1}, "motion": {"tries": 1}},
}


def as_person(study: Study, number: int) -> Study:
    """A phantom under a name of its own in a dataset of patients."""
    return replace(study, subject=f"person{number:02d}", dataset="people")


@pytest.fixture(scope="session")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of 20 whole cycles: 14 in training, 2 in validation, 4 in test."""
    folder = tmp_path_factory.mktemp("people") / "dataset"
    ingest([as_person(phantom_study(100 + i, frames=FRAMES).study, i) for i in range(20)], folder)
    return folder


@pytest.fixture(scope="session")
def packed(people: Path) -> PackedDataset:
    return prepare(people, GRID)


@pytest.fixture(scope="session")
def train(packed: PackedDataset) -> CaseSet:
    return patients(packed.split("train"), "train")


@pytest.fixture(scope="session")
def held_out(packed: PackedDataset) -> CaseSet:
    return patients(packed.split("test"), "test")


def as_cine(packed: PackedDataset, index: int, seed: int) -> Cine:
    """A subject on the grid as if it had been generated, asked for just what it is."""
    case = patients(packed, "x")[index]
    return Cine(
        image=case.intensity,
        label=case.label,
        affine=np.diag([*GRID.spacing_mm, 1.0]),
        frame_time_ms=40.0,
        ed_index=case.ed,
        es_index=case.es,
        prior=ClinicalPrior(
            case.diagnosis, *(float(case.volumes_ml(Label.LV)[t]) for t in (case.ed, case.es)), case.label.shape[-1]
        ),
        seed=seed,
        provenance=PROVENANCE,
    )


def write_cohort(cines: list[Cine], folder: Path) -> Path:
    """A cohort folder as `cinesynth generate --count` leaves it."""
    for number, cine in enumerate(cines):
        save_case(cine, folder / case_name(number), pictures=False)
    write_manifest(folder, [folder / case_name(number) for number in range(len(cines))])
    return folder


@pytest.fixture(scope="session")
def cohort_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve good "generated" hearts: phantoms that nobody in `people` is."""
    base = tmp_path_factory.mktemp("cohort")
    ingest([as_person(phantom_study(300 + i, frames=FRAMES).study, i) for i in range(12)], base / "data")
    data = prepare(base / "data", GRID)
    return write_cohort([as_cine(data, i, seed=i) for i in range(12)], base / "cohort")


@pytest.fixture(scope="session")
def synthetic(cohort_folder: Path) -> CaseSet:
    return cohort(cohort_folder)
