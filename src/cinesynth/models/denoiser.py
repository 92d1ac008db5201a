"""The latent U-Net of both diffusion models: it pools the plane, never the slice axis of 10 mm."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cinesynth.config.schema import DenoiserConfig
from cinesynth.models.conditioning import CORE, ClinicalEmbedding, Conditions, ConditionSet, ScalarEmbedding
from cinesynth.models.layers import (
    Conv,
    Down,
    ResBlock,
    SliceMix,
    Up,
    broadcast_mask,
    depth_to_space,
    make_norm,
    space_to_depth,
)
from cinesynth.types import AnatomyLatent, Features, Latent, PerCase, SliceFactor, SliceMask, Tokens, Vectors


class Attention(nn.Module):
    """Multi-head attention of tokens ``B N W`` to a context ``B M V``, which may be the tokens themselves."""

    def __init__(self, width: int, heads: int, context_width: int | None = None) -> None:
        super().__init__()
        self.heads = heads
        source = context_width or width
        self.query = nn.Linear(width, width, bias=False)
        self.key_value = nn.Linear(source, 2 * width, bias=False)
        self.out = nn.Linear(width, width)

    def forward(self, tokens: Tokens, context: Tensor, attend: Tensor | None = None) -> Tokens:
        """``attend`` (``B M``) are the tokens of the context that count."""
        query = self.query(tokens).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # B H N D
        key, value = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.key_value(context).chunk(2, -1)
        )
        if self.training and query.device.type == "cpu" and key.shape[2] >= LONG:
            mixed = case_by_case(query, key, value, attend)
        else:
            mask = None if attend is None else attend[:, None, None, :]  # B 1 1 M
            mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)  # B H N D
        out: Tensor = self.out(mixed.transpose(1, 2).flatten(-2))
        return out


LONG = 64
"""Tokens from which on a CPU trains faster with attention in plain steps: the fused one has a slow backward pass."""


def case_by_case(query: Tensor, key: Tensor, value: Tensor, attend: Tensor | None) -> Tensor:
    """Attention of ``B H N D``, one case at a time, so that the scores (``H N M``) of one fit the processor's cache."""
    mixed = []
    with torch.autocast(query.device.type, enabled=False):  # the softmax sums in fp32 whatever the type
        for case, (q, k, v) in enumerate(zip(query * query.shape[-1] ** -0.5, key, value, strict=True)):
            if attend is not None and not bool(attend[case].all()):
                k, v = k[:, attend[case]], v[:, attend[case]]  # H M D
            mixed.append((q @ k.mT).softmax(dim=-1) @ v)
    return torch.stack(mixed)


class TransformerBlock(nn.Module):
    """Self-attention over acquired voxels, optional cross-attention to condition tokens, feed-forward."""

    def __init__(self, width: int, config: DenoiserConfig) -> None:
        super().__init__()
        crosses = config.conditioning == "cross_attention"
        self.self_norm, self.feed_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.cross_norm = nn.LayerNorm(width) if crosses else None
        self.self_attention = Attention(width, config.heads)
        self.cross_attention = Attention(width, config.heads, config.condition_width) if crosses else None
        self.slice_attention = SliceAttention(width, config.heads) if config.slice_attention else None
        self.feed_in = nn.Linear(width, 8 * width if crosses else 2 * width)
        self.feed_out = nn.Linear(4 * width if crosses else width, width)
        # The feed-forward part starts as the identity.
        nn.init.zeros_(self.feed_out.weight)
        nn.init.zeros_(self.feed_out.bias)

    def forward(self, x: Features, context: Tensor | None, slice_mask: SliceMask) -> Features:
        size = x.shape[2:]
        acquired = slice_mask[:, None, None, :].expand(-1, size[0], size[1], -1).flatten(1)  # B N
        tokens = x.flatten(2).transpose(1, 2)  # B N W
        normed = self.self_norm(tokens)
        tokens = tokens + self.self_attention(normed, normed, acquired)
        if self.slice_attention is not None:
            tokens = tokens + self.slice_attention(tokens, size, slice_mask)
        if self.cross_attention is not None and self.cross_norm is not None and context is not None:
            tokens = tokens + self.cross_attention(self.cross_norm(tokens), context)
        value, gate = self.feed_in(self.feed_norm(tokens)).chunk(2, dim=-1)
        tokens = tokens + self.feed_out(value * F.gelu(gate))  # GEGLU (Shazeer, 2020)
        out: Tensor = tokens.transpose(1, 2).unflatten(2, size)  # B W x y Z
        return out


