"""Objectives behind one wrapper: loss and sampler see a denoiser, never a parameterisation.

Noise- and v-prediction use the variance-preserving schedule of latent diffusion (Rombach et al., 2022); flow matching
the straight path ``x_t = (1 - t) x_0 + t e`` with velocity ``e - x_0`` (Lipman et al., 2023), its network
preconditioned after Karras et al. (2022): it answers for what the best linear guess leaves. Solvers are diffusers'.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from cinesynth.config import DiffusionConfig
from cinesynth.models.conditioning import Conditions
from cinesynth.models.denoiser import DenoiserUNet
from cinesynth.models.layers import broadcast_mask
from cinesynth.models.solvers import TRAIN_STEPS, ddim, first_below, make_solver, times_of

MIN_SNR_GAMMA = 5.0
"""Hang et al., 2023."""


class LatentDiffusion(nn.Module):
    """A U-Net with its objective: `loss` in training, `sample` in generation."""

    alphas_cumprod: Tensor

    def __init__(self, network: DenoiserUNet, config: DiffusionConfig) -> None:
        super().__init__()
        self.network = network
        self.config = config
        self.register_buffer("alphas_cumprod", ddim("noise").alphas_cumprod.clone(), persistent=False)

    def draw_times(self, uniforms: Tensor) -> Tensor:
        """Training times in (0, 1) from uniforms (``B``): shifted logit-normal for flow, the discrete grid else."""
        if self.config.objective == "flow":
            normal = torch.special.ndtri(uniforms.clamp(1e-6, 1 - 1e-6))
            return torch.sigmoid(normal + math.log(self.config.time_shift))
        return ((uniforms * TRAIN_STEPS).floor().clamp(max=TRAIN_STEPS - 1)) / TRAIN_STEPS

    def mix(self, clean: Tensor, noise: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
        """Noisy code at ``time`` and what `predict` should say of it."""
        signal, spread = (c[:, None, None, None, None] for c in self._coefficients(time))
        noisy = signal * clean + spread * noise
        if self.config.objective == "flow":
            return noisy, noise - clean
        if self.config.objective == "v":
            return noisy, signal * noise - spread * clean
        return noisy, noise

    def clean(self, noisy: Tensor, output: Tensor, time: Tensor) -> Tensor:
        """The clean code that an ``output`` of `predict` means."""
        signal, spread = (c[:, None, None, None, None] for c in self._coefficients(time))
        if self.config.objective == "flow":
            return noisy - spread * output
        if self.config.objective == "v":
            return signal * noisy - spread * output
        return (noisy - spread * output) / signal

    def loss(
        self,
        clean: Tensor,
        noise: Tensor,
        uniforms: Tensor,
        conditions: Conditions,
        slice_mask: Tensor,
        anatomy: Tensor | None = None,
        project: Callable[[Tensor], Tensor] | None = None,
    ) -> Tensor:
        """Mean squared error over acquired slices; ``project`` keeps the part of the error that was observed."""
        time = self.draw_times(uniforms)
        noisy, target = self.mix(clean, noise, time)
        error = self.predict(noisy, time, conditions, slice_mask, anatomy) - target
        if project is not None:
            error = project(error)
        mask = broadcast_mask(slice_mask, error)
        per_case = (error * mask).square().sum(dim=(1, 2, 3, 4)) / (mask.expand_as(error).sum(dim=(1, 2, 3, 4)))
        return (per_case * self._loss_weight(time)).mean()

    def predict(
        self, noisy: Tensor, time: Tensor, conditions: Conditions, slice_mask: Tensor, anatomy: Tensor | None = None
    ) -> Tensor:
        """Noise, v or velocity, ``B C x y z``, as the objective has it.

        For flow: the velocity of the best linear guess for codes of unit variance, less the network's answer over
        ``s = sqrt(t^2 + (1 - t)^2)``, so that the network's target has unit variance at every time. At ``t = 1`` that
        target is the clean code: no noise has to pass the network where conditions decide.
        """
        output: Tensor = self.network(noisy, time, conditions, slice_mask, anatomy).float()
        if self.config.objective != "flow":
            return output
        t = time[:, None, None, None, None]
        variance = t.square() + (1.0 - t).square()
        return (2.0 * t - 1.0) / variance * noisy * broadcast_mask(slice_mask, noisy) - output / variance.sqrt()

    @torch.no_grad()
    def sample(
        self,
        noise: Tensor,
        conditions: Conditions,
        slice_mask: Tensor,
        anatomy: Tensor | None = None,
        *,
        steps: int | None = None,
        guidance: float | None = None,
        start: Tensor | None = None,
        strength: float = 1.0,
        callback: Callable[[int, int], None] | None = None,
    ) -> Tensor:
        """Clean codes from ``noise`` (``B C x y z``). Guidance 1 and 0 cost one pass a step, others a doubled batch.

        With clean codes as ``start``, variations of them (SDEdit, Meng et al., 2022): they are noised to the level
        ``strength`` and go the rest of the way. 0 gives them back; 1 is noise alone, bit for bit as without them.
        ``callback`` is called with the solver's steps done and in all, after each; what it raises ends the sampling.
        """
        solver = make_solver(self.config, steps or self.config.sampling_steps)
        scale = self.config.guidance if guidance is None else guidance

        def predict(x: Tensor, time: float) -> Tensor:
            times = torch.full((len(x),), time, device=x.device)
            return self._guided(x, times, conditions, slice_mask, anatomy, scale)

        x, times = noise, times_of(solver, self.config)
        begin = 0 if start is None or strength >= 1.0 else first_below(times, strength)
        if start is not None and strength < 1.0:
            x = start if strength <= 0.0 else self._enter(start, noise, strength, times[begin:], predict)
        rest = list(zip(solver.timesteps[begin:], times[begin:], strict=True))
        for done, (timestep, time) in enumerate(rest, start=1):
            x = solver.step(predict(x, time), timestep, x).prev_sample
            if callback is not None:
                callback(done, len(rest))
        return x * broadcast_mask(slice_mask, x)

    def _enter(
        self, start: Tensor, noise: Tensor, level: float, rest: list[float], predict: Callable[[Tensor, float], Tensor]
    ) -> Tensor:
        """``start`` at the noise ``level``, one step on: at the first of the times that ``rest``, or clean."""
        now = torch.full((len(start),), level, device=start.device)
        noisy, _ = self.mix(start, noise, now)
        clean = self.clean(noisy, predict(noisy, level), now)
        if not rest:
            return clean
        signal, spread = (c[:, None, None, None, None] for c in self._coefficients(now))
        then = torch.full_like(now, rest[0])
        return self.mix(clean, (noisy - signal * clean) / spread, then)[0]

    def _guided(
        self, x: Tensor, time: Tensor, conditions: Conditions, slice_mask: Tensor, anatomy: Tensor | None, scale: float
    ) -> Tensor:
        """Classifier-free guidance, ``u + s (c - u)`` (Ho and Salimans, 2022), where the interval has it."""
        if scale == 0.0:
            conditions = conditions.unconditional()
        low, high = self.config.guidance_interval
        if scale in (0.0, 1.0) or not low <= float(time[0]) <= high:
            return self.predict(x, time, conditions, slice_mask, anatomy)
        twice = conditions.and_unconditional()
        given = None if anatomy is None else torch.cat([anatomy, anatomy])
        both = self.predict(torch.cat([x, x]), torch.cat([time, time]), twice, torch.cat([slice_mask] * 2), given)
        conditional, unconditional = both.chunk(2)
        guided = torch.lerp(unconditional, conditional, scale)
        return _rescaled(guided, conditional, slice_mask, self.config.guidance_rescale)

    def _coefficients(self, time: Tensor) -> tuple[Tensor, Tensor]:
        """Signal and noise factors at ``time`` (``B``)."""
        if self.config.objective == "flow":
            return 1.0 - time, time
        index = (time * TRAIN_STEPS).round().long().clamp(0, TRAIN_STEPS - 1)
        cumulative = self.alphas_cumprod[index]
        return cumulative.sqrt(), (1.0 - cumulative).sqrt()

    def _loss_weight(self, time: Tensor) -> Tensor:
        """Min-SNR weights of the discrete objectives; flow weighs by its distribution of times."""
        if self.config.objective == "flow":
            return torch.ones_like(time)
        signal, spread = self._coefficients(time)
        snr = (signal / spread).square()
        clipped = snr.clamp(max=MIN_SNR_GAMMA)
        return clipped / (snr + 1.0) if self.config.objective == "v" else clipped / snr


def _rescaled(guided: Tensor, conditional: Tensor, slice_mask: Tensor, share: float) -> Tensor:
    """``guided`` with its spread over acquired slices brought to that of ``conditional``, by ``share``."""
    if share == 0.0:
        return guided
    mask = broadcast_mask(slice_mask, guided)
    axes = (1, 2, 3, 4)
    spreads = [(output * mask).square().sum(dim=axes, keepdim=True).sqrt() for output in (conditional, guided)]
    return guided * torch.lerp(torch.ones_like(spreads[0]), spreads[0] / spreads[1], share)
