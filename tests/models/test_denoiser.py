"""A denoiser on patches: the same code, fewer places to compute at."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from cinesynth.config import load_config
from cinesynth.config.schema import DenoiserConfig
from cinesynth.errors import ConfigError
from cinesynth.models.conditioning import encode_priors
from cinesynth.models.denoiser import DenoiserUNet
from cinesynth.types import ClinicalPrior, Diagnosis

PRIOR = ClinicalPrior(Diagnosis.DCM, 280.0, 210.0, 5)


def denoiser(patch: int) -> DenoiserUNet:
    torch.manual_seed(0)
    network = DenoiserUNet(DenoiserConfig(channels=(16, 32), blocks=1, patch=patch), channels=4, anatomy_channels=4)
    torch.nn.init.normal_(network.head.conv.weight, std=0.1)
    return network.eval()


def run(network: DenoiserUNet, code: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, int]:
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        out = network(code, torch.full((1,), 0.5), encode_priors([PRIOR]), mask, code.flip(2))
    return out, counter.get_total_flops()


def test_patches_of_two_cost_a_quarter_and_keep_the_shape() -> None:
    code, mask = torch.randn(1, 4, 16, 16, 6), torch.tensor([[False, True, True, True, True, False]])
    whole, dear = run(denoiser(1), code, mask)
    patched, cheap = run(denoiser(2), code, mask)
    assert whole.shape == patched.shape == code.shape
    assert 0.2 < cheap / dear < 0.35  # the stem and the head see four times the channels
    assert float(patched[..., ~mask[0]].abs().max()) == 0.0
    assert float(patched[..., mask[0]].abs().min(dim=-1).values.median()) > 0.0


def test_every_voxel_of_a_patch_has_its_own_answer() -> None:
    code, mask = torch.zeros(1, 4, 8, 8, 2), torch.ones(1, 2, dtype=torch.bool)
    network = denoiser(2)
    with torch.no_grad():
        network.head.conv.weight.zero_()
        network.head.conv.bias.copy_(torch.arange(16.0))  # (channel, row, column) of a patch
    out, _ = run(network, code, mask)
    assert out[0, 1, :2, :2, 0].tolist() == [[4.0, 5.0], [6.0, 7.0]]
    assert torch.equal(out[..., :2, :2, :], out[..., 6:, 2:4, :])


def test_a_grid_that_patches_do_not_fill_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"grid.size x = 96 is not a multiple of 64, the networks' stride"):
        load_config("small", ["anatomy_diffusion.denoiser.patch=4"])
