"""Solvers: free functions that follow a denoiser from noise to a clean code, calling back after each of its calls.

They see a denoiser, never a parameterisation. `make_solver` picks one of diffusers' schedulers: Euler and Heun
(2 n - 1 calls for n steps) for flow matching, DDIM (Song et al., 2021) for the variance-preserving schedule, and for
both DPM-Solver++ 2M (Lu et al., 2022) and UniPC (Zhao et al., 2023), one call a step.
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

from cinesynth.config.schema import DiffusionConfig
from cinesynth.models.paths import SCHEDULE, TRAIN_STEPS, DiffusionPath, add_noise
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
