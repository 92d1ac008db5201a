"""What a CPU trains with computes the same as what it generates with."""

import torch
from torch import Tensor, nn

from cinesynth.models.denoiser import LONG, Attention
from cinesynth.models.layers import Conv


def results(module: nn.Module, *inputs: Tensor | None) -> list[Tensor]:
    """The output, and the gradients of its squares."""
    leaves = [x for x in (*inputs, *module.parameters()) if x is not None and x.requires_grad]
    out = module(*inputs)
    return [out, *torch.autograd.grad(out.square().sum(), leaves)]


def assert_trains_as_it_generates(module: nn.Module, *inputs: Tensor | None) -> None:
    for trained, generated in zip(
        results(module.double().train(), *inputs), results(module.eval(), *inputs), strict=True
    ):
        torch.testing.assert_close(trained, generated)


def test_a_convolution_in_the_plane_is_the_same_in_training() -> None:
    x = torch.randn(2, 3, 6, 5, 4, dtype=torch.double, requires_grad=True)
    assert_trains_as_it_generates(Conv(3, 7), x, torch.ones(2, 1, 1, 1, 4, dtype=torch.double))


def test_attention_is_the_same_in_training_also_where_tokens_do_not_count() -> None:
    tokens = torch.randn(2, LONG + 3, 8, dtype=torch.double, requires_grad=True)
    attend = torch.ones(2, LONG + 3, dtype=torch.bool)
    attend[1, 5:9] = False
    assert_trains_as_it_generates(Attention(8, heads=2), tokens, tokens, attend)
