"""Stage 1's network: one encoder, an image and a mask decoder on one latent (paper, section 2.1).

Compact presets fold the plane into channels before the first convolution, so that no layer runs at full resolution, and
share one decoder trunk for image and mask. With ``separate_decoders`` there are two, as in the paper.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cinesynth.config.schema import VAEConfig
from cinesynth.models.layers import Conv, Down, Stack, Up, broadcast_mask, depth_to_space, make_norm, space_to_depth
from cinesynth.types import Features, Image, Label, Latent, Logits, Scalar, SliceFactor, SliceMask


@dataclass(frozen=True)
class Posterior:
    """A diagonal Gaussian over latents."""

    mean: Latent
    log_variance: Latent

    def sample(self, noise: Latent) -> Latent:
        """``mean + sigma * noise``."""
        return self.mean + torch.exp(0.5 * self.log_variance) * noise

    def kl(self, slice_mask: SliceMask) -> Scalar:
        """KL divergence to N(0, 1) in nats, averaged over the elements of acquired slices."""
        # Kingma and Welling (2014), appendix B: (mu^2 + sigma^2 - 1 - log sigma^2) / 2
        elementwise = 0.5 * (self.mean.square() + self.log_variance.exp() - 1.0 - self.log_variance)
        mask = broadcast_mask(slice_mask, elementwise).expand_as(elementwise)
        return (elementwise * mask).sum() / mask.sum().clamp(min=1)


@dataclass(frozen=True)
class Decoded:
    """A decoded latent: image in [-1, 1] and mask logits."""

    image: Image
    logits: Logits


class Encoder(nn.Module):
    """Image to the parameters of the posterior, ``B 2C x y Z``."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        self.fold = config.space_to_depth
        widths = config.channels
        self.stem = Conv(self.fold**2, widths[0], config.kernel)
        self.stacks = nn.ModuleList(Stack(w, config.blocks, config.kernel, config.norm) for w in widths)
        self.downs = nn.ModuleList(Down(a, b) for a, b in pairwise(widths))
        self.norm = make_norm(config.norm, widths[-1])
        self.head = nn.Conv3d(widths[-1], 2 * config.latent_channels, 1)

    def forward(self, image: Image, mask: SliceFactor) -> Features:
        x = self.stem(space_to_depth(image, self.fold), mask)
        for level, stack in enumerate(self.stacks):
            x = stack(x, mask)
            if level < len(self.downs):
                x = self.downs[level](x)
        y: Tensor = self.head(F.silu(self.norm(x)))
        return y


class Decoder(nn.Module):
    """Latent to ``outputs`` channels at full resolution."""

    def __init__(self, config: VAEConfig, outputs: int) -> None:
        super().__init__()
        self.fold = config.space_to_depth
        widths = config.channels[::-1]
        self.stem = Conv(config.latent_channels, widths[0], config.kernel)
        self.stacks = nn.ModuleList(Stack(w, config.blocks, config.kernel, config.norm) for w in widths)
        self.ups = nn.ModuleList(Up(a, b, config.kernel) for a, b in pairwise(widths))
        self.norm = make_norm(config.norm, widths[-1])
        self.head = Conv(widths[-1], outputs * self.fold**2, config.kernel)

    def forward(self, latent: Latent, mask: SliceFactor) -> Features:
        x = self.stem(latent, mask)
        for level, stack in enumerate(self.stacks):
            x = stack(x, mask)
            if level < len(self.ups):
                x = self.ups[level](x, mask)
        return depth_to_space(self.head(F.silu(self.norm(x)), mask), self.fold)


class VAE(nn.Module):
    """The semi-supervised VAE. Its latents are raw; `Codec` owns their scale."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        outputs = (1, len(Label)) if config.separate_decoders else (1 + len(Label),)
        self.decoders = nn.ModuleList(Decoder(config, channels) for channels in outputs)

    def encode(self, image: Image, slice_mask: SliceMask) -> Posterior:
        """Posterior of images in [-1, 1]."""
        mean, log_variance = self.encoder(image, broadcast_mask(slice_mask, image)).chunk(2, dim=1)
        # The clamp keeps exp() finite in the first steps of training.
        return Posterior(mean.float(), log_variance.float().clamp(-20.0, 10.0))

    def decode(self, latent: Latent, slice_mask: SliceMask) -> Decoded:
        """Image and mask logits of raw latents; slices that were not acquired are black background."""
        mask = broadcast_mask(slice_mask, latent)
        out = torch.cat([decoder(latent, mask) for decoder in self.decoders], dim=1).float()  # B 1+4 X Y Z
        acquired = broadcast_mask(slice_mask, out)
        image = out[:, :1] * acquired - (1.0 - acquired)
        background = F.one_hot(torch.zeros((), dtype=torch.long), len(Label)).to(out) * 20.0  # softmax ~ 1 - 6e-9
        logits = out[:, 1:] * acquired + (1.0 - acquired) * background[None, :, None, None, None]
        return Decoded(image, logits)

    def forward(
        self, image: Image, slice_mask: SliceMask, noise: Latent, noise_std: Tensor | None = None
    ) -> tuple[Posterior, Decoded]:
        """Encode, sample with ``noise``, decode; ``noise_std`` (``B C 1 1 1``) replaces the posterior's deviation."""
        posterior = self.encode(image, slice_mask)
        latent = posterior.sample(noise) if noise_std is None else posterior.mean + noise_std * noise
        return posterior, self.decode(latent, slice_mask)
