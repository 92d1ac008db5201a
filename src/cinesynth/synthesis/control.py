"""Meeting the requested volumes: the mask decoder is differentiable, so a latent can be moved until they agree.

A small additive shift of the sampled latent is found by a few Adam steps on the relative error of the LV volume, with
a penalty that keeps it small against the latents' unit scale. At ES the shift swings in and out with the cycle.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from cinesynth.models.codec import Codec
from cinesynth.types import Label

STEPS = 20
LEARNING_RATE = 0.05
ERROR_WEIGHT = 100.0
SHIFT_WEIGHT = 0.5
TOLERANCE = 0.005
"""Relative error of the volume at which the steps end."""
SHARPNESS = 4.0
"""Factor on the logits: the soft volume then stays close to that of the hard mask."""


@dataclass(frozen=True)
class Steering:
    """A shift ``1 C x y z`` and what it did to the soft LV volume."""

    shift: Tensor
    before_ml: float
    after_ml: float
    steps: int

    def to_json(self) -> dict[str, float | int]:
        """Volumes, steps, and the shift's size in standard deviations of the latents."""
        rms = float(self.shift.square().mean().sqrt())
        volumes = {"soft_before_ml": round(self.before_ml, 3), "soft_after_ml": round(self.after_ml, 3)}
        return {**volumes, "steps": self.steps, "shift_rms": round(rms, 4)}


def soft_lv_ml(codec: Codec, latent: Tensor, slice_mask: Tensor) -> Tensor:
    """LV volume of ``1 C x y z`` as a differentiable sum of sharpened probabilities, millilitres."""
    logits = codec.decode(latent, slice_mask).logits * SHARPNESS
    voxel_ml = math.prod(codec.grid.spacing_mm) / 1000.0
    return logits.softmax(dim=1)[:, Label.LV].sum() * voxel_ml


def steer(codec: Codec, latent: Tensor, slice_mask: Tensor, target_ml: float) -> Steering:
    """The shift that brings the LV volume of ``latent`` to ``target_ml``, or as near as the steps allow."""
    with torch.inference_mode(False), torch.enable_grad():
        start, mask = latent.detach().clone(), slice_mask.detach().clone()
        shift = torch.zeros_like(start, requires_grad=True)
        optimizer = torch.optim.Adam([shift], lr=LEARNING_RATE)
        before_ml = after_ml = math.nan
        for step in range(STEPS + 1):
            volume = soft_lv_ml(codec, start + shift, mask)
            after_ml = float(volume.detach())
            before_ml = after_ml if step == 0 else before_ml
            error = volume / target_ml - 1.0
            if step == STEPS or abs(float(error.detach())) < TOLERANCE:
                break
            optimizer.zero_grad()
            loss = ERROR_WEIGHT * error.square() + SHIFT_WEIGHT * shift.square().mean()
            (shift.grad,) = torch.autograd.grad(loss, [shift])
            optimizer.step()
    return Steering(shift.detach(), before_ml, after_ml, step)


def swing(phases: Tensor) -> Tensor:
    """How much of an ES shift belongs to ``phases`` (``T``): 0 at ED, 1 at ES, the first cosine of the cycle."""
    return 0.5 * (1.0 - torch.cos(math.pi * phases))
