"""Texture: what a decoder cannot know of an image, drawn from noise instead.

A decoder that is trained on pixel errors gives the mean of all images that a latent may mean, and the mean has neither
speckle nor sharp edges. This network adds them to the decoded image. It sees one slice at a time and no labels, so
neither masks nor volumes change. Its noise is drawn once for a case and partly anew for each frame: `persistence`
says how much of the texture of people stays where it is from ED to ES.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cinesynth.config.schema import TextureConfig
from cinesynth.io.reproducibility import noise
from cinesynth.types import Image, NoiseField, SliceNoise, Slices

LARGEST = 0.5
"""What texture can add to a pixel in [-1, 1] or take from it."""


class NoisyBlock(nn.Module):
    """Two convolutions with a skip connection; noise enters between them (after Karras et al., 2019)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.noise = nn.Conv2d(1, width, 1, bias=False)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        h = self.conv1(F.silu(x)) + self.noise(noise)
        out: Tensor = x + self.conv2(F.silu(h))
        return out


class TextureNet(nn.Module):
    """Slices and noise to slices with texture; the untrained network changes nothing.

    All convolutions work at full resolution: with the pixels of a square in channels, texture becomes a mesh.
    """

    def __init__(self, config: TextureConfig) -> None:
        super().__init__()
        self.noise_channels = config.blocks  # one for each block
        self.stem = nn.Conv2d(1, config.width, 3, padding=1)
        self.blocks = nn.ModuleList(NoisyBlock(config.width) for _ in range(config.blocks))
        self.head = nn.Conv2d(config.width, 1, 3, padding=1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]

    def forward(self, slices: Slices, noise: SliceNoise) -> Slices:
        """Slices in [-1, 1] with texture, from ``noise`` of standard deviation 1."""
        x = self.stem(slices)
        for block, own in zip(self.blocks, torch.split(noise, 1, dim=1), strict=True):
            x = block(x, own)
        out: Tensor = slices + LARGEST * torch.tanh(self.head(F.silu(x)) / LARGEST)
        return out


class Texture(nn.Module):
    """The network with the share of its noise that stays over a cycle, measured and stored with its weights."""

    persistence: Tensor

    def __init__(self, config: TextureConfig) -> None:
        super().__init__()
        self.network = TextureNet(config)
        self.register_buffer("persistence", torch.ones(()))

    def forward(self, image: Image, noise: NoiseField) -> Image:
        """Images with texture, within [-1, 1]; ``noise`` is that of their frames."""
        slices, fields = (x.movedim(-1, 1).flatten(0, 1) for x in (image, noise))  # (B Z) 1 X Y, (B Z) K X Y
        # On a CPU a slice at a time: its features stay in the cache, which takes a third less time and memory.
        size = 1 if image.device.type == "cpu" else len(slices)
        parts = [
            self.network(_fast(x), _fast(y))
            for x, y in zip(torch.split(slices, size), torch.split(fields, size), strict=True)
        ]
        found = torch.cat(parts).float().clamp(-1.0, 1.0)
        return torch.unflatten(found, 0, (len(image), -1)).movedim(1, -1)  # B 1 X Y Z

    def noise_of(self, seed: int, frames: Sequence[int], size: Sequence[int]) -> NoiseField:
        """Noise ``T K X Y Z`` of frames of a case with ``X Y Z`` voxels; it depends on nothing else."""
        shape = (1, self.network.noise_channels, *size)
        kept, own = math.sqrt(float(self.persistence)), math.sqrt(1.0 - float(self.persistence))
        fixed = _fixed_noise(seed, shape)
        if own == 0.0:
            return fixed.expand(len(frames), -1, -1, -1, -1)
        # Shares of variance: each frame's noise has standard deviation 1, any two frames correlate by `persistence`.
        return torch.cat([kept * fixed + own * noise(seed, "texture of a frame", t, shape) for t in frames])


@lru_cache(maxsize=2)
def _fixed_noise(seed: int, shape: tuple[int, ...]) -> Tensor:
    """The noise of all frames of a case, which are decoded a few at a time."""
    return noise(seed, "texture", 0, shape)


def _fast(slices: Tensor) -> Tensor:
    return slices.contiguous(memory_format=torch.channels_last)
