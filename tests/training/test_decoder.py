"""The decoder trained once more: other images of the same latents, and a bundle whose stages still belong together."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from cinesynth.config import STAGES, Config, load_config, stages_of
from cinesynth.errors import ConfigError, WeightsError
from cinesynth.training.run import train_all, train_stage
from cinesynth.weights.bundle import write_bundle
from cinesynth.weights.folder import ENCODES_AS, Bundle, save_stage, stage_info
from tests.training.tiny import TINY

DECODER = (
    "training.decoder={steps: 4, batch_size: 2, validate_every_steps: 2, checkpoint_every_steps: 2, ema_decay: 0.0,"
    " losses: {adversarial: 0.1, perceptual: 0.1}}"
)


def quiet(*_: object) -> None:
    pass


@pytest.fixture(scope="module")
def config() -> Config:
    return load_config("smoke", [*TINY, DECODER])


@pytest.fixture(scope="module")
def run(phantoms: Path, config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("decoder")
    train_all(phantoms, folder, config, quiet)
    return folder


def test_the_encoder_stays_and_the_decoder_moves(run: Path) -> None:
    before, after = load_file(run / "vae.safetensors"), load_file(run / "decoder.safetensors")
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all(name.startswith("vae.decoders.") for name in changed)
    assert stage_info(run, "decoder")["parents"] == {"vae": stage_info(run, "vae")["id"]}


def test_it_goes_into_the_bundle_with_the_stages_of_its_latents(run: Path, tmp_path: Path) -> None:
    write_bundle(run, tmp_path / "weights", {}, {}, half=False)
    bundle = Bundle.load(tmp_path / "weights", precision="fp32")
    refined = load_file(run / "decoder.safetensors")
    for name, tensor in bundle.codec.state_dict().items():
        assert torch.equal(tensor, refined[name])
    record = stage_info(tmp_path / "weights", "vae")
    assert record["id"] == stage_info(run, "decoder")["id"]
    assert record[ENCODES_AS] == stage_info(run, "vae")["id"] == stage_info(run, "anatomy_diffusion")["parents"]["vae"]


def test_a_stage_on_the_codec_of_weights_records_whose_latents_it_learns(
    run: Path, tmp_path: Path, tiny: Config
) -> None:
    write_bundle(run, tmp_path, {}, {})
    save_stage(tmp_path, "anatomy_diffusion", torch.nn.Linear(1, 1), tiny, {})
    assert stage_info(tmp_path, "anatomy_diffusion")["parents"] == {"vae": stage_info(run, "vae")["id"]}


def test_a_decoder_of_another_vae_is_not_bundled(run: Path, tmp_path: Path) -> None:
    other = tmp_path / "run"
    other.mkdir()
    for stage in (*STAGES, "decoder"):
        for suffix in (".json", ".safetensors"):
            (other / f"{stage}{suffix}").write_bytes((run / f"{stage}{suffix}").read_bytes())
    record = json.loads((other / "decoder.json").read_text())
    (other / "decoder.json").write_text(json.dumps(record | {"parents": {"vae": "0" * 64}}))
    with pytest.raises(WeightsError, match="decoder was trained with vae 000000000000"):
        write_bundle(other, tmp_path / "weights", {}, {})


def test_presets_without_its_settings_do_without(phantoms: Path, tiny: Config, tmp_path: Path) -> None:
    assert stages_of(tiny) == STAGES
    assert stages_of(load_config("compact"))[: len(STAGES) + 1] == (*STAGES, "decoder")
    with pytest.raises(ConfigError, match="no settings for the stage decoder"):
        train_stage("decoder", phantoms, tmp_path, tiny, quiet)
