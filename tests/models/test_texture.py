"""Texture is added to images alone, slice by slice, from noise that only the case and the frame decide."""

import numpy as np
import pytest
import torch

from cinesynth.config.schema import TextureConfig
from cinesynth.models.texture import LARGEST, USUAL_DB, Texture

SIZE = (16, 24, 3)


@pytest.fixture
def texture() -> Texture:
    torch.manual_seed(0)
    made = Texture(TextureConfig(width=8, blocks=2)).eval().requires_grad_(False)
    torch.nn.init.normal_(made.network.head.weight, std=1.0)
    return made


def image(frames: int = 1, seed: int = 0) -> torch.Tensor:
    return torch.rand(frames, 1, *SIZE, generator=torch.Generator().manual_seed(seed)) - 0.5


def test_the_untrained_network_changes_nothing() -> None:
    fresh = Texture(TextureConfig(width=8, blocks=1))
    given = image()
    assert torch.equal(fresh(given, fresh.noise_of(1, [0], SIZE)), given)


def test_texture_is_bounded_and_stays_in_the_range_of_images(texture: Texture) -> None:
    given = image()
    made = texture(given, texture.noise_of(1, [0], SIZE))
    assert 0.1 < float((made - given).abs().max()) <= LARGEST
    assert float(texture(given * 2, texture.noise_of(1, [0], SIZE)).abs().max()) <= 1.0


def test_each_slice_has_its_own(texture: Texture) -> None:
    given, noise = image(), texture.noise_of(1, [0], SIZE)
    whole = texture(given, noise)
    alone = texture(given[..., 1:2], noise[..., 1:2])
    torch.testing.assert_close(alone, whole[..., 1:2])


def test_the_share_that_persists_is_the_correlation_of_two_frames(texture: Texture) -> None:
    for share in (0.0, 0.36, 1.0):
        texture.persistence.fill_(share)
        noise = texture.noise_of(4, [0, 7], (64, 64, 2))
        frames = [frame.flatten().numpy() for frame in noise]
        assert np.corrcoef(frames)[0, 1] == pytest.approx(share, abs=0.02)
        assert [float(np.std(frame)) for frame in frames] == pytest.approx([1.0, 1.0], abs=0.02)


def test_neighbouring_frames_share_more_and_the_cycle_closes(texture: Texture) -> None:
    texture.persistence.fill_(0.4)
    texture.continuity.fill_(0.3)
    noise = texture.noise_of(4, range(30), (64, 64, 2), 30).flatten(1).numpy()
    found = np.corrcoef(noise)
    assert found[0, 1] == pytest.approx(0.4 + 0.6 * 0.3, abs=0.03)
    assert found[0, 29] == pytest.approx(0.4 + 0.6 * 0.3, abs=0.03)
    assert found[0, 2] == pytest.approx(0.4, abs=0.03)
    assert noise.std(axis=1) == pytest.approx(np.ones(30), abs=0.03)
    few = texture.noise_of(4, range(15), (64, 64, 2), 15).flatten(1).numpy()
    assert np.corrcoef(few)[0, 1] == pytest.approx(0.4 + 0.6 * 0.3**2, abs=0.03)  # further apart in the cycle
    assert torch.equal(texture.noise_of(4, [7], SIZE), texture.noise_of(4, [3, 7], SIZE)[1:])


def test_noise_depends_on_case_and_frame_alone(texture: Texture) -> None:
    texture.persistence.fill_(0.5)
    together, alone = texture.noise_of(4, [3, 7, 7], SIZE), texture.noise_of(4, [7], SIZE)
    assert torch.equal(together[1], alone[0])
    assert torch.equal(together[1], together[2])
    assert not torch.equal(together[0], together[1])
    assert not torch.equal(texture.noise_of(5, [7], SIZE), alone)


def test_a_network_that_is_told_how_much_detail_to_add_adds_it_slice_by_slice() -> None:
    torch.manual_seed(0)
    told = Texture(TextureConfig(width=8, blocks=2, detail=True)).eval().requires_grad_(False)
    torch.nn.init.normal_(told.network.head.weight, std=0.1)
    given, noise = image(), told.noise_of(1, [0], SIZE)
    assert torch.equal(told(given, noise, 2.0), told(given, noise, 9.0))  # untrained, it does not listen
    for block in told.network.blocks:
        torch.nn.init.normal_(block.detail[-1].weight)
    little, much = (told(given, noise, detail_db) for detail_db in (2.0, 9.0))
    assert not torch.equal(little, much)
    torch.testing.assert_close(told(given[..., 1:2], noise[..., 1:2], 9.0), much[..., 1:2])


def test_detail_is_drawn_as_people_of_the_vendor_have_it() -> None:
    told = Texture(TextureConfig(width=8, blocks=1, detail=True), ("GE", "Philips"))
    told.detail_db.copy_(torch.tensor([[6.0, 3.0], [4.0, 1.0], [9.0, 0.0]]))
    assert [told.detail_of(name) for name in (None, "unheard of", "ge", "Philips")] == [6.0, 6.0, 4.0, 9.0]
    assert told.detail_of("Philips", seed=3) == 9.0
    drawn = [told.detail_of("GE", seed) for seed in range(400)]
    assert np.mean(drawn) == pytest.approx(4.0, abs=0.15)
    assert np.std(drawn) == pytest.approx(1.0, abs=0.2)
    assert drawn[7] == told.detail_of("GE", 7)
    assert Texture(TextureConfig(width=8, blocks=1)).detail_of("GE", 7) == USUAL_DB
