"""The tree of settings, each with its type, range and default."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from cinesynth.config.fields import Fraction, Positive, Settings, Spacing
from cinesynth.config.training import TrainingConfig
from cinesynth.types import CONDITIONS, CORE_CONDITIONS, Condition

STAGES = ("vae", "residual_motion", "anatomy_diffusion", "motion_diffusion")
"""The parts of a weights folder, in the order of training. Names of settings, files, folders and verbs follow them."""


class GridConfig(Settings):
    """The model's voxel grid, through-plane last."""

    size: tuple[Positive, Positive, Positive]
    spacing_mm: tuple[Spacing, Spacing, Spacing]


class NetConfig(Settings):
    """Settings that all convolutional networks share."""

    channels: tuple[Positive, ...] = Field(min_length=1)
    """Width of each level; the plane is halved between levels, the slice axis never."""
    blocks: Positive = 2
    kernel: Literal["2.5d", "3d"] = "2.5d"
    """``2.5d``: (3,3,1) convolutions and (1,1,3) slice mixing; ``3d``: (3,3,3)."""
    norm: Literal["layer", "group"] = "layer"


class VAEConfig(NetConfig):
    """The semi-supervised VAE."""

    latent_channels: Positive = 8
    space_to_depth: Literal[1, 2, 4] = 4
    """In-plane voxels folded into channels before the first convolution, along each axis."""
    separate_decoders: bool = False
    """Two decoders, as in the paper; otherwise one trunk with an image and a mask head."""

    @property
    def stride(self) -> int:
        """In-plane voxels that a latent voxel covers, along each axis."""
        halvings = len(self.channels) - 1
        return int(self.space_to_depth) << halvings


class TextureConfig(Settings):
    """The network that adds texture to decoded images, slice by slice."""

    width: Positive = 16
    """Channels; CPUs multiply in units of 16."""
    blocks: Positive = 4
    detail: bool = False
    """Whether the network is told how much detail to add; else it adds what is usual for such an image."""
    continuity: bool = False
    """Whether the noise of a frame is partly that of the next one, as far as it is in people's cycles."""


class ResidualMotionConfig(Settings):
    """The deterministic residual-motion model and the code of a cycle."""

    width: Positive = 64
    blocks: Positive = 3
    kernel: Literal["2.5d", "3d"] = "2.5d"
    norm: Literal["layer", "group"] = "layer"
    harmonics: Annotated[int, Field(ge=0, le=8)] = 3
    """Harmonics that represent a whole cycle; 0: one residual for each frame, as in the paper."""


class DenoiserConfig(NetConfig):
    """A latent U-Net."""

    patch: Literal[1, 2, 4] = 1
    """Latent voxels folded into channels before the first convolution, along each axis (Peebles and Xie, 2023)."""
    attention_levels: tuple[int, ...] = ()
    """Levels with self-attention, and with cross-attention if ``conditioning`` asks for it."""
    heads: Positive = 4
    condition_width: Positive = 128
    conditioning: Literal["adaptive_norm", "cross_attention"] = "adaptive_norm"
    coordinates: bool = True
    """Feed the network the in-plane position of each voxel and its height between base and apex."""
    slice_attention: bool = False
    """Attention along the slice axis at the attention levels, as in the paper's motion model."""


