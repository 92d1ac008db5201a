"""The checker of annotated shapes finds what does not fit."""

import pytest
import torch

from cinesynth.models.layers import broadcast_mask
from cinesynth.models.vae import Posterior
from tests.shapes import ShapeError, with_shapes


def test_a_tensor_of_another_shape_or_type_is_an_error() -> None:
    checked = with_shapes(broadcast_mask)
    like = torch.zeros(2, 3, 4, 4, 5)
    assert checked(torch.ones(2, 5, dtype=torch.bool), like).shape == (2, 1, 1, 1, 5)
    for wrong in (torch.ones(2, 5), torch.ones(2, 5, 1, dtype=torch.bool)):
        with pytest.raises(ShapeError, match="slice_mask"):
            checked(wrong, like)


def test_every_test_of_networks_and_training_runs_with_the_checks() -> None:
    with pytest.raises(ShapeError, match=r"broadcast_mask: slice_mask is \(5,\)"):
        broadcast_mask(torch.ones(5, dtype=torch.bool), torch.zeros(2, 3, 4, 4, 5))
    with pytest.raises(ShapeError, match="noise"):
        Posterior(*torch.zeros(2, 1, 2, 3, 3, 4)).sample(torch.zeros(1, 2, 3, 4))


def test_letters_mean_one_number_in_one_call() -> None:
    make = with_shapes(Posterior.__init__)
    mean, other = torch.zeros(1, 2, 3, 3, 4), torch.zeros(1, 2, 3, 3, 5)
    posterior = Posterior(mean, mean)
    make(posterior.__class__.__new__(Posterior), mean, mean)
    with pytest.raises(ShapeError, match="log_variance"):
        make(posterior.__class__.__new__(Posterior), mean, other)
