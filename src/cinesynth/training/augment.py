"""Random in-plane views of a volume. Parameters are drawn in one place and applied in another."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from cinesynth.training.streams import uniform

MAX_NOISE = 0.1
"""Standard deviation, of intensities in [-1, 1]."""
MAX_BLUR = 1.2
"""Standard deviation in voxels."""


@dataclass(frozen=True)
class View:
    """An in-plane affine view of ``size`` voxels (``X Y``) at ``centre`` (voxels from the grid's centre)."""

    size: tuple[int, int]
    centre: tuple[float, float] = (0.0, 0.0)
    rotation: float = 0.0  # radians
    scale: tuple[float, float] = (1.0, 1.0)  # above 1: the heart appears larger
    gamma: float = 1.0
    gain: float = 1.0

    @property
    def area_factor(self) -> float:
        """Factor by which the view changes areas, and with thick slices volumes."""
        return self.scale[0] * self.scale[1]


def draw_view(generator: torch.Generator, grid: tuple[int, int], size: tuple[int, int], strength: float) -> View:
    """A view of random position, rotation, scale and contrast; ``strength`` 0 leaves only the position."""
    reach = [(g - s) / 2 for g, s in zip(grid, size, strict=True)]
    near_heart = uniform(generator) < 0.6
    span = [min(r, 0.08 * g) if near_heart else r for r, g in zip(reach, grid, strict=True)]
    x, y = (uniform(generator, -s, s) for s in span)
    common = math.exp(uniform(generator, -0.18, 0.18) * strength)
    aspect = math.exp(uniform(generator, -0.05, 0.05) * strength)
    return View(
        size,
        (x, y),
        uniform(generator, -0.3, 0.3) * strength,
        (common * aspect, common / aspect),
        math.exp(uniform(generator, -0.2, 0.2) * strength),
        math.exp(uniform(generator, -0.1, 0.1) * strength),
    )


def draw_copy(generator: torch.Generator, size: tuple[int, int], strength: float = 1.0) -> View:
    """An affine copy of a whole heart: scaled by up to a quarter in each direction, slightly turned and moved."""
    common = math.exp(uniform(generator, -0.22, 0.22) * strength)
    aspect = math.exp(uniform(generator, -0.06, 0.06) * strength)
    return View(
        size,
        (uniform(generator, -3, 3) * strength, uniform(generator, -3, 3) * strength),
        uniform(generator, -0.15, 0.15) * strength,
        (common * aspect, common / aspect),
    )


def look(volume: Tensor, view: View, nearest: bool = False) -> Tensor:
    """See ``C X Y Z`` through a view: ``C x y Z``. Outside the grid the border goes on."""
    channels, width, height, depth = volume.shape
    cos, sin = math.cos(view.rotation), math.sin(view.rotation)
    x = torch.arange(view.size[0], dtype=torch.float32) - (view.size[0] - 1) / 2
    y = torch.arange(view.size[1], dtype=torch.float32) - (view.size[1] - 1) / 2
    u = (cos * x[:, None] - sin * y[None]) / view.scale[0] + view.centre[0]  # voxels from the grid's centre
    v = (sin * x[:, None] + cos * y[None]) / view.scale[1] + view.centre[1]
    points = torch.stack([2 * v / height, 2 * u / width], dim=-1)[None]  # 1 x y 2, last axis first
    flat = volume.permute(0, 3, 1, 2).reshape(1, channels * depth, width, height)
    mode = "nearest" if nearest else "bilinear"
    seen = F.grid_sample(flat, points, mode=mode, padding_mode="border", align_corners=False)
    return seen.reshape(channels, depth, *view.size).permute(0, 2, 3, 1)


def degrade(image: Tensor, generator: torch.Generator, strength: float) -> Tensor:
    """Noise, or an in-plane blur, on a third each of the ``1 X Y Z`` images: scanners differ in both."""
    kind = uniform(generator)
    amount = uniform(generator) * strength
    if kind < 1 / 3:
        return (image + MAX_NOISE * amount * torch.randn(image.shape, generator=generator)).clamp(-1, 1)
    if kind < 2 / 3:
        return gaussian_blur(image, MAX_BLUR * amount)
    return image


def gaussian_blur(image: Tensor, sigma: float) -> Tensor:
    """``1 X Y Z`` smoothed in the plane by a Gaussian of ``sigma`` voxels; the border goes on."""
    if sigma < 0.1:
        return image
    reach = math.ceil(3 * sigma)
    weights = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma) ** 2)
    weights = weights / weights.sum()
    planes = F.pad(image.movedim(-1, 0), (reach,) * 4, mode="replicate")  # Z 1 X Y
    return F.conv2d(F.conv2d(planes, weights[None, None, :, None]), weights[None, None, None]).movedim(0, -1)


def recolour(image: Tensor, view: View) -> Tensor:
    """Gamma and gain on intensities in [-1, 1]."""
    unit = ((image + 1) / 2).clamp(0, 1) ** view.gamma
    return (unit * view.gain).clamp(0, 1) * 2 - 1
