"""How another scanner would show the same slice: contrast, coil, resolution and noise, in millimetres.

Drawn in one place and applied in another, as views are. A codec is asked for the very image that it is shown, degraded
or not; what blurs or adds noise is therefore rare, or its decoder would learn that hearts are soft.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from cinesynth.io.seeds import uniform

NOISE_PROBABILITY = BLUR_PROBABILITY = COARSE_PROBABILITY = 0.1
"""Three in four images are as sharp as the scanner made them: the decoder learns from those how sharp hearts are."""
BIAS_PROBABILITY = 0.3
"""Harmless to sharpness, so as often as in nnU-Net; people's scanners have a field of their own already."""
MAX_NOISE = 0.1
"""Standard deviation, of intensities in [-1, 1]."""
MAX_BLUR_MM = 2.4
"""Standard deviation."""
COARSE_PIXEL_MM = (1.5, 3.0)
"""Pixels of the coarser scanners, from the usual to twice that. On a grid coarser than the draw nothing changes."""
MAX_BIAS = 0.35
"""Of the logarithm of the field at its nodes: the brightest over the darkest is at most two."""
BIAS_NODES_MM = 96.0
MAX_LOG_GAMMA = 0.2
MAX_LOG_GAIN = 0.1


@dataclass(frozen=True)
class Appearance:
    """What happens to intensities in [-1, 1]. The default changes nothing."""

    gamma: float = 1.0
    gain: float = 1.0
    bias: Tensor | None = None  # 2 nodes nodes, logarithm at the first and at the last slice
    blur_mm: float = 0.0
    pixel_mm: float = 0.0
    noise: float = 0.0


def draw_appearance(generator: torch.Generator, extent_mm: tuple[float, float], strength: float) -> Appearance:
    """A random appearance of a plane of ``extent_mm``; ``strength`` scales every amount, 0 is the identity."""
    if strength <= 0:
        return Appearance()
    gamma, gain = (math.exp(uniform(generator, -m, m) * strength) for m in (MAX_LOG_GAMMA, MAX_LOG_GAIN))
    x, y = (nodes_along(extent, BIAS_NODES_MM) for extent in extent_mm)
    bias = (2 * torch.rand(2, x, y, generator=generator) - 1) * MAX_BIAS * strength
    with_bias, blurred, coarse, noisy = torch.rand(4, generator=generator, dtype=torch.float64).tolist()
    blur, noise = (uniform(generator) * most * strength for most in (MAX_BLUR_MM, MAX_NOISE))
    low, high = COARSE_PIXEL_MM
    pixel = low + (high - low) * uniform(generator) * strength
    return Appearance(
        gamma,
        gain,
        bias if with_bias < BIAS_PROBABILITY else None,
        blur if blurred < BLUR_PROBABILITY else 0.0,
        pixel if coarse < COARSE_PROBABILITY else 0.0,
        noise if noisy < NOISE_PROBABILITY else 0.0,
    )


def degrade(
    image: Tensor, appearance: Appearance, spacing_mm: tuple[float, float], generator: torch.Generator
) -> Tensor:
    """``1 X Y Z`` in [-1, 1] as it would appear; ``generator`` draws the noise alone."""
    image = recolour(image, appearance)
    image = gaussian_blur(image, appearance.blur_mm, spacing_mm)
    image = coarsen(image, appearance.pixel_mm, spacing_mm)
    if appearance.noise > 0:
        image = (image + appearance.noise * torch.randn(image.shape, generator=generator)).clamp(-1, 1)
    return image


def recolour(image: Tensor, appearance: Appearance) -> Tensor:
    """Gamma, gain and bias field on ``1 X Y Z`` intensities in [-1, 1]."""
    if (appearance.gamma, appearance.gain) == (1.0, 1.0) and appearance.bias is None:
        return image
    unit = ((image + 1) / 2).clamp(0, 1) ** appearance.gamma * appearance.gain
    if appearance.bias is not None:
        _, x, y, z = image.shape
        unit = unit * bias_field(appearance.bias, (x, y, z))
    return unit.clamp(0, 1) * 2 - 1


def bias_field(nodes: Tensor, size: tuple[int, int, int]) -> Tensor:
    """The smooth factor ``X Y Z`` of ``2 nodes nodes`` logarithms at both ends of the stack; its mean is one."""
    x, y, z = size
    first, last = spread(nodes, (x, y))
    height = torch.linspace(0, 1, z)
    field = torch.exp(first[..., None] + (last - first)[..., None] * height)
    return field / field.mean()


def gaussian_blur(image: Tensor, sigma_mm: float, spacing_mm: tuple[float, float]) -> Tensor:
    """``1 X Y Z`` smoothed in the plane by a Gaussian of ``sigma_mm``; the border goes on."""
    planes = image.movedim(-1, 0)  # Z 1 X Y
    for axis, step in enumerate(spacing_mm):
        sigma = sigma_mm / step
        if sigma < 0.1:
            continue
        reach = math.ceil(3 * sigma)
        weights = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma) ** 2)
        shape = (1, 1, -1, 1) if axis == 0 else (1, 1, 1, -1)
        border = (0, 0, reach, reach) if axis == 0 else (reach, reach, 0, 0)
        planes = F.conv2d(F.pad(planes, border, mode="replicate"), (weights / weights.sum()).reshape(shape))
    return planes.movedim(0, -1)


def coarsen(image: Tensor, pixel_mm: float, spacing_mm: tuple[float, float]) -> Tensor:
    """``1 X Y Z`` as a scanner with pixels of ``pixel_mm`` would have it, on the same grid; never finer than it is."""
    size = image.shape[1:3]
    pairs = zip(size, spacing_mm, strict=True)
    coarse = [max(2, round(n * step / pixel_mm)) if pixel_mm > step else n for n, step in pairs]
    if coarse == list(size):
        return image
    planes = image.movedim(-1, 0)  # Z 1 X Y
    low = F.interpolate(planes, coarse, mode="bicubic", antialias=True)
    return F.interpolate(low, size, mode="bicubic").movedim(0, -1).clamp(-1, 1)


# --- Smooth random fields --------------------------------------------------------------------------------------------


def nodes_along(extent_mm: float, distance_mm: float) -> int:
    """Nodes along an axis, at least ``distance_mm`` apart where the axis is that long; one on either border."""
    return 1 + max(1, int(extent_mm / distance_mm))


def spread(nodes: Tensor, size: tuple[int, int]) -> Tensor:
    """``K nodes nodes`` to ``K X Y`` by cubic interpolation, from border to border."""
    return F.interpolate(nodes[None], size, mode="bicubic", align_corners=True)[0]
