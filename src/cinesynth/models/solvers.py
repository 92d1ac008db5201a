"""Solvers: free functions that follow a denoiser from noise to a clean code, calling back after each of its calls.

They see a denoiser, never a parameterisation. On the straight path of flow matching, `euler` and `heun` integrate the
velocity. diffusers has the others: DDIM (Song et al., 2021) for the variance-preserving schedule, and for both paths
DPM-Solver++ 2M (Lu et al., 2022) and UniPC (Zhao et al., 2023). Heun calls the denoiser 2 n - 1 times in n steps, the
others once a step.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import count, pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor

from cinesynth.config.schema import DiffusionConfig
from cinesynth.models.paths import SCHEDULE, TRAIN_STEPS, DiffusionPath, add_noise
from cinesynth.types import Latent

Denoiser = Callable[[Latent, float], Latent]
"""Predicts the quantity that the model's path defines from noisy codes ``B C x y Z`` at one time; time 1 is noise."""
StepCallback = Callable[[int, int], None]
"""Called after each call of the denoiser with the calls done and the calls in all; an exception stops sampling."""
Method = Callable[[Denoiser, Latent, list[float]], Latent]
"""Follows a denoiser from noisy codes through falling times, of which the codes have the first, to time 0."""


class Solver(NamedTuple):
    """A method with the falling times in (0, 1] that begin its steps."""

    method: Method
    times: list[float]

    @property
    def calls(self) -> int:
        """How often the denoiser is called."""
        return 2 * len(self.times) - 1 if self.method is heun else len(self.times)

    def after(self, level: float) -> Solver:
        """The rest of the trajectory below the noise ``level``."""
        return Solver(self.method, [time for time in self.times if time < level])


def make_solver(config: DiffusionConfig, steps: int) -> Solver:
    """The solver that ``config`` names, with ``steps`` steps."""
    if config.solver_name == "euler":
        even = torch.linspace(1.0, 1.0 / steps, steps)
        return Solver(euler, _shifted(even, config.time_shift).tolist())
    if config.solver_name == "heun":  # its steps end at the schedule's last time, which is shifted like all of them
        last = _shifted(torch.tensor(1.0 / TRAIN_STEPS), config.time_shift)
        even = torch.linspace(1.0, float(last), steps, dtype=torch.float64)
        return Solver(heun, _shifted(even, config.time_shift).float().tolist())
    return _solver_of_diffusers(config, steps)


def _shifted(times: Tensor, shift: float) -> Tensor:
    return shift * times / (1.0 + (shift - 1.0) * times)


def euler(denoiser: Denoiser, x: Latent, times: list[float]) -> Latent:
    """Straight steps along the velocity at their beginning."""
    for now, after in pairwise([*times, 0.0]):
        x = x + (after - now) * denoiser(x, now)
    return x


def heun(denoiser: Denoiser, x: Latent, times: list[float]) -> Latent:
    """Steps along the mean of the velocities at both ends; the last one, to time 0, is Euler's."""
    for now, after in pairwise([*times, 0.0]):
        velocity = denoiser(x, now)
        if after > 0.0:
            velocity = 0.5 * (velocity + denoiser(x + (after - now) * velocity, after))
        x = x + (after - now) * velocity
    return x


def _solver_of_diffusers(config: DiffusionConfig, steps: int) -> Solver:
    from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, UniPCMultistepScheduler  # takes two seconds

    flow = config.objective == "flow"
    straight = {"num_train_timesteps": TRAIN_STEPS, "use_flow_sigmas": True, "flow_shift": config.time_shift}
    predicts = {"noise": "epsilon", "v": "v_prediction", "flow": "flow_prediction"}[config.objective]
    settings: dict[str, Any] = {**(straight if flow else SCHEDULE), "prediction_type": predicts}
    if config.solver_name == "ddim":
        scheduler: Any = DDIMScheduler(**settings, clip_sample=False, set_alpha_to_one=True)
    else:
        kinds = {"dpm-solver++": DPMSolverMultistepScheduler, "unipc": UniPCMultistepScheduler}
        scheduler = kinds[config.solver_name](**settings)
    scheduler.set_timesteps(steps)
    if flow:  # sigmas of the straight path are its times; at the last one, 0, nothing is left to predict
        return Solver(partial(_follow, scheduler), scheduler.sigmas[: len(scheduler.timesteps)].tolist())
    return Solver(partial(_follow, scheduler), [timestep / TRAIN_STEPS for timestep in scheduler.timesteps.tolist()])


def _follow(scheduler: Any, denoiser: Denoiser, x: Latent, times: list[float]) -> Latent:
    """The last steps of a scheduler of diffusers, as many as there are ``times``."""
    for timestep, time in zip(scheduler.timesteps[len(scheduler.timesteps) - len(times) :], times, strict=True):
        x = scheduler.step(denoiser(x, time), timestep, x).prev_sample
    return x


def sample(denoiser: Denoiser, start: Latent, solver: Solver, callback: StepCallback | None = None) -> Latent:
    """The clean code at the end of the trajectory from ``start``, which has the noise of the solver's first time."""
    if callback is None:
        return solver.method(denoiser, start, solver.times)
    steps = count(1)

    def heard(x: Latent, time: float) -> Latent:
        output = denoiser(x, time)
        callback(next(steps), solver.calls)
        return output

    return solver.method(heard, start, solver.times)


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
    steps = 1 + rest.calls
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
