"""What a diffusion stage makes of a batch."""

from dataclasses import replace

import pytest
import torch

from cinesynth.config import Config, load_config
from cinesynth.models.build import build_anatomy_diffusion
from cinesynth.training.stages.diffusion import DiffusionStage, Example, TrainableDiffusion, acquired_window
from cinesynth.types import ClinicalPrior, Diagnosis
from tests.training.tiny import TINY


def example(config: Config, first: int, count: int) -> Example:
    mask = torch.zeros(config.latent_size[2], dtype=torch.bool)
    mask[first : first + count] = True
    generator = torch.Generator().manual_seed(first)
    clean = torch.randn(config.vae.latent_channels, *config.latent_size, generator=generator) * mask
    return Example(clean, ClinicalPrior(Diagnosis.HCM, 130.0, 40.0, count), mask)


def test_slices_that_no_case_acquired_are_left_out_and_change_nothing(tiny: Config) -> None:
    examples = [example(tiny, 2, 3), example(tiny, 1, 4)]
    assert acquired_window(torch.stack([e.slice_mask for e in examples])) == slice(1, 5)
    model = TrainableDiffusion(build_anatomy_diffusion(tiny))
    torch.nn.init.normal_(model.diffusion.network.head.conv.weight, std=0.1)
    stage = DiffusionStage("anatomy_diffusion", model, tiny, examples, examples)
    assert stage.crops
    seen: list[tuple[int, ...]] = []
    model.register_forward_pre_hook(lambda _, __, given: seen.append(given["clean"].shape), with_kwargs=True)
    noise, times = torch.randn(2, *examples[0].clean.shape), torch.tensor([0.3, 0.8])
    losses = []
    with torch.no_grad():
        for stage.crops in (True, False):
            losses.append(float(stage._loss(model, examples, [e.prior for e in examples], noise, times)))
    assert [shape[-1] for shape in seen] == [4, tiny.latent_size[2]]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_whole_cycles_of_patients_are_drawn_as_often_as_asked(tiny: Config) -> None:
    size = 2 * tiny.residual_motion.harmonics
    base = example(tiny, 0, 3)
    partial = [replace(base, observed=torch.diag(torch.tensor([1.0] + [0.0] * (size - 1)))) for _ in range(9)]
    whole, phantom = replace(base, observed=torch.eye(size)), replace(base, observed=torch.eye(size), phantom=True)
    assert [e.whole_cycle for e in (partial[0], whole, base)] == [False, True, False]

    def shares(*changes: str) -> tuple[float, float]:
        config = load_config("smoke", [*TINY, *(f"training.motion_diffusion.{change}" for change in changes)])
        stage = DiffusionStage("motion_diffusion", torch.nn.Identity(), config, [*partial, whole, phantom], [base])
        drawn = [stage._draw(step, 0) for step in range(2000)]
        return sum(e is whole for e in drawn) / 2000, sum(e.phantom for e in drawn) / 2000

    assert shares("phantom_share=0.2") == (pytest.approx(0.08, abs=0.02), pytest.approx(0.2, abs=0.03))
    expected = (pytest.approx(0.3 + 0.05, abs=0.03), pytest.approx(0.2, abs=0.03))
    assert shares("phantom_share=0.2", "whole_cycle_share=0.3") == expected
