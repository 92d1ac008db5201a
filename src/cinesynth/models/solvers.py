"""Which of diffusers' solvers follows a trajectory from noise to a code, by objective and name.

Euler and Heun (2 n - 1 calls for n steps) for flow matching, DDIM (Song et al., 2021) for the variance-preserving
schedule, and for both DPM-Solver++ 2M (Lu et al., 2022) and UniPC (Zhao et al., 2023), one call a step.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    FlowMatchHeunDiscreteScheduler,
    UniPCMultistepScheduler,
)

from cinesynth.config import DiffusionConfig

TRAIN_STEPS = 1000
_PREDICTS = {"noise": "epsilon", "v": "v_prediction", "flow": "flow_prediction"}
_SCHEDULE: dict[str, Any] = {
    "num_train_timesteps": TRAIN_STEPS,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.0015,
    "beta_end": 0.0195,
    "timestep_spacing": "trailing",
}
"""Of noise and v prediction: that of latent diffusion."""


def make_solver(config: DiffusionConfig, steps: int) -> Any:
    """A scheduler of ``steps`` steps; its `times_of` are when the network is asked."""
    name = config.solver_name
    if name in ("euler", "heun"):
        return _flow_matching(name, config.time_shift, steps)
    if name == "ddim":
        solver: Any = ddim(config.objective)
    else:
        family = DPMSolverMultistepScheduler if name == "dpm-solver++" else UniPCMultistepScheduler
        solver = family(prediction_type=_PREDICTS[config.objective], **_path(config))
    solver.set_timesteps(steps)
    return solver


def times_of(solver: Any, config: DiffusionConfig) -> list[float]:
    """Time in (0, 1] of each call of the network: for flow the share of noise, else a place in the schedule."""
    if config.objective == "flow":
        return [float(sigma) for sigma in solver.sigmas[: len(solver.timesteps)]]
    return [float(timestep) / TRAIN_STEPS for timestep in solver.timesteps]


def first_below(times: list[float], level: float) -> int:
    """The first call below a noise ``level``; of the two of Heun's method at one time, that which begins a step."""
    first = next((i for i, time in enumerate(times) if time < level), len(times))
    return first + 1 if times[first : first + 1] == times[first + 1 : first + 2] != [] else first


def ddim(objective: str) -> DDIMScheduler:
    """DDIM on the variance-preserving schedule that the objective was trained with."""
    return DDIMScheduler(**_SCHEDULE, prediction_type=_PREDICTS[objective], clip_sample=False, set_alpha_to_one=True)


def _flow_matching(name: str, shift: float, steps: int) -> Any:
    if name == "heun":
        heun = FlowMatchHeunDiscreteScheduler(num_train_timesteps=TRAIN_STEPS, shift=shift)
        heun.set_timesteps(steps)
        return heun
    euler = FlowMatchEulerDiscreteScheduler(num_train_timesteps=TRAIN_STEPS, shift=shift)
    euler.set_timesteps(sigmas=torch.linspace(1.0, 1.0 / steps, steps).tolist())
    return euler


def _path(config: DiffusionConfig) -> dict[str, Any]:
    if config.objective == "flow":
        return {"num_train_timesteps": TRAIN_STEPS, "use_flow_sigmas": True, "flow_shift": config.time_shift}
    return _SCHEDULE
