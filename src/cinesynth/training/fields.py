"""Smooth random fields: values at a few nodes, spread over a plane."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def nodes_along(extent_mm: float, distance_mm: float) -> int:
    """Nodes along an axis, at least ``distance_mm`` apart where the axis is that long; one on either border."""
    return 1 + max(1, int(extent_mm / distance_mm))


def spread(nodes: Tensor, size: tuple[int, int]) -> Tensor:
    """``K nodes nodes`` to ``K X Y`` by cubic interpolation, from border to border."""
    return F.interpolate(nodes[None], size, mode="bicubic", align_corners=True)[0]
