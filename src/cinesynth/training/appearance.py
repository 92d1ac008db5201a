"""How another scanner would show the same slice: contrast, coil, resolution and noise, in millimetres.

Parameters are drawn in one place (`draw_appearance`) and applied in another (`degrade`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from cinesynth.io.reproducibility import uniform
from cinesynth.types import Volume


@dataclass(frozen=True)
class AppearanceRanges:
    """What other scanners may do to an image, and how often.

    The codec is trained to reconstruct the very image that it is shown, degraded or not. Blur and noise are therefore
    rare: three in four images are as sharp as their scanner made them, and teach the decoder how sharp hearts are.
    """

    noise_probability: float = 0.1
    blur_probability: float = 0.1
    coarse_probability: float = 0.1
    bias_probability: float = 0.3  # as in nnU-Net: a bias field takes no sharpness
    max_noise: float = 0.1  # standard deviation, of intensities in [-1, 1]
    max_blur_mm: float = 2.4  # standard deviation
    coarse_pixel_mm: tuple[float, float] = (1.5, 3.0)  # a coarser scanner's pixels; a coarser grid stays as it is
    max_bias: float = 0.35  # of the field's logarithm at its nodes: the brightest over the darkest is at most two
    bias_nodes_mm: float = 96.0  # distance between nodes
    max_log_gamma: float = 0.2
    max_log_gain: float = 0.1


APPEARANCES = AppearanceRanges()


@dataclass(frozen=True)
class Appearance:
    """What happens to intensities in [-1, 1]. The default changes nothing."""

    gamma: float = 1.0
    gain: float = 1.0
    bias: Tensor | None = None  # 2 nodes nodes, logarithm at the first and at the last slice
    blur_mm: float = 0.0
    pixel_mm: float = 0.0
    noise: float = 0.0


def draw_appearance(
    generator: torch.Generator, extent_mm: tuple[float, float], strength: float, ranges: AppearanceRanges = APPEARANCES
) -> Appearance:
    """A random appearance of a plane of ``extent_mm``; ``strength`` scales every amount, 0 is the identity."""
    if strength <= 0:
        return Appearance()
    # Everything is drawn, used or not: what one effect draws never depends on whether another one happens.
    limits = ranges.max_log_gamma, ranges.max_log_gain
    gamma, gain = (math.exp(uniform(generator, -m, m) * strength) for m in limits)
    x, y = (nodes_along(extent, ranges.bias_nodes_mm) for extent in extent_mm)
    bias = (2 * torch.rand(2, x, y, generator=generator) - 1) * ranges.max_bias * strength  # 2 nodes nodes
    with_bias, blurred, coarse, noisy = torch.rand(4, generator=generator, dtype=torch.float64).tolist()
    blur, noise = (uniform(generator) * most * strength for most in (ranges.max_blur_mm, ranges.max_noise))
    low, high = ranges.coarse_pixel_mm
    pixel = low + (high - low) * uniform(generator) * strength
    return Appearance(
        gamma,
        gain,
        bias if with_bias < ranges.bias_probability else None,
        blur if blurred < ranges.blur_probability else 0.0,
        pixel if coarse < ranges.coarse_probability else 0.0,
        noise if noisy < ranges.noise_probability else 0.0,
    )


def degrade(
    image: Volume, appearance: Appearance, spacing_mm: tuple[float, float], generator: torch.Generator
) -> Volume:
    """``1 X Y Z`` in [-1, 1] as it would appear; only the noise is drawn from ``generator``."""
    image = recolour(image, appearance)
    image = gaussian_blur(image, appearance.blur_mm, spacing_mm)
    image = coarsen(image, appearance.pixel_mm, spacing_mm)
    if appearance.noise > 0:
        image = (image + appearance.noise * torch.randn(image.shape, generator=generator)).clamp(-1, 1)
    return image


def recolour(image: Volume, appearance: Appearance) -> Volume:
    """Gamma, gain and bias field on ``1 X Y Z`` intensities in [-1, 1]."""
    if (appearance.gamma, appearance.gain) == (1.0, 1.0) and appearance.bias is None:
        return image
    # Gamma acts on intensities in [0, 1].
    unit = ((image + 1) / 2).clamp(0, 1) ** appearance.gamma * appearance.gain
    if appearance.bias is not None:
        _, x, y, z = image.shape
        unit = unit * bias_field(appearance.bias, (x, y, z))
    return unit.clamp(0, 1) * 2 - 1


def bias_field(nodes: Tensor, size: tuple[int, int, int]) -> Tensor:
    """The smooth factor ``X Y Z``, of mean one, from its logarithm at nodes of both end slices (``2 nodes nodes``)."""
    x, y, z = size
    first, last = upsample_nodes(nodes, (x, y))  # X Y each
    height = torch.linspace(0, 1, z)
    field = torch.exp(first[..., None] + (last - first)[..., None] * height)  # X Y Z, linear in log along the stack
    return field / field.mean()


def gaussian_blur(image: Volume, sigma_mm: float, spacing_mm: tuple[float, float]) -> Volume:
    """``1 X Y Z`` smoothed in the plane by a Gaussian of ``sigma_mm``; the border voxels are repeated outside."""
    planes = image.movedim(-1, 0)  # Z 1 X Y
    for axis, step in enumerate(spacing_mm):
        sigma = sigma_mm / step
        if sigma < 0.1:  # voxels: nothing would change
            continue
        reach = math.ceil(3 * sigma)  # the tails beyond hold 0.3 %
        weights = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma) ** 2)
        shape = (1, 1, -1, 1) if axis == 0 else (1, 1, 1, -1)
        border = (0, 0, reach, reach) if axis == 0 else (reach, reach, 0, 0)
        planes = F.conv2d(F.pad(planes, border, mode="replicate"), (weights / weights.sum()).reshape(shape))
    return planes.movedim(0, -1)


def coarsen(image: Volume, pixel_mm: float, spacing_mm: tuple[float, float]) -> Volume:
    """``1 X Y Z`` as a scanner with pixels of ``pixel_mm`` would show it, on the same grid; never sharper."""
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
    """Number of nodes along an axis, one on either border and the others at least ``distance_mm`` apart."""
    return 1 + max(1, int(extent_mm / distance_mm))


def upsample_nodes(nodes: Tensor, size: tuple[int, int]) -> Tensor:
    """``K nodes nodes`` to ``K X Y`` by cubic interpolation; the outermost nodes lie on the borders."""
    return F.interpolate(nodes[None], size, mode="bicubic", align_corners=True)[0]
