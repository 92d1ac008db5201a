"""Sharpness is a share of power: what blurs, doubles or copies an image changes it by known decibels."""

import pytest
import torch

from cinesynth.training.appearance import gaussian_blur
from cinesynth.training.losses import RINGS, alternate_slices, band_powers, detail_db, sharpness_db, spectrum_distance


@pytest.fixture
def noise() -> torch.Tensor:
    return torch.randn(64, 1, 96, 64, generator=torch.Generator().manual_seed(0))


def test_white_noise_has_one_power_in_every_ring(noise: torch.Tensor) -> None:
    window = (3 / 8) ** 2  # mean square of a Hann window, in both axes
    powers = band_powers(noise).mean(dim=0)
    assert powers.shape == (RINGS,)
    torch.testing.assert_close(powers[1:], torch.full((RINGS - 1,), window), rtol=0.1, atol=0.0)


def test_twice_the_amplitude_is_six_decibels(noise: torch.Tensor) -> None:
    assert sharpness_db(noise, noise) == 0.0
    assert sharpness_db(2 * noise, noise) == pytest.approx(6.02, abs=0.01)
    assert float(spectrum_distance(2 * noise, noise)) == pytest.approx(torch.log(torch.tensor(4.0)).item(), rel=0.01)


def test_the_detail_of_a_case_is_the_mean_of_its_acquired_slices(noise: torch.Tensor) -> None:
    mask = torch.tensor([[True, True, False], [False, True, False]])
    louder = torch.tensor([1.0, 2.0, 4.0])[:, None, None, None] * noise[:3]  # 0, 6 and 12 dB
    torch.testing.assert_close(
        detail_db(noise[:3], louder, mask), torch.tensor([3.01, 3.01, 12.04]), rtol=0.0, atol=0.01
    )


def test_blur_takes_fine_detail_and_another_texture_does_not(noise: torch.Tensor) -> None:
    soft = torch.stack([gaussian_blur(image[..., None], 1.0, (1.0, 1.0))[..., 0] for image in noise])
    assert sharpness_db(soft, noise) < -15.0
    other = noise.flip(0)
    assert abs(sharpness_db(other, noise)) < 0.3
    assert float(spectrum_distance(other, noise)) < 0.2 * float(spectrum_distance(soft, noise))


def test_the_distance_has_a_gradient_on_black_slices() -> None:
    black = torch.full((2, 1, 32, 32), -1.0, requires_grad=True)
    spectrum_distance(black, -torch.ones(2, 1, 32, 32)).backward()
    assert black.grad is not None
    assert bool(black.grad.isfinite().all())


def test_a_discriminator_sees_every_second_slice_in_turn() -> None:
    volume = torch.arange(6.0)[None, None, None, None]
    mask = torch.tensor([[False, True, True, True, True, True]])
    seen = [alternate_slices(volume, mask, step).flatten().tolist() for step in (0, 1)]
    assert seen == [[1.0, 3.0, 5.0], [2.0, 4.0]]
