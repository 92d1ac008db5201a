"""Networks from a config: the only place where the shapes of the four stages are tied together, and their costs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from cinesynth.config import Config
from cinesynth.models.codec import Codec
from cinesynth.models.conditioning import ConditionSet, encode_priors
from cinesynth.models.denoiser import DenoiserUNet
from cinesynth.models.diffusion import LatentDiffusion
from cinesynth.models.residual_motion import ResidualMotion
from cinesynth.types import UNCONDITIONAL


@dataclass(frozen=True)
class Networks:
    """The modules of the four stages, untrained, in the order of `STAGES`."""

    codec: Codec
    residual_motion: ResidualMotion
    anatomy_diffusion: LatentDiffusion
    motion_diffusion: LatentDiffusion


def build_codec(config: Config) -> Codec:
    """Stage 1: the codec."""
    return Codec(config.vae, config.grid)


def build_residual_motion(config: Config) -> ResidualMotion:
    """Stage 2: M and the code of its residuals."""
    return ResidualMotion(config.residual_motion, config.vae.latent_channels)


def build_anatomy_diffusion(config: Config) -> LatentDiffusion:
    """Stage 3: clinical priors to the latent of ED."""
    network = DenoiserUNet(
        config.anatomy_diffusion.denoiser, config.vae.latent_channels, condition_set=ConditionSet.of(config)
    )
    return LatentDiffusion(network, config.anatomy_diffusion.diffusion)


def build_motion_diffusion(config: Config) -> LatentDiffusion:
    """Stage 4: latent of ED and priors to the code of the motion, with a phase as condition if codes are per frame."""
    latent = config.vae.latent_channels
    harmonics = config.residual_motion.harmonics
    channels = 2 * harmonics * latent if harmonics else latent
    condition_set = ConditionSet.of(config)
    network = DenoiserUNet(
        config.motion_diffusion.denoiser, channels, latent, phase=harmonics == 0, condition_set=condition_set
    )
    return LatentDiffusion(network, config.motion_diffusion.diffusion)


def build(config: Config) -> Networks:
    """The networks of all four stages."""
    return Networks(
        build_codec(config),
        build_residual_motion(config),
        build_anatomy_diffusion(config),
        build_motion_diffusion(config),
    )


# --- Costs of a preset, counted on the meta device -------------------------------------------------------------------


@dataclass(frozen=True)
class Cost:
    """One part of a preset: parameters, and FLOPs of one forward pass of one case with every slice acquired."""

    part: str
    parameters: int
    flops: int


def count_costs(config: Config) -> list[Cost]:
    """Costs of the encoder, the decoders, M and both denoisers."""
    with torch.device("meta"):
        networks = build(config)
        x, y, z = config.grid.size
        image, mask = torch.empty(1, 1, x, y, z), torch.ones(1, z, dtype=torch.bool)
        latent = torch.empty(1, config.vae.latent_channels, *config.latent_size)
        time = torch.empty(1)
        conditions = encode_priors([UNCONDITIONAL], ConditionSet.of(config)).to("meta").at_phase(time)
        code = torch.empty(1, networks.residual_motion.code.channels, *config.latent_size)
        vae, anatomy, motion = networks.codec.vae, networks.anatomy_diffusion.network, networks.motion_diffusion.network
        return [
            Cost("encoder", _parameters(vae.encoder), _flops(lambda: vae.encode(image, mask))),
            Cost("decoder", _parameters(vae.decoders), _flops(lambda: vae.decode(latent, mask))),
            Cost(
                "residual motion",
                _parameters(networks.residual_motion.network),
                _flops(lambda: networks.residual_motion.network(latent, latent, mask)),
            ),
            Cost("anatomy denoiser", _parameters(anatomy), _flops(lambda: anatomy(latent, time, conditions, mask))),
            Cost(
                "motion denoiser",
                _parameters(motion),
                _flops(lambda: motion(code, time, conditions, mask, latent)),
            ),
        ]


def sequence_flops(config: Config, frames: int = 30) -> int:
    """FLOPs of one generated cine, including guidance and solver steps."""
    cost = {c.part: c.flops for c in count_costs(config)}
    anatomy, motion = config.anatomy_diffusion.diffusion, config.motion_diffusion.diffusion
    of_anatomy = cost["anatomy denoiser"] * anatomy.sampling_steps * _passes(anatomy.guidance)
    a_trajectory = cost["motion denoiser"] * motion.sampling_steps * _passes(motion.guidance)
    return of_anatomy + a_trajectory * _trajectories(config, frames) + cost["decoder"] * frames


def network_calls(config: Config, frames: int = 30) -> int:
    """Sequential denoiser calls for one cine; a guided step is one call with twice the batch."""
    of_motion = config.motion_diffusion.diffusion.sampling_steps * _trajectories(config, frames)
    return config.anatomy_diffusion.diffusion.sampling_steps + of_motion


def _trajectories(config: Config, frames: int) -> int:
    """Trajectories of the motion model: one for a whole cycle of harmonics, otherwise one for each frame after ED."""
    return 1 if config.residual_motion.harmonics else frames - 1


def _passes(guidance: float) -> int:
    return 1 if guidance in (0.0, 1.0) else 2


def _parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def _flops(call: Callable[[], object]) -> int:
    with FlopCounterMode(display=False) as counter:
        call()
    return int(counter.get_total_flops())
