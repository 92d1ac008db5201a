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
from cinesynth.models.texture import Texture
from cinesynth.types import UNCONDITIONAL


@dataclass(frozen=True)
class Networks:
    """The modules of the four stages, untrained, in the order of `STAGES`."""

    codec: Codec
    residual_motion: ResidualMotion
    anatomy_diffusion: LatentDiffusion
    motion_diffusion: LatentDiffusion

    @property
    def called(self) -> tuple[nn.Module, ...]:
        """The networks that are called in generation and annotation, by themselves."""
        vae = self.codec.vae
        return vae.encoder, *vae.decoders, self.anatomy_diffusion.network, self.motion_diffusion.network


def build_codec(config: Config) -> Codec:
    """Stage 1: the codec."""
    return Codec(config.vae, config.grid)


def build_residual_motion(config: Config) -> ResidualMotion:
    """Stage 2: M and the code of its residuals."""
    return ResidualMotion(config.residual_motion, config.vae.latent_channels)


def build_anatomy_diffusion(config: Config) -> LatentDiffusion:
    """Stage 3: clinical priors to the latent of ED."""
    settings, conditions = config.anatomy_diffusion, ConditionSet.of(config)
    network = DenoiserUNet(settings.denoiser, config.vae.latent_channels, condition_set=conditions)
    return LatentDiffusion(network, settings.diffusion)


def build_motion_diffusion(config: Config) -> LatentDiffusion:
    """Stage 4: latent of ED and priors to the code of the motion, with a phase as condition if codes are per frame."""
    settings, conditions = config.motion_diffusion, ConditionSet.of(config)
    latent, harmonics = config.vae.latent_channels, config.residual_motion.harmonics
    channels = 2 * harmonics * latent if harmonics else latent
    network = DenoiserUNet(settings.denoiser, channels, latent, phase=harmonics == 0, condition_set=conditions)
    return LatentDiffusion(network, settings.diffusion)


def build_texture(config: Config) -> Texture:
    """The texture network, which weights may have beside the four stages."""
    return Texture(config.texture, config.vendors)


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
    """Costs of the encoder, the decoders, M, both denoisers and, where the preset trains one, the texture network."""
    with torch.device("meta"):
        networks = build(config)
        x, y, z = config.grid.size
        image, mask = torch.empty(1, 1, x, y, z), torch.ones(1, z, dtype=torch.bool)
        latent = torch.empty(1, config.vae.latent_channels, *config.latent_size)
        time = torch.empty(1)
        conditions = encode_priors([UNCONDITIONAL], ConditionSet.of(config)).to("meta").at_phase(time)
        code = torch.empty(1, networks.residual_motion.code.channels, *config.latent_size)
        vae, residual = networks.codec.vae, networks.residual_motion.network
        anatomy, motion = networks.anatomy_diffusion.network, networks.motion_diffusion.network
        parts: tuple[tuple[str, nn.Module, Callable[[], object]], ...] = (
            ("encoder", vae.encoder, lambda: vae.encode(image, mask)),
            ("decoder", vae.decoders, lambda: vae.decode(latent, mask)),
            ("residual motion", residual, lambda: residual(latent, latent, mask)),
            ("anatomy denoiser", anatomy, lambda: anatomy(latent, time, conditions, mask)),
            ("motion denoiser", motion, lambda: motion(code, time, conditions, mask, latent)),
        )
        if config.training.texture is not None:
            texture = build_texture(config).network
            noise = torch.empty(1, texture.noise_channels, x, y, z)
            slices = [each.movedim(-1, 1).flatten(0, 1) for each in (image, noise)]  # Z 1 X Y, Z K X Y
            parts = (*parts, ("texture", texture, lambda: texture(*slices)))
        costs = []
        for name, module, forward in parts:
            with FlopCounterMode(display=False) as counter:
                forward()
            parameters = sum(p.numel() for p in module.parameters())
            costs.append(Cost(name, parameters, int(counter.get_total_flops())))
        return costs


def sequence_flops(config: Config, frames: int = 30) -> int:
    """FLOPs of one generated cine, including guidance and solver steps."""
    cost = {c.part: c.flops for c in count_costs(config)}
    total = (cost["decoder"] + cost.get("texture", 0)) * frames
    for name, trajectories in (("anatomy", 1), ("motion", _trajectories(config, frames))):
        settings = getattr(config, f"{name}_diffusion").diffusion
        passes = 1 if settings.guidance in (0.0, 1.0) else 2
        total += cost[f"{name} denoiser"] * settings.sampling_steps * passes * trajectories
    return total


def network_calls(config: Config, frames: int = 30) -> int:
    """Sequential denoiser calls for one cine; a guided step is one call with twice the batch."""
    of_motion = config.motion_diffusion.diffusion.sampling_steps * _trajectories(config, frames)
    return config.anatomy_diffusion.diffusion.sampling_steps + of_motion


def _trajectories(config: Config, frames: int) -> int:
    """Trajectories of the motion model: one for a whole cycle of harmonics, otherwise one for each frame after ED."""
    return 1 if config.residual_motion.harmonics else frames - 1
