"""Blocks for thick-slice volumes, which treat the plane and the slice axis differently.

Every layer that looks across slices first zeroes the slices that were not acquired. Padding therefore never reaches a
real slice, and computing only the acquired slices gives the same numbers as computing all. Group norms, which the paper
uses, are the exception: their statistics include the padding.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from cinesynth.types import Features, SliceFactor, SliceMask, Vectors

Kernel = Literal["2.5d", "3d"]
Norm = Literal["layer", "group"]


class ChannelNorm(nn.Module):
    """LayerNorm over the channels of each voxel; in channels-last memory the transposed view costs nothing."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Features) -> Features:
        # Autocast does not know the native form, so that bf16 activations stay bf16 (it sums in fp32).
        weight, bias = self.weight.to(x.dtype), self.bias.to(x.dtype)
        y: Tensor = torch.native_layer_norm(x.movedim(1, -1), weight.shape, weight, bias, 1e-5)[0]
        return y.movedim(-1, 1)  # B C X Y Z


def make_norm(kind: Norm, channels: int) -> nn.Module:
    """Normalisation over channels (``layer``) or over groups of them and space (``group``, as in the paper)."""
    if kind == "layer":
        return ChannelNorm(channels)
    groups = next(g for g in (32, 16, 8, 4, 2, 1) if channels % g == 0)  # 32 after Wu and He (2018), where it divides
    return nn.GroupNorm(groups, channels)


class Conv(nn.Module):
    """A same-size convolution: (3,3,1) for ``2.5d``, (3,3,3) over acquired slices for ``3d``."""

    def __init__(self, inputs: int, outputs: int, kernel: Kernel = "2.5d") -> None:
        super().__init__()
        depth = 3 if kernel == "3d" else 1
        self.crosses_slices = kernel == "3d"
        self.conv = nn.Conv3d(inputs, outputs, (3, 3, depth), padding=(1, 1, depth // 2))

    def forward(self, x: Features, mask: SliceFactor) -> Features:
        if self.training and not self.crosses_slices and x.device.type == "cpu":
            return plane_conv(x, self.conv.weight, self.conv.bias)
        y: Tensor = self.conv(x * mask.to(x.dtype) if self.crosses_slices else x)
        return y


def plane_conv(x: Features, weight: Tensor, bias: Tensor | None) -> Features:
    """A (3,3,1) convolution as one of ``X`` by ``(Y Z)``, dilated by Z: its weights' gradient takes half the time."""
    depth = x.shape[-1]
    y = F.conv2d(x.flatten(3), weight[..., 0], bias, padding=(1, depth), dilation=(1, depth))  # B C X (Y Z)
    return y.view(*y.shape[:3], *x.shape[3:])


class ResBlock(nn.Module):
    """Two convolutions with a skip connection; an optional embedding scales and shifts the second norm (FiLM)."""

    def __init__(self, inputs: int, outputs: int, kernel: Kernel, norm: Norm, embedding: int = 0) -> None:
        super().__init__()
        self.norm1, self.conv1 = make_norm(norm, inputs), Conv(inputs, outputs, kernel)
        self.norm2, self.conv2 = make_norm(norm, outputs), Conv(outputs, outputs, kernel)
        self.skip = nn.Conv3d(inputs, outputs, 1) if inputs != outputs else nn.Identity()
        self.modulation = nn.Linear(embedding, 2 * outputs) if embedding else None
        if embedding:
            # Conditional blocks start as the identity, as in diffusion U-Nets (Dhariwal and Nichol, 2021).
            nn.init.zeros_(self.conv2.conv.weight)
            nn.init.zeros_(self.conv2.conv.bias)  # type: ignore[arg-type]

    def forward(self, x: Features, mask: SliceFactor, embedding: Vectors | None = None) -> Features:
        h = self.norm2(self.conv1(F.silu(self.norm1(x)), mask))
        if self.modulation is not None and embedding is not None:
            scale, shift = self.modulation(F.silu(embedding))[:, :, None, None, None].chunk(2, dim=1)  # B C 1 1 1
            h = h * (1 + scale) + shift
        out: Tensor = self.skip(x) + self.conv2(F.silu(h), mask)
        return out


class SliceMix(nn.Module):
    """A residual (1,1,3) convolution: what a slice takes from its neighbours."""

    def __init__(self, channels: int, norm: Norm) -> None:
        super().__init__()
        self.norm = make_norm(norm, channels)
        self.conv = nn.Conv3d(channels, channels, (1, 1, 3), padding=(0, 0, 1))

    def forward(self, x: Features, mask: SliceFactor) -> Features:
        y: Tensor = self.conv(F.silu(self.norm(x)) * mask.to(x.dtype))
        return x + y


class Stack(nn.Module):
    """The residual blocks of one level, followed by slice mixing where the kernel needs it."""

    def __init__(self, width: int, blocks: int, kernel: Kernel, norm: Norm) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(ResBlock(width, width, kernel, norm) for _ in range(blocks))
        self.mix = SliceMix(width, norm) if kernel == "2.5d" else None

    def forward(self, x: Features, mask: SliceFactor) -> Features:
        for block in self.blocks:
            x = block(x, mask)
        return x if self.mix is None else self.mix(x, mask)


class Down(nn.Module):
    """Halve both in-plane axes; slices are too thick to pool."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(inputs, outputs, (2, 2, 1), stride=(2, 2, 1))

    def forward(self, x: Features) -> Features:
        y: Tensor = self.conv(x)
        return y


class Up(nn.Module):
    """Double both in-plane axes."""

    def __init__(self, inputs: int, outputs: int, kernel: Kernel = "2.5d") -> None:
        super().__init__()
        self.conv = Conv(inputs, outputs, kernel)

    def forward(self, x: Features, mask: SliceFactor) -> Features:
        y: Tensor = self.conv(F.interpolate(x, scale_factor=(2, 2, 1), mode="nearest"), mask)
        return y


def space_to_depth(x: Features, factor: int) -> Features:
    """Fold ``factor x factor`` in-plane voxels into channels."""
    return rearrange(x, "b c (x p) (y q) z -> b (c p q) x y z", p=factor, q=factor)


def depth_to_space(x: Features, factor: int) -> Features:
    """Inverse of `space_to_depth`."""
    return rearrange(x, "b (c p q) x y z -> b c (x p) (y q) z", p=factor, q=factor)


def broadcast_mask(slice_mask: SliceMask, like: Tensor) -> SliceFactor:
    """A slice mask as a factor of the type of ``like``, 0 or 1."""
    return slice_mask[:, None, None, None, :].to(like.dtype)  # B 1 1 1 Z
