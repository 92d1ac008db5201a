"""Every preset's networks, counted on the meta device: nothing is allocated."""

import pytest
import torch
import yaml
from torch import nn

from cinesynth.config import dump_config, load_config, parse_config, presets
from cinesynth.models.build import Networks, build, network_calls, sequence_flops


def build_on_meta(preset: str) -> Networks:
    with torch.device("meta"):
        return build(load_config(preset))


def millions(module: nn.Module) -> float:
    return sum(p.numel() for p in module.parameters()) / 1e6


def parts(networks: Networks) -> dict[str, float]:
    vae = networks.codec.vae
    return {
        "vae": millions(vae),
        "encoder": millions(vae.encoder),
        **{f"decoder {i}": millions(d) for i, d in enumerate(vae.decoders)},
        "residual_motion": millions(networks.residual_motion),
        "anatomy_diffusion": millions(networks.anatomy_diffusion),
        "motion_diffusion": millions(networks.motion_diffusion),
    }


# Counted in the paper's released code at 192 x 192 x 16.
PAPER = {
    "vae": 9.7,
    "encoder": 2.7,
    "decoder 0": 3.5,
    "decoder 1": 3.5,
    "residual_motion": 1.4,
    "anatomy_diffusion": 797,
    "motion_diffusion": 576,
}


def test_paper_has_the_papers_parameter_counts() -> None:
    assert parts(build_on_meta("paper")) == pytest.approx(PAPER, rel=0.05)


def test_paper_has_the_papers_latent_and_recipe() -> None:
    config = load_config("paper")
    assert (config.vae.latent_channels, *config.latent_size) == (8, 24, 24, 16)
    assert config.residual_motion.harmonics == 0
    for stage in (config.anatomy_diffusion, config.motion_diffusion):
        assert stage.denoiser.conditioning == "cross_attention"
        assert (stage.diffusion.objective, stage.diffusion.sampling_steps, stage.diffusion.guidance) == ("noise", 30, 3)
    training = config.training
    stages = (training.vae, training.residual_motion, training.anatomy_diffusion, training.motion_diffusion)
    assert [s.steps for s in stages] == [100_000, 100_000, 200_000, 300_000]
    assert [s.batch_size for s in stages] == [2, 2, 10, 2]


def test_a_sequence_costs_what_the_papers_code_costs() -> None:
    """2642 TFLOP were counted for 30 frames of the released code; ``base`` aims at a hundredth."""
    paper = sequence_flops(load_config("paper"))
    assert paper / 1e12 == pytest.approx(2642, rel=0.05)
    assert sequence_flops(load_config("base")) < paper / 100


@pytest.mark.parametrize(("preset", "most"), [("smoke", 2.0), ("small", 40.0), ("base", 130.0)])
def test_compact_presets_stay_compact(preset: str, most: float) -> None:
    networks = build_on_meta(preset)
    total = sum(
        millions(m)
        for m in (networks.codec, networks.residual_motion, networks.anatomy_diffusion, networks.motion_diffusion)
    )
    assert total < most


@pytest.mark.parametrize("preset", presets())
def test_a_preset_survives_being_saved(preset: str) -> None:
    config = load_config(preset)
    assert config.preset == preset
    assert parse_config(yaml.safe_load(dump_config(config))) == config


@pytest.mark.parametrize("preset", presets())
def test_phantoms_teach_no_anatomy_where_there_are_patients(preset: str) -> None:
    """Decision 0007: generated anatomies are those of patients."""
    assert load_config(preset).training.anatomy_diffusion.phantom_share == 0.0


def test_a_cine_of_the_paper_is_900_calls_and_one_of_ours_as_many_as_there_are_steps() -> None:
    assert network_calls(load_config("paper"), frames=30) == 30 + 29 * 30
    compact = load_config("compact")
    steps = compact.anatomy_diffusion.diffusion.sampling_steps + compact.motion_diffusion.diffusion.sampling_steps
    assert network_calls(compact, frames=30) == network_calls(compact, frames=60) == steps
