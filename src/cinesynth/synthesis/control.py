"""Meeting the requested volumes: the mask decoder is differentiable, so a latent can be moved until they agree.

A sampled motion is first made larger or smaller as a whole until the ESV is met: on the line from ED through ES latents
decode to hearts that have contracted more or less. What that leaves, and the EDV, is met by a small additive shift of
the latent, found by a few Adam steps on the relative error of the LV volume with a penalty that keeps it small against
the latents' unit scale. At ES the shift swings in and out with the cycle.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

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
MAX_AMPLITUDE = 2.0
"""A bound on how far a motion is stretched; beyond 1.2 even a patient's own motion loses myocardium."""
AMPLITUDE_STEP = 0.25
"""Stride of the search for an amplitude that contracts enough."""
HALVINGS = 6


@dataclass(frozen=True)
class Steering:
    """A shift ``1 C x y z`` (and the factor on a motion before it) and what they did to the soft LV volume."""

    shift: Tensor
    before_ml: float
    after_ml: float
    steps: int
    amplitude: float | None = None

    def move(self, residuals: Tensor, phases: Tensor) -> Tensor:
        """A motion's residuals ``T C x y z`` at ``phases`` (``T``) as steered."""
        factor = 1.0 if self.amplitude is None else self.amplitude
        return factor * residuals + self.shift * swing(phases).to(residuals)[:, None, None, None, None]

    def to_json(self) -> dict[str, float | int]:
        """Volumes, a motion's factor, steps, and the shift's size in standard deviations of the latents."""
        rms = float(self.shift.square().mean().sqrt())
        volumes = {"soft_before_ml": round(self.before_ml, 3), "soft_after_ml": round(self.after_ml, 3)}
        factor = {} if self.amplitude is None else {"amplitude": round(self.amplitude, 4)}
        return {**volumes, **factor, "steps": self.steps, "shift_rms": round(rms, 4)}


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


def steer_motion(codec: Codec, anatomy: Tensor, residual: Tensor, slice_mask: Tensor, target_ml: float) -> Steering:
    """Bring the LV volume of ``anatomy + residual`` (ES) to ``target_ml``: a factor on the motion, then a shift."""
    volume_ml = _line(codec, anatomy, residual, slice_mask)
    amplitude = meeting_amplitude(volume_ml, target_ml)
    rest = steer(codec, anatomy + amplitude * residual, slice_mask, target_ml)
    return replace(rest, amplitude=amplitude, before_ml=volume_ml(1.0))


def _line(codec: Codec, anatomy: Tensor, residual: Tensor, slice_mask: Tensor) -> Callable[[float], float]:
    """Soft LV volume as a function of the amplitude."""

    @functools.cache
    @torch.no_grad()
    def volume_ml(amplitude: float) -> float:
        return float(soft_lv_ml(codec, anatomy + amplitude * residual, slice_mask))

    return volume_ml


def meeting_amplitude(volume_ml: Callable[[float], float], target_ml: float) -> float:
    """An amplitude that meets the target, found by strides and bisection; else the best one tried."""
    if volume_ml(0.0) <= target_ml:
        return 1.0  # no contraction is too little: not a matter of amplitude
    small, large, tried = 0.0, 1.0, [1.0]
    while volume_ml(large) > target_ml and large < MAX_AMPLITUDE:
        small, large = large, large + AMPLITUDE_STEP
        tried.append(large)
    for _ in range(HALVINGS if volume_ml(large) <= target_ml else 0):
        if abs(volume_ml(tried[-1]) / target_ml - 1.0) < TOLERANCE:
            break
        tried.append(0.5 * (small + large))
        small, large = (tried[-1], large) if volume_ml(tried[-1]) > target_ml else (small, tried[-1])
    return min(tried, key=lambda amplitude: abs(volume_ml(amplitude) - target_ml))


def swing(phases: Tensor) -> Tensor:
    """How much of an ES shift belongs to ``phases`` (``T``): 0 at ED, 1 at ES, the first cosine of the cycle."""
    return 0.5 * (1.0 - torch.cos(math.pi * phases))
