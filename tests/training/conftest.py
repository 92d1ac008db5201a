"""A small dataset of analytic hearts, and settings that train in seconds."""

from pathlib import Path

import pytest

from cinesynth.config import Config, load_config
from cinesynth.data.ingest import ingest
from cinesynth.data.sources.phantom import read_phantoms

TINY = [
    "training.vae.steps=4",
    "training.motion.steps=4",
    "training.anatomy.steps=4",
    "training.dynamics.steps=4",
    *[
        f"training.{stage}.{key}_every_steps=2"
        for stage in ("vae", "motion", "anatomy", "dynamics")
        for key in ("validate", "checkpoint")
    ],
    "training.vae.losses={adversarial: 0.1, perceptual: 0.1, adversarial_start_step: 1}",
    "training.anatomy.affine_copies=1",
]


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten phantoms of six frames: 7 in training, 1 in validation, 2 in test."""
    folder = tmp_path_factory.mktemp("phantoms") / "dataset"
    ingest(read_phantoms(10, frames=6), folder)
    return folder


@pytest.fixture(scope="session")
def tiny() -> Config:
    return load_config("smoke", TINY)
