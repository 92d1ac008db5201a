"""The solvers of the straight path: what diffusers' schedulers do, without their import."""

import pytest
import torch
from diffusers import DDIMScheduler, FlowMatchEulerDiscreteScheduler, FlowMatchHeunDiscreteScheduler

from cinesynth.config.schema import DiffusionConfig
from cinesynth.models.paths import SCHEDULE, TRAIN_STEPS, cumulative_alphas
from cinesynth.models.solvers import make_solver, sample


def velocity(x: torch.Tensor, time: float) -> torch.Tensor:
    """Neither straight nor linear."""
    return torch.sin(x) + time * torch.cos(2.0 * x)


def by_diffusers(name: str, steps: int, shift: float, start: torch.Tensor) -> torch.Tensor:
    kind = {"euler": FlowMatchEulerDiscreteScheduler, "heun": FlowMatchHeunDiscreteScheduler}[name]
    scheduler, x = kind(num_train_timesteps=TRAIN_STEPS, shift=shift), start
    if name == "euler":
        scheduler.set_timesteps(sigmas=torch.linspace(1.0, 1.0 / steps, steps).tolist())
    else:
        scheduler.set_timesteps(steps)
    for timestep, time in zip(scheduler.timesteps, scheduler.sigmas.tolist(), strict=False):
        x = scheduler.step(velocity(x, time), timestep, x).prev_sample
    return x


@pytest.mark.parametrize("steps", [1, 2, 7, 12, 50])
@pytest.mark.parametrize("shift", [0.5, 1.0, 3.0, 4.0])
def test_euler_and_heun_are_those_of_diffusers(steps: int, shift: float) -> None:
    torch.manual_seed(0)
    start = torch.randn(1, 2, 4, 4, 3)
    for name in ("euler", "heun"):
        solver = make_solver(DiffusionConfig(solver=name, time_shift=shift), steps)
        ours, theirs = sample(velocity, start, solver), by_diffusers(name, steps, shift, start)
        if name == "euler":
            assert torch.equal(ours, theirs)
        # To get the velocity back, diffusers' Heun divides by the time, which may be 0.001: that costs it three digits.
        torch.testing.assert_close(ours, theirs, atol=3e-4, rtol=0)


def test_the_variance_preserving_schedule_is_that_of_diffusers() -> None:
    assert torch.equal(cumulative_alphas(), DDIMScheduler(**SCHEDULE).alphas_cumprod)
