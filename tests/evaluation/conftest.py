"""Phantoms in the place of patients and of generated hearts: other seeds are other people."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cinesynth.cases.cohort import write_cohort_table
from cinesynth.cases.writing import save_case
from cinesynth.config import load_config
from cinesynth.data.geometry import Grid
from cinesynth.data.ingest import ingest
from cinesynth.data.packed import PackedDataset, prepare
from cinesynth.data.phantom import phantom_study
from cinesynth.evaluation.cases import Case, CaseSet, cohort, patients
from cinesynth.evaluation.segmenter import Segmenter
from cinesynth.synthesis.cohort import case_name
from cinesynth.training.run import train_stage
from cinesynth.types import Cine, ClinicalPrior, Label, Study
from tests.once import made_once

GRID = Grid((64, 64, 12), (3.0, 3.0, 10.0))
FRAMES = 8
PROVENANCE = {
    "request": {},
    "weights": {"sha256": ""},
    "acceptance": {"accepted": True, "anatomy": {"attempts": 1}, "motion": {"attempts": 1}},
}


def as_person(study: Study, number: int) -> Study:
    """A phantom under a name of its own in a dataset of patients."""
    return replace(study, subject=f"person{number:02d}", dataset="people")


@pytest.fixture(scope="session")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of 20 whole cycles: 14 in training, 2 in validation, 4 in test."""

    def make(folder: Path) -> None:
        ingest([as_person(phantom_study(100 + i, frames=FRAMES).study, i) for i in range(20)], folder)
        prepare(folder, GRID)

    return made_once(tmp_path_factory, "people", make)


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
    return as_generated(patients(packed, "x")[index], seed)


def write_cohort(cines: list[Cine], folder: Path) -> Path:
    """A cohort folder as `cinesynth generate --count` leaves it."""
    for number, cine in enumerate(cines):
        save_case(cine, folder / case_name(number), pictures=False)
    write_cohort_table(folder, [folder / case_name(number) for number in range(len(cines))])
    return folder


@pytest.fixture(scope="session")
def cohort_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve good "generated" hearts: phantoms that nobody in `people` is."""

    def make(folder: Path) -> None:
        ingest([as_person(phantom_study(300 + i, frames=FRAMES).study, i) for i in range(12)], folder / "data")
        data = prepare(folder / "data", GRID)
        write_cohort([as_cine(data, i, seed=i) for i in range(12)], folder / "cohort")

    return made_once(tmp_path_factory, "cohort", make) / "cohort"


@pytest.fixture(scope="session")
def measured_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of the numbers of single hearts, shared by all evaluations of this test run that need no empty one."""
    return made_once(tmp_path_factory, "measurements", Path.mkdir)


@pytest.fixture(scope="session")
def synthetic(cohort_folder: Path) -> CaseSet:
    return cohort(cohort_folder)


def changed_cohort(source: Path, folder: Path, change: Callable[[Case, int], Case]) -> Path:
    """The cases of a cohort after ``change``, as a cohort of its own."""
    made = cohort(source)
    return write_cohort([as_generated(change(made[i], i), seed=i) for i in range(len(made))], folder)


def as_generated(case: Case, seed: int) -> Cine:
    """Any heart as if it had been generated, asked for just what its masks show."""
    volumes = (float(case.volumes_ml(Label.LV)[t]) for t in (case.ed, case.es))
    return Cine(
        image=case.intensity,
        label=case.label,
        affine=np.diag([*case.spacing_mm, 1.0]),
        frame_time_ms=case.frame_time_ms or 40.0,
        ed_index=case.ed,
        es_index=case.es,
        prior=case.requested or ClinicalPrior(case.diagnosis, *volumes, case.label.shape[-1]),
        seed=seed,
        provenance=PROVENANCE,
    )


def shuffled(case: Case, seed: int) -> Case:
    """All frames after ED in another order: what a generator without any idea of time would make."""
    order = [0, *(1 + np.random.default_rng(seed).permutation(len(case.image) - 1))]
    return replace(case, image=case.image[order], label=case.label[order])


def noisy(case: Case, seed: int, greys: float = 6.0) -> Case:
    """Gaussian noise on every frame, masks untouched."""
    noise = np.random.default_rng(seed).normal(0, greys, case.image.shape)
    return replace(case, image=np.clip(np.rint(case.image + noise), 0, 255).astype(np.uint8))


def shifted_masks(case: Case, shift_mm: float = 12.0) -> Case:
    """Masks moved in the plane, images untouched."""
    x, y = (round(shift_mm / step) for step in case.spacing_mm[:2])
    return replace(case, label=np.roll(case.label, (x, y), axis=(1, 2)))


@pytest.fixture(scope="session")
def segmenter(people: Path, tmp_path_factory: pytest.TempPathFactory) -> Segmenter:
    """An independent segmenter, trained for seconds on the people in training."""

    def make(folder: Path) -> None:
        train_stage("segmenter", people, folder, load_config("smoke"), lambda *_: None)

    return Segmenter.load(made_once(tmp_path_factory, "segmenter", make))
