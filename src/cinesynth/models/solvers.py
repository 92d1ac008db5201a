"""Samplers: free functions that follow a denoiser from noise to a clean code, calling back after each step.

`make_solver` picks one of diffusers' schedulers: Euler and Heun (2 n - 1 calls for n steps) for flow matching, DDIM
(Song et al., 2021) for the variance-preserving schedule, and for both DPM-Solver++ 2M (Lu et al., 2022) and UniPC (Zhao
et al., 2023), one call a step. `sample` and `vary` take any of them.
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

from cinesynth.config import DiffusionConfig
from cinesynth.models.paths import SCHEDULE, TRAIN_STEPS, DiffusionPath, add_noise, factors
from cinesynth.types import Latent

Denoiser = Callable[[Latent, float], Latent]
"""Predicts the quantity that the model's path defines from noisy codes ``B C x y Z`` at one time; time 1 is noise."""
StepCallback = Callable[[int, int], None]
"""Called after each call of the denoiser with the calls done and the calls in all; an exception stops sampling."""


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
    scheduler = _make_scheduler(config, steps)
    if (
        config.objective == "flow"
    ):  # sigmas of the straight path are its times; at the last one, 0, nothing is left to predict
        return Solver(scheduler, [float(sigma) for sigma in scheduler.sigmas[: len(scheduler.timesteps)]])
    return Solver(scheduler, [float(timestep) / TRAIN_STEPS for timestep in scheduler.timesteps])


def _make_scheduler(config: DiffusionConfig, steps: int) -> Any:
    scheduler: Any
    name, shift = config.solver_name, config.time_shift
    if name == "euler":
        scheduler = FlowMatchEulerDiscreteScheduler(num_train_timesteps=TRAIN_STEPS, shift=shift)
        scheduler.set_timesteps(
            sigmas=torch.linspace(1.0, 1.0 / steps, steps).tolist()
        )  # evenly spaced before the shift
        return scheduler
    flow = {"num_train_timesteps": TRAIN_STEPS, "use_flow_sigmas": True, "flow_shift": shift}
    path = flow if config.objective == "flow" else SCHEDULE
    predicts = {"noise": "epsilon", "v": "v_prediction", "flow": "flow_prediction"}[config.objective]
    match name:
        case "heun":
            scheduler = FlowMatchHeunDiscreteScheduler(num_train_timesteps=TRAIN_STEPS, shift=shift)
        case "ddim":
            scheduler = DDIMScheduler(**path, prediction_type=predicts, clip_sample=False, set_alpha_to_one=True)
        case "dpm-solver++":
            scheduler = DPMSolverMultistepScheduler(**path, prediction_type=predicts)
        case "unipc":
            scheduler = UniPCMultistepScheduler(**path, prediction_type=predicts)
        case _:
            raise ValueError(f"solver {name!r} has no scheduler")
    scheduler.set_timesteps(steps)
    return scheduler


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
    start = sdedit_start(denoiser, path, clean, noise, strength, rest.times)
    if callback is None:
        return sample(denoiser, start, rest)
    callback(1, steps)
    return sample(denoiser, start, rest, lambda step, _: callback(1 + step, steps))


def sdedit_start(
    denoiser: Denoiser, path: DiffusionPath, clean: Latent, noise: Latent, level: float, rest: list[float]
) -> Latent:
    """``clean`` noised to ``level`` and moved one step on, to the first time of ``rest``; without any, denoised.

    The level seldom is one of the solver's times: a DDIM step bridges the difference.
    """
    now = torch.full((len(clean),), level, device=clean.device)
    noisy = add_noise(path, clean, noise, now)
    x0 = path.predict_x0(noisy, denoiser(noisy, level), now)
    if not rest:
        return x0
    signal, sigma = factors(path, now)
    return add_noise(path, x0, (noisy - signal * x0) / sigma, torch.full_like(now, rest[0]))
