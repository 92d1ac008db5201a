"""What a diffusion stage makes of a batch."""

import pytest
import torch

from cinesynth.config import Config
from cinesynth.models.build import build_anatomy
from cinesynth.training.stage_diffusion import DiffusionStage, Example, TrainableDiffusion, acquired_window
from cinesynth.types import ClinicalPrior, Diagnosis


def example(config: Config, first: int, count: int) -> Example:
    mask = torch.zeros(config.latent_size[2], dtype=torch.bool)
    mask[first : first + count] = True
    generator = torch.Generator().manual_seed(first)
    clean = torch.randn(config.vae.latent_channels, *config.latent_size, generator=generator) * mask
    return Example(clean, ClinicalPrior(Diagnosis.HCM, 130.0, 40.0, count), mask)


def test_slices_that_no_case_acquired_are_left_out_and_change_nothing(tiny: Config) -> None:
    examples = [example(tiny, 2, 3), example(tiny, 1, 4)]
    assert acquired_window(torch.stack([e.slice_mask for e in examples])) == slice(1, 5)
    model = TrainableDiffusion(build_anatomy(tiny))
    torch.nn.init.normal_(model.diffusion.network.head.conv.weight, std=0.1)
    stage = DiffusionStage("anatomy", model, tiny, examples, examples)
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
