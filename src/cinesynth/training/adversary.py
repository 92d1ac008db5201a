"""Discriminators of the texture stage: whether patches of a slice are an image's or were made for its decoded form."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from cinesynth.types import Scalar, Slices

LARGE = ((32, 4, 2), (64, 4, 2), (128, 4, 2), (128, 4, 1), (1, 4, 1))
"""Channels, kernel and stride of each layer. A patch has 70 pixels (Isola et al., 2017)."""
SMALL = ((32, 4, 2), (64, 3, 1), (64, 3, 1), (1, 1, 1))
"""A patch has 12 pixels: grain and edges, whatever they belong to."""


class PatchCritic(nn.Module):
    """A patch discriminator with spectral normalisation (Miyato et al., 2018)."""

    def __init__(self, layers: Sequence[tuple[int, int, int]], channels: int = 2) -> None:
        super().__init__()
        widths = [channels, *(width for width, _, _ in layers)]
        self.layers = nn.ModuleList(
            spectral_norm(nn.Conv2d(widths[i], width, kernel, stride, padding=kernel // 2))
            for i, (width, kernel, stride) in enumerate(layers)
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """Features of each layer; the last ones say how real each patch looks."""
        features: list[Tensor] = []
        for layer in self.layers:
            x = layer(F.leaky_relu(x, 0.2) if features else x)
            features.append(x)
        return features


class Critics(nn.Module):
    """Two discriminators; both see a slice beside its decoded form, so that texture must belong to the anatomy."""

    def __init__(self) -> None:
        super().__init__()
        self.critics = nn.ModuleList((PatchCritic(LARGE), PatchCritic(SMALL)))

    def forward(self, slices: Slices, decoded: Slices) -> list[list[Tensor]]:
        """Features of each discriminator and layer."""
        pair = torch.cat([slices, decoded], dim=1).contiguous(memory_format=torch.channels_last)  # N 2 P Q
        return [critic(pair) for critic in self.critics]

    def d_loss(self, fake: Slices, real: Slices, decoded: Slices) -> Scalar:
        """The discriminators' hinge loss (Lim and Ye, 2017)."""
        # Both in one pass: half as many calls.
        scores = self(torch.cat([fake.detach(), real]), torch.cat([decoded, decoded]))
        losses = []
        for features in scores:
            made, true = features[-1].float().chunk(2)
            losses.append(F.relu(1.0 + made).mean() + F.relu(1.0 - true).mean())
        return torch.stack(losses).mean()

    def g_loss(self, fake: Slices, real: Slices, decoded: Slices) -> tuple[Scalar, Scalar]:
        """The generator's adversarial loss and the distance of features (feature matching, Wang et al., 2018)."""
        self.requires_grad_(False)  # a step of the generator needs no gradients of these weights
        with torch.no_grad():
            of_real = self(real, decoded)
        of_fake = self(fake, decoded)
        self.requires_grad_(True)
        adversarial = torch.stack([-features[-1].float().mean() for features in of_fake]).mean()
        return adversarial, torch.stack(list(_distances(of_fake, of_real))).mean()


def _distances(of_fake: list[list[Tensor]], of_real: list[list[Tensor]]) -> Iterator[Tensor]:
    for made, true in zip(of_fake, of_real, strict=True):
        for a, b in zip(made[:-1], true[:-1], strict=True):
            yield F.l1_loss(a.float(), b.float())
