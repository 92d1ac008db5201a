"""The codec: a trained VAE with the scale of its latents, measured and stored with the weights it belongs to.

Everything behind it sees unit-scale latents that are zero on slices that were not acquired.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn

from cinesynth.config import GridConfig, VAEConfig
from cinesynth.models.layers import broadcast_mask
from cinesynth.models.masks import clean_mask
from cinesynth.models.vae import VAE, Decoded
from cinesynth.types import LabelArray


class Codec(nn.Module):
    """Image <-> unit-scale latent, and latent -> image and masks, on one voxel grid."""

    latent_mean: Tensor
    latent_std: Tensor

    def __init__(self, config: VAEConfig, grid: GridConfig) -> None:
        super().__init__()
        self.config = config
        self.grid = grid
        self.vae = VAE(config)
        self.register_buffer("latent_mean", torch.zeros(config.latent_channels))
        self.register_buffer("latent_std", torch.ones(config.latent_channels))

    @property
    def latent_size(self) -> tuple[int, int, int]:
        """``x y z`` of the latent grid."""
        x, y, z = self.grid.size
        return x // self.config.stride, y // self.config.stride, z

    def encode(self, image: Tensor, slice_mask: Tensor) -> Tensor:
        """Posterior mean of ``B 1 X Y Z`` images, unit scale, zero outside ``slice_mask`` (``B Z``)."""
        raw = self.vae.encode(image, slice_mask).mean
        unit = (raw - _per_channel(self.latent_mean)) / _per_channel(self.latent_std)
        return unit * broadcast_mask(slice_mask, unit)

    def decode(self, latent: Tensor, slice_mask: Tensor) -> Decoded:
        """Image and mask logits of unit-scale latents ``B C x y z``."""
        raw = latent * _per_channel(self.latent_std) + _per_channel(self.latent_mean)
        return self.vae.decode(raw * broadcast_mask(slice_mask, raw), slice_mask)

    def labels(self, logits: Tensor, slice_mask: Tensor) -> LabelArray:
        """Masks ``B X Y Z`` as people draw them (`masks`) of mask logits; background outside ``slice_mask``."""
        likeliest = logits.argmax(dim=1).to(torch.uint8).cpu().numpy()
        labels, pixel_mm2 = np.zeros_like(likeliest), math.prod(self.grid.spacing_mm[:2])
        for label, found, acquired in zip(labels, likeliest, slice_mask.cpu().numpy(), strict=True):
            label[..., acquired] = clean_mask(found[..., acquired], pixel_mm2)
        return labels

    @torch.no_grad()
    def measure_scale(self, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Set mean and standard deviation of each latent channel from (image, slice mask) batches."""
        count = 0.0
        total = torch.zeros_like(self.latent_mean, dtype=torch.float64)
        squares = torch.zeros_like(total)
        for image, slice_mask in batches:
            raw = self.vae.encode(image, slice_mask).mean.double()  # B C x y z
            kept = raw * broadcast_mask(slice_mask, raw)
            total += kept.sum(dim=(0, 2, 3, 4))
            squares += kept.square().sum(dim=(0, 2, 3, 4))
            count += float(slice_mask.sum()) * raw.shape[2] * raw.shape[3]
        if count == 0:
            raise ValueError("no acquired slice to measure the latent scale on")
        mean = total / count
        self.latent_mean.copy_(mean)
        self.latent_std.copy_((squares / count - mean.square()).clamp(min=1e-12).sqrt())


def _per_channel(values: Tensor) -> Tensor:
    return values[None, :, None, None, None]
