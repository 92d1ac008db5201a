"""Networks from a config: the one place where the four stages' shapes are tied together."""

from __future__ import annotations

from dataclasses import dataclass

from cinesynth.config import Config
from cinesynth.models.codec import Codec
from cinesynth.models.conditioning import ConditionSet
from cinesynth.models.denoiser import DenoiserUNet
from cinesynth.models.diffusion import LatentDiffusion
from cinesynth.models.residual_motion import Motion


@dataclass(frozen=True)
class Networks:
    """The four stages' modules, untrained."""

    codec: Codec
    motion: Motion
    anatomy: LatentDiffusion
    dynamics: LatentDiffusion


def build_codec(config: Config) -> Codec:
    """Stage 1."""
    return Codec(config.vae, config.grid)


def build_motion(config: Config) -> Motion:
    """Stage 2."""
    return Motion(config.motion, config.vae.latent_channels)


def build_anatomy(config: Config) -> LatentDiffusion:
    """Stage 3: priors to the ED latent."""
    network = DenoiserUNet(config.anatomy.denoiser, config.vae.latent_channels, told=ConditionSet.of(config))
    return LatentDiffusion(network, config.anatomy.diffusion)


def build_dynamics(config: Config) -> LatentDiffusion:
    """Stage 4: ED latent and priors to the motion code, with a phase where the code is per frame."""
    latent = config.vae.latent_channels
    harmonics = config.motion.harmonics
    channels = 2 * harmonics * latent if harmonics else latent
    told = ConditionSet.of(config)
    network = DenoiserUNet(config.dynamics.denoiser, channels, latent, phase=harmonics == 0, told=told)
    return LatentDiffusion(network, config.dynamics.diffusion)


def build(config: Config) -> Networks:
    """All four."""
    return Networks(build_codec(config), build_motion(config), build_anatomy(config), build_dynamics(config))
