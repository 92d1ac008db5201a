"""Settings of training: one class a stage."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from cinesynth.config.fields import Fraction, Positive, Settings, Weight
from cinesynth.types import Precision


class OptimConfig(Settings):
    """Optimisation of a stage."""

    steps: Positive
    batch_size: Positive
    learning_rate: Annotated[float, Field(gt=0.0, le=0.1)] = 2e-4
    discriminator_learning_rate: Annotated[float, Field(gt=0.0, le=0.1)] = 2e-4
    weight_decay: Annotated[float, Field(ge=0.0, le=1.0)] = 0.01
    warmup_steps: Annotated[int, Field(ge=0)] = 50
    final_learning_rate_fraction: Fraction = 0.05
    """Fraction of the learning rate at the end of the cosine decay; 1: constant."""
    ema_decay: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.999
    clip_norm: Annotated[float, Field(gt=0.0)] = 1.0
    phantom_share: Fraction = 0.5
    """Share of phantoms in a batch, if the dataset also holds patients."""
    validate_every_steps: Positive = 200
    checkpoint_every_steps: Positive = 200

    @property
    def betas(self) -> tuple[float, float]:
        """Memory of the optimiser, of gradients and of their squares."""
        return 0.9, 0.999


class AutoencodingLosses(Settings):
    """Loss weights of the stages that decode images."""

    l1: Weight = 1.0
    gradient: Weight = 1.0
    """Multi-scale image gradients: a loss on edges that needs no pretrained network."""
    spectrum: Weight = 0.0
    """Log power at each spatial frequency: the right amount of texture, wherever it lies."""
    perceptual: Weight = 0.0
    """Feature matching with the discriminator; needs ``adversarial``."""
    adversarial: Weight = 0.0
    adversarial_start_step: Annotated[int, Field(ge=0)] = 0
    dice_ce: Weight = 1.0
    kl: Weight = 1e-6
    kl_start_step: Annotated[int, Field(ge=0)] = 0
    kl_anneal_steps: Annotated[int, Field(ge=0)] = 0
    residual_energy: Weight = 0.0
    identity: Weight = 0.0
    residual_noise: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0
    """Standard deviation of the noise on the residual, decaying linearly to 0."""

    @model_validator(mode="after")
    def _perceptual_needs_a_discriminator(self) -> AutoencodingLosses:
        if self.perceptual > 0 and self.adversarial == 0:
            raise ValueError("perceptual (feature matching) needs adversarial above 0")
        return self


class DecodingTraining(OptimConfig):
    """A stage that decodes images."""

    losses: AutoencodingLosses = AutoencodingLosses()


class VAETraining(DecodingTraining):
    """Stage 1."""

    crop: tuple[Positive, Positive, Positive] | None = None
    """Voxels of the random training crop; none: the whole grid."""
    augment: bool = True


class DecoderTraining(VAETraining):
    """Fine-tuning of the decoder on noisy latents, so that small errors of the diffusion models do not show.

    After Zheng et al., *Diffusion Transformers with Representation Autoencoders*, 2025.
    """

    latent_noise: Annotated[float, Field(gt=0.0, le=2.0)] = 0.5
    """Largest standard deviation of the noise, relative to the latents'; each case draws one between 0 and this."""


class TextureLosses(Settings):
    """Loss weights of the texture stage."""

    coarse: Weight = 10.0
    """L1 of means over 4 x 4 pixels: texture changes no larger structure."""
    pixel: Weight = 1.0
    """L1 of pixels."""
    spectrum: Weight = 0.5
    """Log power at each spatial frequency: the discriminators alone give far too much detail at first."""
    adversarial: Weight = 0.5
    perceptual: Weight = 5.0
    """Feature matching with the discriminators."""


class TextureTraining(OptimConfig):
    """Training of the texture network on decoded frames, against discriminators of two sizes of patches."""

    steps: Positive = 2000
    batch_size: Positive = 4
    """Frames a step."""
    learning_rate: Annotated[float, Field(gt=0.0, le=0.1)] = 2e-4
    discriminator_learning_rate: Annotated[float, Field(gt=0.0, le=0.1)] = 4e-4
    phantom_share: Fraction = 0.0
    crop: tuple[Positive, Positive, Positive] | None = None
    """Voxels of the random training crop; none: the whole grid."""
    latent_noise: Annotated[float, Field(ge=0.0, le=2.0)] = 0.3
    """Largest standard deviation of the noise on latents, as in `DecoderTraining`."""
    losses: TextureLosses = TextureLosses()

    @property
    def betas(self) -> tuple[float, float]:
        """Without momentum: with it, generator and discriminators overtake each other, and the texture diverges."""
        return 0.0, 0.99


class DiffusionTraining(OptimConfig):
    """Stages 3 and 4."""

    affine_copies: Annotated[int, Field(ge=0, le=256)] = 8
    """Rescaled copies of each heart; the mask decoder measures their volumes."""
    amplitude_copies: Annotated[int, Field(ge=0, le=64)] = 0
    """Copies of each of them that move more or less, measured likewise (``motion_diffusion`` only)."""
    whole_cycle_share: Fraction = 0.0
    """Share of a batch drawn from patients with frames of the whole cycle (``motion_diffusion`` only). Most patients
    have ED and ES alone; without this share, the few that show the course between them would hardly be seen."""


class SegmenterTraining(OptimConfig):
    """Training of the segmenter: ten minutes on two cores with bf16 matrix units, at 96 x 96 pixels."""

    steps: Positive = 800
    batch_size: Positive = 4
    """Frames a step, with all their acquired slices."""
    learning_rate: Annotated[float, Field(gt=0.0, le=0.1)] = 2e-3
    ema_decay: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.99
    phantom_share: Fraction = 0.0
    augment: bool = True
    crop: tuple[Positive, Positive, Positive] | None = None
    """Voxels of the random training crop; none: the whole grid. Crops of a grid that covers the whole field of view
    show what surrounds a heart."""


class TrainingConfig(Settings):
    """The four stages and what they share."""

    seed: Annotated[int, Field(ge=0)] = 0
    precision: Precision = "auto"
    """``auto``: bf16 on accelerators and CPUs with bf16 matrix units, else fp32."""
    vae: VAETraining
    decoder: DecoderTraining | None = None
    """None: the decoder of the VAE is used without fine-tuning."""
    texture: TextureTraining | None = None
    """None: the decoder's images are used as they are."""
    residual_motion: DecodingTraining
    anatomy_diffusion: DiffusionTraining
    motion_diffusion: DiffusionTraining
    segmenter: SegmenterTraining = SegmenterTraining()
