"""Pipelines of random weights."""

from pathlib import Path

import pytest

from cinesynth.synthesis.pipeline import CinePipeline
from cinesynth.types import Cine, ClinicalPrior, Diagnosis
from tests.bundles import make_bundle, one_thread, weights

__all__ = ["one_thread", "weights"]


@pytest.fixture(scope="package")
def pipe(weights: Path) -> CinePipeline:
    return CinePipeline.from_pretrained(weights, device="cpu")


@pytest.fixture(scope="package")
def per_frame_pipe(tmp_path_factory: pytest.TempPathFactory) -> CinePipeline:
    """As in the paper: one residual a frame, tokens, group norms."""
    conditioning = [f"{stage}.denoiser.conditioning=cross_attention" for stage in ("anatomy", "dynamics")]
    changes = ["motion.harmonics=0", "vae.norm=group", "anatomy.diffusion.guidance=2", *conditioning]
    return CinePipeline.from_pretrained(make_bundle(tmp_path_factory.mktemp("per_frame"), *changes), device="cpu")


@pytest.fixture(scope="package")
def cine(pipe: CinePipeline) -> Cine:
    return pipe(ClinicalPrior.from_ef(Diagnosis.DCM, 280.0, 25.0, slices=7), frames=6, seed=7)