class SliceAttention(nn.Module):
    """Attention along the slice axis, for each in-plane position by itself."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.attention = Attention(width, heads)

    def forward(self, tokens: Tokens, size: torch.Size, slice_mask: SliceMask) -> Tokens:
        columns = self.norm(tokens).unflatten(1, (-1, size[2])).flatten(0, 1)  # (B x y) Z W
        attend = slice_mask.repeat_interleave(size[0] * size[1], dim=0)  # (B x y) Z
        out: Tensor = self.attention(columns, columns, attend).unflatten(0, (len(tokens), -1)).flatten(1, 2)
        return out  # B (x y Z) W


class Level(nn.Module):
    """A residual block, then slice mixing in 2.5d networks, then a transformer block at attention levels."""

    def __init__(self, inputs: int, outputs: int, config: DenoiserConfig, attends: bool) -> None:
        super().__init__()
        self.block = ResBlock(inputs, outputs, config.kernel, config.norm, config.condition_width)
        self.mix = SliceMix(outputs, config.norm) if config.kernel == "2.5d" else None
        self.transformer = TransformerBlock(outputs, config) if attends else None

    def forward(
        self, x: Features, mask: SliceFactor, embedding: Vectors, context: Tensor | None, slice_mask: SliceMask
    ) -> Features:
        x = self.block(x, mask, embedding)
        if self.mix is not None:
            x = self.mix(x, mask)
        return x if self.transformer is None else self.transformer(x, context, slice_mask)


class DenoiserUNet(nn.Module):
    """Predicts the target of the objective from a noisy code and, for motion, the latent of the anatomy.

    Conditions enter through the norms (``adaptive_norm``) or as a clinical and a phase token (``cross_attention``).
    """

    def __init__(
        self,
        config: DenoiserConfig,
        channels: int,
        anatomy_channels: int = 0,
        phase: bool = False,
        condition_set: ConditionSet = CORE,
    ) -> None:
        super().__init__()
        self.config = config
        width = config.condition_width
        self.time = ScalarEmbedding(width)
        self.clinical = ClinicalEmbedding(width, condition_set)
        self.phase = ScalarEmbedding(width) if phase else None
        extra = 4 if config.coordinates else 1  # channels of `_position`
        widths = config.channels
        folded = config.patch**2
        self.stem = Conv((channels + anatomy_channels) * folded + extra, widths[0], config.kernel)
        self.down = nn.ModuleList()
        self.shrink = nn.ModuleList(Down(a, b) for a, b in pairwise(widths))
        self.up = nn.ModuleList()
        self.grow = nn.ModuleList(Up(b, a, config.kernel) for a, b in pairwise(widths))
        for index, w in enumerate(widths):
            attends = index in config.attention_levels
            self.down.append(nn.ModuleList(Level(w, w, config, attends) for _ in range(config.blocks)))
            self.up.append(nn.ModuleList(Level(2 * w, w, config, attends) for _ in range(config.blocks)))
        bottom = bool(config.attention_levels)
        self.middle = nn.ModuleList([Level(widths[-1], widths[-1], config, bottom) for _ in range(2)])
        self.norm = make_norm(config.norm, widths[0])
        self.head = Conv(widths[0], channels * folded, config.kernel)
        # The untrained network predicts 0.
        nn.init.zeros_(self.head.conv.weight)
        nn.init.zeros_(self.head.conv.bias)  # type: ignore[arg-type]

    def forward(
        self,
        noisy: Latent,
        time: PerCase,
        conditions: Conditions,
        slice_mask: SliceMask,
        anatomy: AnatomyLatent | None = None,
    ) -> Latent:
        """Evaluate at ``time``, from 0 (clean) to 1 (noise)."""
        mask = broadcast_mask(slice_mask, noisy)
        embedding, context = self._embed(time, conditions)
        codes = [noisy] if anatomy is None else [noisy, anatomy]
        noisy, *given = [space_to_depth(code, self.config.patch) for code in codes]  # B (C p p) x/p y/p Z each
        x = self.stem(torch.cat([noisy, *self._position(noisy, slice_mask), *given], dim=1) * mask, mask)
        skips: list[Tensor] = []
        for index, levels in enumerate(self.down):
            for level in levels:  # type: ignore[attr-defined]
                x = level(x, mask, embedding, context, slice_mask)
                skips.append(x)
            if index < len(self.shrink):
                x = self.shrink[index](x)
        for level in self.middle:
            x = level(x, mask, embedding, context, slice_mask)
        for index in reversed(range(len(self.up))):
            for level in self.up[index]:  # type: ignore[attr-defined]
                x = level(torch.cat([x, skips.pop()], dim=1), mask, embedding, context, slice_mask)
            if index > 0:
                x = self.grow[index - 1](x, mask)
        return depth_to_space(self.head(F.silu(self.norm(x)), mask) * mask, self.config.patch)

    def _embed(self, time: PerCase, conditions: Conditions) -> tuple[Vectors, Tensor | None]:
        """The embedding that modulates the norms and, with cross-attention, the condition tokens."""
        tokens = [self.clinical(conditions)]
        if self.phase is not None:
            if conditions.phase is None:
                raise ValueError("a per-frame motion model needs conditions with a phase for each case")
            tokens.append(self.phase(conditions.phase))
        embedding = self.time(time)
        if self.config.conditioning == "cross_attention":
            return embedding, torch.stack(tokens, dim=1)  # B 1-2 W
        return embedding + torch.stack(tokens).sum(0), None

    def _position(self, like: Features, slice_mask: SliceMask) -> list[Features]:
        """The slice mask and, with coordinates, x, y and height of each voxel: ``B 1 x y Z`` each."""
        shape = (len(like), 1, *like.shape[2:])
        acquired = broadcast_mask(slice_mask, like).expand(shape)
        if not self.config.coordinates:
            return [acquired]
        x = torch.linspace(-1, 1, shape[2], device=like.device, dtype=like.dtype)[:, None, None].expand(shape)
        y = torch.linspace(-1, 1, shape[3], device=like.device, dtype=like.dtype)[:, None].expand(shape)
        rank = slice_mask.to(like.dtype).cumsum(dim=1) - 1.0
        height = 2.0 * rank / (slice_mask.sum(dim=1, keepdim=True) - 1).clamp(min=1) - 1.0  # -1 base, 1 apex
        return [acquired, x, y, height[:, None, None, None, :].expand(shape)]
