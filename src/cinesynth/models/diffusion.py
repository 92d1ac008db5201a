"""Latent diffusion: a denoising network with its path, and the solvers that follow it from noise to a clean code.

Loss and solvers see a denoiser, never a parameterisation. `make_solver` picks one of diffusers' schedulers: Euler and
Heun (2 n - 1 calls for n steps) for flow matching, DDIM (Song et al., 2021) for the variance-preserving schedule, and
for both DPM-Solver++ 2M (Lu et al., 2022) and UniPC (Zhao et al., 2023), one call a step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    FlowMatchHeunDiscreteScheduler,
    UniPCMultistepScheduler,
)
from torch import Tensor, nn

from cinesynth.config import DiffusionConfig
from cinesynth.models.conditioning import Conditions
from cinesynth.models.denoiser import DenoiserUNet
from cinesynth.models.layers import broadcast_mask
from cinesynth.models.paths import SCHEDULE, TRAIN_STEPS, DiffusionPath, FlowPath, NoisePath, VPath, add_noise
from cinesynth.types import AnatomyLatent, Latent, PerCase, Scalar, SliceMask

SPACE = (1, 2, 3, 4)
"""All axes of codes ``B C x y Z`` but that of the cases."""
Denoiser = Callable[[Latent, float], Latent]
"""Predicts the quantity that the model's path defines from noisy codes ``B C x y Z`` at one time; time 1 is noise."""
StepCallback = Callable[[int, int], None]
"""Called after each call of the denoiser with the calls done and the calls in all; an exception stops sampling."""


class LatentDiffusion(nn.Module):
    """A U-Net with its objective: `loss` in training, `sample` in generation."""

    alphas_cumprod: Tensor

    def __init__(self, network: DenoiserUNet, config: DiffusionConfig) -> None:
        super().__init__()
        self.network = network
        self.config = config
        # A buffer, so that it moves with the model; not stored, as it is the same for all weights.
        self.register_buffer("alphas_cumprod", DDIMScheduler(**SCHEDULE).alphas_cumprod.clone(), persistent=False)

    @property
    def path(self) -> DiffusionPath:
        """The path from clean codes to noise that the objective means."""
        if self.config.objective == "flow":
            return FlowPath(self.config.time_shift)
        return VPath(self.alphas_cumprod) if self.config.objective == "v" else NoisePath(self.alphas_cumprod)

    def loss(
        self,
        clean: Latent,
        noise: Latent,
        uniforms: PerCase,
        conditions: Conditions,
        slice_mask: SliceMask,
        anatomy: AnatomyLatent | None = None,
        project: Callable[[Tensor], Tensor] | None = None,
    ) -> Scalar:
        """Mean squared error over acquired slices; ``project`` keeps the part of the error that was observed."""
        path = self.path
        time = path.draw_times(uniforms)
        noisy, target = add_noise(path, clean, noise, time), path.target(clean, noise, time)
        error = self.predict(noisy, time, conditions, slice_mask, anatomy) - target
        if project is not None:
            error = project(error)
        mask = broadcast_mask(slice_mask, error)
        per_case = (error * mask).square().sum(dim=SPACE) / (mask.expand_as(error).sum(dim=SPACE))
        return (per_case * path.loss_weight(time)).mean()

    def predict(
        self, noisy: Latent, time: PerCase, conditions: Conditions, slice_mask: SliceMask, anatomy: AnatomyLatent | None
    ) -> Latent:
        """Noise, v or velocity at ``time`` (0 clean, 1 noise), as the path defines it."""
        answer: Tensor = self.network(noisy, time, conditions, slice_mask, anatomy).float()
        return self.path.precondition(answer, noisy, time, slice_mask)

    @torch.no_grad()
    def sample(
        self,
        noise: Latent,
        conditions: Conditions,
        slice_mask: SliceMask,
        anatomy: AnatomyLatent | None = None,
        *,
        steps: int | None = None,
        guidance: float | None = None,
        start: Latent | None = None,
        strength: float = 1.0,
        callback: StepCallback | None = None,
    ) -> Latent:
        """Clean codes from ``noise``, zero on slices that were not acquired.

        Guidance 1 and 0 cost one pass a step, others a pass of twice the batch. With clean codes as ``start``, the
        result is a variation of them: ``strength`` 0 gives them back, 1 ignores them. ``callback(step, steps)`` is
        called after each call of the network.
        """
        solver = make_solver(self.config, steps or self.config.sampling_steps)
        denoiser = self.denoiser(conditions, slice_mask, anatomy, guidance)
        if start is None:
            codes = sample(denoiser, noise, solver, callback)
        else:
            codes = vary(denoiser, self.path, start, noise, solver, strength, callback)
        return codes * broadcast_mask(slice_mask, codes)

    def denoiser(
        self,
        conditions: Conditions,
        slice_mask: SliceMask,
        anatomy: AnatomyLatent | None = None,
        guidance: float | None = None,
    ) -> Denoiser:
        """The network under conditions as a function of noisy codes and one time, by default guided as the config says.

        Classifier-free guidance with scale ``s`` is ``u + s (c - u)`` (Ho and Salimans, 2022): 0 is unconditional, 1
        conditional. It acts inside the guidance interval alone (Kynkäänniemi et al., 2024).
        """
        scale = self.config.guidance if guidance is None else guidance
        low, high = self.config.guidance_interval
        asked = conditions.unconditional() if scale == 0.0 else conditions

        def denoise(x: Tensor, at: float) -> Tensor:
            time = torch.full((len(x),), at, device=x.device)
            if scale in (0.0, 1.0) or not low <= float(time[0]) <= high:
                return self.predict(x, time, asked, slice_mask, anatomy)
            both = self.predict(
                torch.cat([x, x]),  # 2B C x y Z: with the conditions, then without
                torch.cat([time, time]),
                conditions.and_unconditional(),
                torch.cat([slice_mask, slice_mask]),
                None if anatomy is None else torch.cat([anatomy, anatomy]),
            )
            conditional, unconditional = both.chunk(2)
            guided = torch.lerp(unconditional, conditional, scale)
            share = self.config.guidance_rescale
            if share == 0.0:
                return guided
            # The norm over acquired slices moves to that of the conditional output by a share (Lin et al., 2024).
            masked = [output * broadcast_mask(slice_mask, output) for output in (conditional, guided)]
            norm, own = (output.square().sum(dim=SPACE, keepdim=True).sqrt() for output in masked)  # B 1 1 1 1 each
            return guided * torch.lerp(torch.ones_like(own), norm / own, share)

        return denoise


