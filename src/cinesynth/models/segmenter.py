"""The network of the independent segmenter: MONAI's 2D U-Net over the slices of a stack."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from monai.networks.nets import BasicUNet
from torch import Tensor, nn

from cinesynth.config import SegmenterConfig
from cinesynth.types import Label

OUTSIDE = -1.0
"""Intensity beyond base, apex and border: black, as on slices that were not acquired."""


class SliceUNet(nn.Module):
    """Logits of each slice from the slice and its neighbours; outside the stack everything is black."""

    def __init__(self, config: SegmenterConfig) -> None:
        super().__init__()
        self.neighbours = config.neighbours
        self.network = BasicUNet(
            spatial_dims=2,
            in_channels=1 + 2 * config.neighbours,
            out_channels=len(Label),
            features=(*config.channels, config.channels[0]),
        )

    def forward(self, slices: Tensor) -> Tensor:
        """``N 1+2K X Y`` of `with_neighbours` to ``N 4 X Y`` logits."""
        x, y = slices.shape[-2:]
        padded = F.pad(slices, (0, -y % 16, 0, -x % 16), value=OUTSIDE)  # the plane is halved four times
        logits: Tensor = self.network(padded.contiguous(memory_format=torch.channels_last))
        return logits[..., :x, :y]


def with_neighbours(volume: Tensor, neighbours: int) -> Tensor:
    """Each slice of ``X Y Z`` with those on either side: ``Z 1+2K X Y``."""
    planes = F.pad(volume, (neighbours, neighbours), value=OUTSIDE).permute(2, 0, 1)  # Z+2K X Y
    return planes.unfold(0, 1 + 2 * neighbours, 1).permute(0, 3, 1, 2)  # Z X Y 1+2K, then Z 1+2K X Y
