"""The texture stage: it trains on what the run's decoder makes, goes into the weights, and measures what persists."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from cinesynth.config import STAGES, Config, load_config, stages_of
from cinesynth.data.geometry import Grid
from cinesynth.data.ingest import ingest
from cinesynth.data.packed import prepare
from cinesynth.data.phantom import phantom_study
from cinesynth.errors import ConfigError, WeightsError
from cinesynth.models.conditioning import ConditionSet
from cinesynth.models.vae import Decoded
from cinesynth.training.adversary import Critics
from cinesynth.training.frames import FrameSampler
from cinesynth.training.run import train_all, train_stage
from cinesynth.training.texture_of_people import continuity, detail_of_people, persistence
from cinesynth.weights.bundle import verify_bundle, write_bundle
from cinesynth.weights.folder import Bundle, stage_info
from tests.training.test_decoder import DECODER
from tests.training.tiny import TINY

TEXTURE = "training.texture={steps: 3, batch_size: 2, validate_every_steps: 3, checkpoint_every_steps: 3}"


def quiet(*_: object) -> None:
    pass


@pytest.fixture(scope="module")
def config() -> Config:
    return load_config(
        "smoke", [*TINY, DECODER, TEXTURE, "texture={width: 8, blocks: 1, detail: true, continuity: true}"]
    )


@pytest.fixture(scope="module")
def run(phantoms: Path, config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("texture")
    train_all(phantoms, folder, config, quiet)
    return folder


def test_it_belongs_to_the_decoder_whose_images_it_saw(run: Path, config: Config) -> None:
    assert stages_of(config) == (*STAGES, "decoder", "texture")
    assert stage_info(run, "texture")["parents"] == {"decoder": stage_info(run, "decoder")["id"]}


def test_it_goes_into_the_weights_and_is_verified(run: Path, tmp_path: Path) -> None:
    write_bundle(run, tmp_path / "weights", {}, {})
    bundle = Bundle.load(tmp_path / "weights", precision="fp32")
    assert bundle.texture is not None
    assert not bundle.texture.training
    checks = {check.name: check.problem for check in verify_bundle(tmp_path / "weights")}
    assert checks["texture.safetensors"] == checks["network texture"] == checks["lineage"] == ""
    (tmp_path / "weights" / "texture.safetensors").write_bytes(b"other")
    with pytest.raises(WeightsError, match=r"texture\.safetensors was altered"):
        Bundle.load(tmp_path / "weights")


def test_texture_of_another_decoder_is_refused(run: Path, tmp_path: Path) -> None:
    write_bundle(run, tmp_path / "weights", {}, {})
    path = tmp_path / "weights" / "texture.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"parents": {"decoder": "0" * 64}}))
    with pytest.raises(WeightsError, match="texture was trained with decoder 000000000000"):
        Bundle.load(tmp_path / "weights")


def test_presets_without_its_settings_do_without(phantoms: Path, tiny: Config, tmp_path: Path) -> None:
    assert stages_of(load_config("compact")) == (*STAGES, "decoder", "texture")
    with pytest.raises(ConfigError, match="no settings for the stage texture"):
        train_stage("texture", phantoms, tmp_path, tiny, quiet)


def test_discriminators_tell_sharp_from_smooth_after_a_few_steps() -> None:
    torch.manual_seed(0)
    critics, smooth = Critics(), torch.zeros(4, 1, 32, 32)
    optimiser = torch.optim.Adam(critics.parameters(), 4e-3, betas=(0.0, 0.99))
    losses = []
    for _ in range(30):
        sharp = 0.5 * torch.randn(4, 1, 32, 32)
        losses.append(critics.d_loss(smooth, sharp, smooth))
        optimiser.zero_grad()
        losses[-1].backward()
        optimiser.step()
    assert float(losses[-1].detach()) < 0.5 < 1.9 < float(losses[0].detach())
    adversarial, distance = critics.g_loss(smooth.requires_grad_(), sharp, smooth)
    assert float(adversarial.detach()) > 0.0
    assert float(distance.detach()) > 0.0
    assert all(parameter.requires_grad for parameter in critics.parameters())
    (gradient,) = torch.autograd.grad(adversarial, [smooth])
    assert float(gradient.abs().sum()) > 0.0


class Loses(nn.Module):
    """A codec that loses noise: the same at ED and ES in ``shared`` of its power."""

    def __init__(self, shared: float, spacing_mm: tuple[float, float, float]) -> None:
        super().__init__()
        self.shared, self.calls = shared, 0
        self.latent_mean = torch.zeros(1)
        self.grid = type("G", (), {"spacing_mm": spacing_mm})

    def encode(self, image: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
        return image

    def decode(self, image: torch.Tensor, _: torch.Tensor) -> Decoded:
        self.calls += 1
        fixed, own = (torch.randn(image.shape, generator=torch.Generator().manual_seed(s)) for s in (0, self.calls))
        lost = self.shared**0.5 * fixed + (1 - self.shared) ** 0.5 * own
        return Decoded(image - lost, image.expand(-1, 4, -1, -1, -1))


class Halves(Loses):
    """A codec that halves amplitudes."""

    def decode(self, image: torch.Tensor, _: torch.Tensor) -> Decoded:
        return Decoded(0.5 * image, image.expand(-1, 4, -1, -1, -1))


def test_persistence_is_the_share_of_lost_texture_that_ed_and_es_have_in_common(phantoms: Path, tiny: Config) -> None:
    data = prepare(phantoms, Grid.from_config(tiny.grid)).split("train")
    frames = FrameSampler(data, 0, 1.0)
    for shared in (0.0, 0.5, 1.0):
        codec = Loses(shared, data.grid.spacing_mm)
        assert persistence(codec, frames, frames.phantoms[:2]) == pytest.approx(shared, abs=0.05)  # type: ignore[arg-type]
    assert persistence(Loses(0.5, data.grid.spacing_mm), frames, []) == 1.0  # type: ignore[arg-type]


class Drifts(Loses):
    """A codec that loses noise: that of one call is half that of the call before."""

    def decode(self, image: torch.Tensor, _: torch.Tensor) -> Decoded:
        self.calls += 1
        before, own = (
            torch.randn(image.shape, generator=torch.Generator().manual_seed(self.calls + s)) for s in (0, 1)
        )
        return Decoded(image - before - own, image.expand(-1, 4, -1, -1, -1))


def test_continuity_is_what_neighbours_share_beyond_what_persists(tmp_path: Path, tiny: Config) -> None:
    ingest([phantom_study(3, frames=30).study, phantom_study(4, frames=30).study], tmp_path / "cycles")
    data = prepare(tmp_path / "cycles", Grid.from_config(tiny.grid))
    frames = FrameSampler(data, 0, 1.0)
    codec = Drifts(0.0, data.grid.spacing_mm)
    assert continuity(codec, frames, frames.phantoms, 0.0) == pytest.approx(0.5, abs=0.05)  # type: ignore[arg-type]
    assert continuity(codec, frames, frames.phantoms, 0.3) == pytest.approx(0.2 / 0.7, abs=0.05)  # type: ignore[arg-type]
    assert continuity(codec, frames, [], 0.3) == 0.0  # type: ignore[arg-type]


def test_detail_is_measured_for_each_vendor_that_has_enough_people(phantoms: Path, tiny: Config) -> None:
    data = prepare(phantoms, Grid.from_config(tiny.grid)).split("train")
    frames = FrameSampler(data, 0, 1.0)
    vendors = ConditionSet(("vendor",), sorted({record.vendor for record in data.records}))
    found = detail_of_people(Halves(0.0, data.grid.spacing_mm), frames, frames.phantoms, vendors)  # type: ignore[arg-type]
    assert found.shape == (1 + len(vendors.vendors), 2)
    torch.testing.assert_close(found[:, 0], torch.full((len(found),), 6.02), rtol=0.0, atol=0.3)  # twice the amplitude


def test_weights_without_texture_may_be_where_training_starts(run: Path, config: Config, phantoms: Path) -> None:
    other = run.parent / "older"
    for stage in ("vae", "decoder"):
        for suffix in (".json", ".safetensors"):
            (other / "to").mkdir(parents=True, exist_ok=True)
            (other / f"{stage}{suffix}").write_bytes((run / f"{stage}{suffix}").read_bytes())
            (other / "to" / f"{stage}{suffix}").write_bytes((run / f"{stage}{suffix}").read_bytes())
    info = train_stage("texture", phantoms, other / "to", config, quiet, initial=other)
    assert "started_from" not in info
