"""The VAE: closed-form KL, thick slices, and that padding never reaches a real slice."""

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from cinesynth.config import load_config
from cinesynth.models.build import build_codec
from cinesynth.models.layers import depth_to_space, space_to_depth
from cinesynth.models.vae import VAE, Posterior


@pytest.fixture
def vae():
    torch.manual_seed(0)
    return VAE(load_config("smoke").vae).eval()


def mask_of(*acquired: int, depth: int = 12) -> torch.Tensor:
    mask = torch.zeros(1, depth, dtype=torch.bool)
    mask[0, list(acquired)] = True
    return mask


def test_kl_is_the_divergence_of_torch_distributions():
    """Defect 3: the head is a log-variance, not a standard deviation."""
    torch.manual_seed(0)
    mean, log_variance = torch.randn(2, 3, 4, 4, 5), torch.randn(2, 3, 4, 4, 5)
    mask = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], dtype=torch.bool)
    expected = kl_divergence(Normal(mean, (0.5 * log_variance).exp()), Normal(0.0, 1.0))
    kept = expected.movedim(-1, 1)[mask]
    torch.testing.assert_close(Posterior(mean, log_variance).kl(mask), kept.mean())


def test_kl_of_the_standard_normal_is_zero():
    zero = torch.zeros(1, 2, 2, 2, 3)
    assert float(Posterior(zero, zero).kl(torch.ones(1, 3, dtype=torch.bool))) == 0.0


def test_sampling_spreads_by_the_standard_deviation():
    torch.manual_seed(0)
    posterior = Posterior(torch.full((1, 1, 50, 50, 4), 2.0), torch.full((1, 1, 50, 50, 4), 2.0))
    drawn = posterior.sample(torch.randn(1, 1, 50, 50, 4))
    assert float(drawn.mean()) == pytest.approx(2.0, abs=0.1)
    assert float(drawn.std()) == pytest.approx(2.71828, abs=0.1)


def test_computing_only_acquired_slices_gives_the_same_numbers(vae):
    torch.manual_seed(1)
    image, mask = torch.randn(1, 1, 64, 64, 12), mask_of(*range(2, 9))
    whole = vae.encode(image, mask).mean
    part = vae.encode(image[..., 2:9], mask[:, 2:9]).mean
    torch.testing.assert_close(whole[..., 2:9], part, rtol=0, atol=1e-5)
    decoded, decoded_part = vae.decode(whole, mask), vae.decode(part, mask[:, 2:9])
    torch.testing.assert_close(decoded.image[..., 2:9], decoded_part.image, rtol=0, atol=1e-5)


def test_padding_does_not_reach_acquired_slices(vae):
    torch.manual_seed(1)
    image, mask = torch.randn(1, 1, 64, 64, 12), mask_of(*range(3, 10))
    other = image.clone()
    other[..., :3] = 7.0
    torch.testing.assert_close(vae.encode(image, mask).mean[..., 3:10], vae.encode(other, mask).mean[..., 3:10])


def test_slices_not_acquired_decode_to_black_background(vae):
    decoded = vae.decode(torch.randn(1, 4, 8, 8, 12), mask_of(4, 5, 6))
    assert torch.all(decoded.image[..., :4] == -1.0)
    assert torch.all(decoded.logits.argmax(dim=1)[..., 7:] == 0)
    assert float(decoded.logits.softmax(dim=1)[:, 1:, ..., :4].max()) < 1e-6


def test_slices_talk_to_their_neighbours(vae):
    """The slice axis is mixed, not only looked at one by one."""
    torch.manual_seed(2)
    image, mask = torch.randn(1, 1, 64, 64, 12), mask_of(*range(12))
    other = image.clone()
    other[..., 5] += 1.0
    changed = (vae.encode(image, mask).mean - vae.encode(other, mask).mean).abs().amax(dim=(0, 1, 2, 3))
    assert changed[4] > 0
    assert changed[6] > 0


def test_space_to_depth_inverts():
    image = torch.randn(2, 1, 16, 24, 3)
    assert torch.equal(depth_to_space(space_to_depth(image, 4), 4), image)


def test_codec_latents_have_unit_scale():
    """Defect 2: the scale is measured, and stored with the weights."""
    torch.manual_seed(0)
    codec = build_codec(load_config("smoke")).eval()
    mask = torch.zeros(3, 12, dtype=torch.bool)
    mask[0, 2:9], mask[1, 1:11], mask[2, 4:8] = True, True, True
    images = torch.rand(3, 1, 64, 64, 12) * 2 - 1
    codec.measure_scale([(images[i : i + 1], mask[i : i + 1]) for i in range(3)])
    latents = codec.encode(images, mask).movedim(-1, 1)[mask]  # N C x y
    torch.testing.assert_close(latents.mean(dim=(0, 2, 3)), torch.zeros(4), atol=1e-4, rtol=0)
    torch.testing.assert_close(latents.var(dim=(0, 2, 3), unbiased=False).sqrt(), torch.ones(4), atol=1e-3, rtol=0)
    assert {"latent_mean", "latent_std"} <= set(codec.state_dict())
    assert torch.all(codec.encode(images, mask)[0, ..., :2] == 0)
    torch.testing.assert_close(
        codec.decode(codec.encode(images, mask), mask).image,
        codec.vae.decode(codec.vae.encode(images, mask).mean, mask).image,
        atol=1e-4,
        rtol=0,
    )