class DiffusionConfig(Settings):
    """The objective of training and the solver of generation."""

    objective: Literal["noise", "v", "flow"] = "flow"
    sampling_steps: Annotated[int, Field(ge=1, le=1000)] = 12
    solver: Literal["default", "euler", "heun", "ddim", "dpm-solver++", "unipc"] = "default"
    """Default: ``euler`` for flow, otherwise ``ddim``."""
    guidance: Annotated[float, Field(ge=0.0, le=20.0)] = 1.5
    guidance_interval: tuple[Fraction, Fraction] = (0.0, 1.0)
    """Times (1 is noise) between which guidance acts (Kynkäänniemi et al., 2024); outside, a step is one pass."""
    guidance_rescale: Fraction = 0.0
    """How far the norm of a guided output is moved back to that of the conditional one (Lin et al., 2024)."""
    time_shift: Annotated[float, Field(ge=0.1, le=20.0)] = 1.0
    """Above 1, training and sampling spend more time near pure noise, which suits redundant codes. Only for ``flow``:
    ``t -> s t / (1 + (s - 1) t)`` (Esser et al., 2024)."""
    condition_dropout: Fraction = 0.1
    """Probability that a case is trained without any condition."""
    field_dropout: Fraction = 0.1
    """Probability that a single condition of a case is unknown in training."""

    @property
    def solver_name(self) -> str:
        """The solver, with the default resolved."""
        if self.solver != "default":
            return self.solver
        return "euler" if self.objective == "flow" else "ddim"

    @model_validator(mode="after")
    def _solver_fits_the_objective(self) -> DiffusionConfig:
        flow_only, others_only = ("euler", "heun"), ("ddim",)
        wrong = others_only if self.objective == "flow" else flow_only
        if self.solver in wrong:
            raise ValueError(f"solver {self.solver} does not support the objective {self.objective}")
        if self.guidance_interval[0] > self.guidance_interval[1]:
            raise ValueError(f"guidance_interval {self.guidance_interval} begins after its end")
        return self


class SegmenterConfig(Settings):
    """The independent segmenter of the evaluation: a plain 2D U-Net on a slice and its neighbours."""

    channels: tuple[Positive, Positive, Positive, Positive, Positive] = (24, 48, 96, 128, 192)
    """Width of each level; the plane is halved between levels."""
    neighbours: Annotated[int, Field(ge=0, le=3)] = 1
    """Slices on either side that are input together with the one to segment."""


class DiffusionModelConfig(Settings):
    """A latent diffusion model: of the anatomy at ED or of the motion of a cycle."""

    denoiser: DenoiserConfig
    diffusion: DiffusionConfig = DiffusionConfig()


class Config(Settings):
    """The whole tree of settings."""

    preset: str
    grid: GridConfig
    vae: VAEConfig
    residual_motion: ResidualMotionConfig
    anatomy_diffusion: DiffusionModelConfig
    motion_diffusion: DiffusionModelConfig
    conditions: tuple[Condition, ...] = CORE_CONDITIONS
    """Conditions of both diffusion models: the core, and any of rv_edv_ml, rv_esv_ml, myo_mass_g and vendor."""
    vendors: tuple[str, ...] = ()
    """Vendors that the models can tell apart; if empty, training fills in those of its subjects."""
    texture: TextureConfig = TextureConfig()
    segmenter: SegmenterConfig = SegmenterConfig()
    training: TrainingConfig

    @field_validator("conditions")
    @classmethod
    def _with_the_core_and_in_order(cls, names: tuple[Condition, ...]) -> tuple[Condition, ...]:
        if missing := [name for name in CORE_CONDITIONS if name not in names]:
            raise ValueError(f"{missing[0]} is missing: every model needs {', '.join(CORE_CONDITIONS)}")
        return tuple(name for name in CONDITIONS if name in names)

    @model_validator(mode="after")
    def _vendors_are_a_condition(self) -> Config:
        if self.vendors and "vendor" not in self.conditions:
            raise ValueError("vendors are listed, but vendor is not among the conditions")
        return self

    @model_validator(mode="after")
    def _grid_fits_networks(self) -> Config:
        for axis, size in zip("xy", self.grid.size[:2], strict=True):
            if size % self.stride:
                raise ValueError(f"grid.size {axis} = {size} is not a multiple of {self.stride}, the networks' stride")
        return self

    @property
    def stride(self) -> int:
        """What ``grid.size`` in the plane is a multiple of: the VAE's stride times those of both denoisers."""
        nets = (self.anatomy_diffusion.denoiser, self.motion_diffusion.denoiser)
        return self.vae.stride * math.lcm(*(net.patch * 2 ** (len(net.channels) - 1) for net in nets))

    @property
    def latent_size(self) -> tuple[int, int, int]:
        """``x y z`` of the latent grid."""
        x, y, z = self.grid.size
        return x // self.vae.stride, y // self.vae.stride, z
