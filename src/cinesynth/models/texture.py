"""Texture: what a decoder cannot know of an image, drawn from noise instead.

A decoder that is trained on pixel errors gives the mean of all images that a latent may mean, and the mean has neither
speckle nor sharp edges. This network adds them to the decoded image. It sees one slice at a time and no labels, so
neither masks nor volumes change. Its noise is drawn once for a case and partly anew for each frame: `persistence`
says how much of the texture of people stays where it is from ED to ES, `continuity` how much of the rest stays from one
frame to the next. How much detail an image has depends on the
scanner and on who set it up, and a decoded image does not tell: the network is told, and the detail of a case is drawn
as people of its vendor have it.
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
from cinesynth.models.conditioning import ConditionSet
from cinesynth.types import Image, NoiseField, PerSlice, SliceNoise, Slices

LARGEST = 0.5
"""What texture can add to a pixel in [-1, 1] or take from it."""
USUAL_DB, SPREAD_DB = 6.0, 3.0
"""Detail of people beyond what a decoder gives, about; the network sees it in units of the spread."""
FRAMES = 30
"""Frames of the cycle for which `Texture.continuity` is stored."""


class NoisyBlock(nn.Module):
    """Two convolutions with a skip connection; noise enters between them (after Karras et al., 2019)."""

    def __init__(self, width: int, detail: bool = False) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.noise = nn.Conv2d(1, width, 1, bias=False)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.detail = nn.Sequential(nn.Linear(1, width), nn.SiLU(), nn.Linear(width, 2 * width)) if detail else None
        if self.detail is not None:
            nn.init.zeros_(self.detail[-1].weight)  # type: ignore[arg-type]
            nn.init.zeros_(self.detail[-1].bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, noise: Tensor, detail: Tensor | None = None) -> Tensor:
        added = self.noise(noise)
        h = self.conv1(F.silu(x))
        if self.detail is not None and detail is not None:
            louder, shift = self.detail((detail[:, None] - USUAL_DB) / SPREAD_DB)[..., None, None].chunk(2, dim=1)
            added, h = added * (1.0 + louder), h + shift
        out: Tensor = x + self.conv2(F.silu(h + added))
        return out


class TextureNet(nn.Module):
    """Slices and noise to slices with texture; the untrained network changes nothing.

    All convolutions work at full resolution: with the pixels of a square in channels, texture becomes a mesh.
    """

    def __init__(self, config: TextureConfig) -> None:
        super().__init__()
        self.noise_channels = config.blocks  # one for each block
        self.stem = nn.Conv2d(1, config.width, 3, padding=1)
        self.blocks = nn.ModuleList(NoisyBlock(config.width, config.detail) for _ in range(config.blocks))
        self.head = nn.Conv2d(config.width, 1, 3, padding=1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]

    def forward(self, slices: Slices, noise: SliceNoise, detail: PerSlice | None = None) -> Slices:
        """Slices in [-1, 1] with texture, from ``noise`` of standard deviation 1.

        ``detail`` is what they shall have above half of Nyquist beyond what they have, dB.
        """
        x = self.stem(slices)
        for block, own in zip(self.blocks, torch.split(noise, 1, dim=1), strict=True):
            x = block(x, own, detail)
        out: Tensor = slices + LARGEST * torch.tanh(self.head(F.silu(x)) / LARGEST)
        return out


class Texture(nn.Module):
    """The network with what was measured of people: the share of noise that stays over a cycle, and their detail.

    ``continuity`` is the correlation of neighbours among 30 frames, beyond what persists; at most .5.
    ``detail_db`` holds mean and standard deviation (dB) over all training subjects, then over those of each of the
    ``vendors``.
    """

    persistence: Tensor
    continuity: Tensor
    detail_db: Tensor  # 1 + vendors, 2

    def __init__(self, config: TextureConfig, vendors: Sequence[str] = ()) -> None:
        super().__init__()
        self.vendors = ConditionSet(("vendor",), vendors)
        self.network = TextureNet(config)
        self.register_buffer("persistence", torch.ones(()))
        if config.detail:
            self.register_buffer("detail_db", torch.tensor([[USUAL_DB, 0.0]]).repeat(1 + len(vendors), 1))
        self.register_buffer("continuity", torch.zeros(()), persistent=config.continuity)
        self.has_detail = config.detail

    def forward(self, image: Image, noise: NoiseField, detail_db: float = USUAL_DB) -> Image:
        """Images with texture, within [-1, 1]; ``noise`` is that of their frames, ``detail_db`` that of the case."""
        slices, fields = (x.movedim(-1, 1).flatten(0, 1) for x in (image, noise))  # (B Z) 1 X Y, (B Z) K X Y
        # On a CPU a slice at a time: its features stay in the cache, which takes a third less time and memory.
        size = 1 if image.device.type == "cpu" else len(slices)
        detail = torch.full((size,), detail_db, device=image.device)
        parts = [
            self.network(_fast(x), _fast(y), detail)
            for x, y in zip(torch.split(slices, size), torch.split(fields, size), strict=True)
        ]
        found = torch.cat(parts).float().clamp(-1.0, 1.0)
        return torch.unflatten(found, 0, (len(image), -1)).movedim(1, -1)  # B 1 X Y Z

    def detail_of(self, vendor: str | None, seed: int | None = None) -> float:
        """Detail of a case of a vendor, if known, dB: drawn with ``seed``, else the mean."""
        if not self.has_detail:
            return USUAL_DB
        mean, spread = self.detail_db[self.vendors.vendor_index(vendor)].tolist()
        return float(mean if seed is None else mean + spread * float(noise(seed, "detail", 0, (1,)).clamp(-2.0, 2.0)))

    def noise_of(self, seed: int, frames: Sequence[int], size: Sequence[int], count: int = FRAMES) -> NoiseField:
        """Noise ``T K X Y Z`` of frames of a case with ``X Y Z`` voxels and ``count`` frames.

        It depends on nothing else. Any two frames correlate by `persistence`, neighbours by more.
        """
        shape = (1, self.network.noise_channels, *size)
        persistence = float(self.persistence)
        kept, own = math.sqrt(persistence), math.sqrt(1.0 - persistence)
        fixed = _fixed_noise(seed, shape)
        if own == 0.0:
            return fixed.expand(len(frames), -1, -1, -1, -1)
        correlation = float(self.continuity) ** (FRAMES / count)
        if correlation == 0.0:
            return torch.cat([kept * fixed + own * _frame_noise(seed, t, shape) for t in frames])
        # A moving average over a frame and the next, in a circle: each has standard deviation 1.
        share = (1.0 - math.sqrt(1.0 - 4.0 * correlation**2)) / (2.0 * correlation)
        scale = own / math.sqrt(1.0 + share**2)
        pairs = ((_frame_noise(seed, t, shape), _frame_noise(seed, (t + 1) % count, shape)) for t in frames)
        return torch.cat([kept * fixed + scale * (this + share * following) for this, following in pairs])


@lru_cache(maxsize=2)
def _fixed_noise(seed: int, shape: tuple[int, ...]) -> Tensor:
    """The noise of all frames of a case, which are decoded a few at a time."""
    return noise(seed, "texture", 0, shape)


@lru_cache(maxsize=2)
def _frame_noise(seed: int, frame: int, shape: tuple[int, ...]) -> Tensor:
    return noise(seed, "texture of a frame", frame, shape)


def _fast(slices: Tensor) -> Tensor:
    return slices.contiguous(memory_format=torch.channels_last)
