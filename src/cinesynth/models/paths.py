"""The paths from a clean code to noise: one object a path owns everything that depends on the parameterisation.

On every path ``x_t = signal(t) x_0 + sigma(t) e``: time 0 is the clean code ``x_0``, time 1 the noise ``e``. Paths
differ in both factors and in what the network predicts: the noise, ``v`` or the velocity of the flow.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cinesynth.models.layers import broadcast_mask
from cinesynth.types import CaseFactor, Latent, PerCase, SliceMask

TRAIN_STEPS = 1000
"""Times of the discrete schedule."""
SCHEDULE: dict[str, Any] = {
    "num_train_timesteps": TRAIN_STEPS,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.0015,
    "beta_end": 0.0195,
    "timestep_spacing": "trailing",
}
"""The variance-preserving schedule of latent diffusion (Rombach et al., 2022), as diffusers' schedulers take it."""
GAMMA = 5.0
"""Where min-SNR weighting clips the ratio (Hang et al., 2023), as in the paper."""


def cumulative_alphas() -> Tensor:
    """The squares of the signal's factors on the variance-preserving schedule, shape ``TRAIN_STEPS``."""
    first, last = SCHEDULE["beta_start"], SCHEDULE["beta_end"]
    betas = torch.linspace(first**0.5, last**0.5, TRAIN_STEPS) ** 2
    return torch.cumprod(1.0 - betas, dim=0)


def _per_case(values: PerCase) -> CaseFactor:
    return values[:, None, None, None, None]  # B 1 1 1 1


@dataclass(frozen=True)
class FlowPath:
    """The straight path ``x_t = (1 - t) x_0 + t e``; its velocity is ``e - x_0`` (flow matching, Lipman et al., 2023).

    The network is preconditioned after Karras et al. (2022): it learns what the best linear guess leaves.
    """

    time_shift: float = 1.0

    def factors(self, time: PerCase) -> tuple[CaseFactor, CaseFactor]:
        """``1 - t`` and ``t``, as factors of signal and noise."""
        return _per_case(1.0 - time), _per_case(time)

    def draw_times(self, uniforms: PerCase) -> PerCase:
        """Logit-normal times, shifted towards noise (Esser et al., 2024, section 3.1)."""
        normal = torch.special.ndtri(uniforms.clamp(1e-6, 1 - 1e-6))
        # t -> s t / (1 + (s - 1) t) adds log s to the logit of t
        return torch.sigmoid(normal + math.log(self.time_shift))

    def target(self, clean: Latent, noise: Latent, time: PerCase) -> Latent:
        """The velocity, the same all along the path."""
        return noise - clean

    def predict_x0(self, noisy: Latent, output: Latent, time: PerCase) -> Latent:
        """``x_t - t u``: straight back along the velocity."""
        return noisy - _per_case(time) * output

    def precondition(self, answer: Latent, noisy: Latent, time: PerCase, slice_mask: SliceMask) -> Latent:
        """The velocity of the best linear guess for codes of unit variance, less the answer over ``s``.

        With ``s = sqrt(t^2 + (1 - t)^2)`` the answer has unit variance at every time. At ``t = 1`` it is the clean code
        itself, so that no noise has to pass through the network where the conditions decide.
        """
        t = _per_case(time)
        variance = t.square() + (1.0 - t).square()  # of x_t
        # cov(e - x_0, x_t) / var(x_t) = (2 t - 1) / variance
        return (2.0 * t - 1.0) / variance * noisy * broadcast_mask(slice_mask, noisy) - answer / variance.sqrt()

    def loss_weight(self, time: PerCase) -> PerCase:
        """1: the distribution of training times does the weighting."""
        return torch.ones_like(time)


@dataclass(frozen=True)
class VariancePreserving:
    """The discrete schedule on which signal and noise factors have squares that add up to 1."""

    alphas_cumprod: Tensor

    def factors(self, time: PerCase) -> tuple[CaseFactor, CaseFactor]:
        """Those of signal and noise at the nearest time of the schedule."""
        index = (time * TRAIN_STEPS).round().long().clamp(0, TRAIN_STEPS - 1)
        cumulative = _per_case(self.alphas_cumprod[index])
        return cumulative.sqrt(), (1.0 - cumulative).sqrt()

    def draw_times(self, uniforms: PerCase) -> PerCase:
        """Times of the schedule, all equally likely."""
        return ((uniforms * TRAIN_STEPS).floor().clamp(max=TRAIN_STEPS - 1)) / TRAIN_STEPS

    def precondition(self, answer: Latent, noisy: Latent, time: PerCase, slice_mask: SliceMask) -> Latent:
        """The answer as it is."""
        return answer

    def snr(self, time: PerCase) -> PerCase:
        """Signal-to-noise ratio of variances."""
        signal, sigma = self.factors(time)
        return (signal / sigma).square().flatten()


@dataclass(frozen=True)
class NoisePath(VariancePreserving):
    """Variance-preserving; the network predicts the noise (Ho et al., 2020)."""

    def target(self, clean: Latent, noise: Latent, time: PerCase) -> Latent:
        """The noise."""
        return noise

    def predict_x0(self, noisy: Latent, output: Latent, time: PerCase) -> Latent:
        """``(x_t - sigma e) / signal``."""
        signal, sigma = self.factors(time)
        return (noisy - sigma * output) / signal

    def loss_weight(self, time: PerCase) -> PerCase:
        """Min-SNR weight of noise prediction, ``min(snr, gamma) / snr``."""
        snr = self.snr(time)
        return snr.clamp(max=GAMMA) / snr


@dataclass(frozen=True)
class VPath(VariancePreserving):
    """Variance-preserving; the network predicts ``v = signal e - sigma x_0`` (Salimans and Ho, 2022)."""

    def target(self, clean: Latent, noise: Latent, time: PerCase) -> Latent:
        """``v``."""
        signal, sigma = self.factors(time)
        return signal * noise - sigma * clean

    def predict_x0(self, noisy: Latent, output: Latent, time: PerCase) -> Latent:
        """``signal x_t - sigma v``: the rotation back."""
        signal, sigma = self.factors(time)
        return signal * noisy - sigma * output

    def loss_weight(self, time: PerCase) -> PerCase:
        """Min-SNR weight of v prediction, ``min(snr, gamma) / (snr + 1)``."""
        snr = self.snr(time)
        return snr.clamp(max=GAMMA) / (snr + 1.0)


DiffusionPath = FlowPath | NoisePath | VPath
"""What training and sampling take: a path has all the methods of `FlowPath`."""


def add_noise(path: DiffusionPath, clean: Latent, noise: Latent, time: PerCase) -> Latent:
    """The code at ``time`` on its way to ``noise``."""
    signal, sigma = path.factors(time)
    return signal * clean + sigma * noise