# --- Solvers: free functions that call back after each call of the denoiser ------------------------------------------


class Solver(NamedTuple):
    """A scheduler of diffusers and the falling times in (0, 1] at which it calls the denoiser."""

    scheduler: Any
    times: list[float]

    def after(self, level: float) -> Solver:
        """The rest of the trajectory below the noise ``level``: the scheduler is the same, its calls are fewer."""
        first = next((i for i, time in enumerate(self.times) if time < level), len(self.times))
        # Heun calls twice at each time but the first: the second call would complete a step that was never begun.
        if first + 1 < len(self.times) and self.times[first] == self.times[first + 1]:
            first += 1
        return Solver(self.scheduler, self.times[first:])


def make_solver(config: DiffusionConfig, steps: int) -> Solver:
    """The solver that ``config`` names, with ``steps`` steps."""
    name, flow, shift = config.solver_name, config.objective == "flow", config.time_shift
    straight: dict[str, Any] = {"num_train_timesteps": TRAIN_STEPS, "shift": shift}
    general = {"num_train_timesteps": TRAIN_STEPS, "use_flow_sigmas": True, "flow_shift": shift} if flow else SCHEDULE
    predicts = {"noise": "epsilon", "v": "v_prediction", "flow": "flow_prediction"}[config.objective]
    general = {**general, "prediction_type": predicts}
    kinds: dict[str, tuple[Any, dict[str, Any]]] = {
        "euler": (FlowMatchEulerDiscreteScheduler, straight),
        "heun": (FlowMatchHeunDiscreteScheduler, straight),
        "ddim": (DDIMScheduler, {**general, "clip_sample": False, "set_alpha_to_one": True}),
        "dpm-solver++": (DPMSolverMultistepScheduler, general),
        "unipc": (UniPCMultistepScheduler, general),
    }
    kind, settings = kinds[name]
    scheduler = kind(**settings)
    # Euler's sigmas are evenly spaced before the shift.
    even = torch.linspace(1.0, 1.0 / steps, steps).tolist()
    scheduler.set_timesteps(**({"sigmas": even} if name == "euler" else {"num_inference_steps": steps}))
    if flow:  # sigmas of the straight path are its times; at the last one, 0, nothing is left to predict
        return Solver(scheduler, [float(sigma) for sigma in scheduler.sigmas[: len(scheduler.timesteps)]])
    return Solver(scheduler, [float(timestep) / TRAIN_STEPS for timestep in scheduler.timesteps])


def sample(denoiser: Denoiser, start: Latent, solver: Solver, callback: StepCallback | None = None) -> Latent:
    """The clean code at the end of the trajectory from ``start``, which has the noise of the solver's first time."""
    x, steps = start, len(solver.times)
    timesteps = solver.scheduler.timesteps[len(solver.scheduler.timesteps) - steps :]
    for step, (timestep, time) in enumerate(zip(timesteps, solver.times, strict=True), start=1):
        x = solver.scheduler.step(denoiser(x, time), timestep, x).prev_sample
        if callback is not None:
            callback(step, steps)
    return x


def vary(
    denoiser: Denoiser,
    path: DiffusionPath,
    clean: Latent,
    noise: Latent,
    solver: Solver,
    strength: float,
    callback: StepCallback | None = None,
) -> Latent:
    """Variations of ``clean``: noised to the time ``strength``, then denoised again (SDEdit, Meng et al., 2022).

    0 returns ``clean`` itself; 1 samples from ``noise`` alone, bit for bit as `sample` does.
    """
    if strength <= 0.0:
        return clean
    if strength >= 1.0:
        return sample(denoiser, noise, solver, callback)
    rest = solver.after(strength)
    steps = 1 + len(rest.times)
    now = torch.full((len(clean),), strength, device=clean.device)
    noisy = add_noise(path, clean, noise, now)
    x0 = path.predict_x0(noisy, denoiser(noisy, strength), now)
    if callback is not None:
        callback(1, steps)
    if not rest.times:
        return x0
    # The strength seldom is one of the solver's times: a DDIM step bridges the difference to the next one.
    signal, sigma = path.factors(now)
    start = add_noise(path, x0, (noisy - signal * x0) / sigma, torch.full_like(now, rest.times[0]))
    return sample(denoiser, start, rest, None if callback is None else lambda step, _: callback(1 + step, steps))
