"""The wrapper: every objective means the same clean code, and guidance is what it says."""

import math

import pytest
import torch
from torch import nn

from cinesynth.config import load_config
from cinesynth.config.schema import DiffusionConfig
from cinesynth.models.build import build_anatomy_diffusion, build_motion_diffusion
from cinesynth.models.conditioning import encode_priors
from cinesynth.models.diffusion import LatentDiffusion
from cinesynth.models.paths import add_noise
from cinesynth.models.residual_motion import HarmonicCode
from cinesynth.models.solvers import make_solver
from cinesynth.training.stages.diffusion import TrainableDiffusion
from cinesynth.types import ClinicalPrior, Diagnosis

PRIOR = ClinicalPrior.from_ef(Diagnosis.HCM, 130.0, 70.0, 8)
FLOW, OTHER = ("euler", "heun", "dpm-solver++", "unipc"), ("ddim", "dpm-solver++", "unipc")
CASES = [("flow", s) for s in FLOW] + [(objective, s) for objective in ("noise", "v") for s in OTHER]


class Oracle(nn.Module):
    """Knows the clean code and answers what the objective asks for."""

    def __init__(self, clean: torch.Tensor) -> None:
        super().__init__()
        self.clean_code, self.owner, self.asked = clean, None, []

    @classmethod
    def of(cls, clean, **config):
        """A diffusion model whose network it is."""
        oracle = cls(clean)
        oracle.owner = LatentDiffusion(oracle, DiffusionConfig(guidance=1.0, **config))
        return oracle.owner

    def forward(self, noisy, time, conditions, slice_mask, anatomy=None):
        self.asked.append(float(time[0]))
        signal, sigma = self.owner.path.factors(time)
        noise = (noisy - signal * self.clean_code) / sigma.clamp(min=1e-8)
        variance = signal.square() + sigma.square()
        guess = (signal * self.clean_code + sigma * noise) * (sigma - signal) / variance  # of e - x, by regression
        return {
            "flow": (guess - (noise - self.clean_code)) * variance.sqrt(),
            "noise": noise,
            "v": signal * noise - sigma * self.clean_code,
        }[self.owner.config.objective]


class Answer(nn.Module):
    """Answers the same, whatever it is asked."""

    def __init__(self, answer: torch.Tensor) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, *_):
        return self.answer


@pytest.mark.parametrize(("objective", "solver"), CASES)
def test_a_perfect_denoiser_samples_its_clean_code(objective, solver):
    """The exact trajectory ends on the one clean code there is, and so must every solver, at its number of calls."""
    torch.manual_seed(0)
    clean, noise = torch.randn(2, 1, 2, 4, 4, 3)
    diffusion, mask = Oracle.of(clean, objective=objective, solver=solver), torch.ones(1, 3, dtype=torch.bool)
    sample = diffusion.sample(noise, encode_priors([PRIOR]), mask, steps=8)
    torch.testing.assert_close(sample, clean, atol=2e-2, rtol=0)
    asked = diffusion.network.asked
    assert len(asked) == (15 if solver == "heun" else 8)
    assert asked == sorted(asked, reverse=True)
    assert 0.0 < asked[-1] < asked[0] <= 1.0


@pytest.mark.parametrize("objective", ["noise", "v", "flow"])
def test_a_perfect_denoiser_has_no_loss(objective):
    torch.manual_seed(0)
    clean, noise = torch.randn(2, 1, 2, 4, 4, 3)
    diffusion, mask = Oracle.of(clean, objective=objective), torch.ones(1, 3, dtype=torch.bool)
    assert float(diffusion.loss(clean, noise, torch.rand(1), encode_priors([PRIOR]), mask)) < 1e-6


@pytest.mark.parametrize("objective", ["noise", "v", "flow"])
def test_predict_x0_inverts_add_noise(objective):
    torch.manual_seed(0)
    diffusion = LatentDiffusion(nn.Identity(), DiffusionConfig(objective=objective))
    clean, noise = torch.randn(2, 5, 2, 4, 4, 3)
    time = torch.tensor([0.05, 0.3, 0.5, 0.7, 0.9])
    path = diffusion.path
    noisy, target = add_noise(path, clean, noise, time), path.target(clean, noise, time)
    torch.testing.assert_close(path.predict_x0(noisy, target, time), clean, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("at", [0.05, 0.5, 1.0])
def test_what_the_flow_network_must_answer_has_unit_variance(at):
    """At t = 1 it is the clean code itself; the prediction is then the velocity."""
    torch.manual_seed(0)
    clean, noise = torch.randn(2, 1, 8, 16, 16, 6)
    time, mask = torch.tensor([at]), torch.ones(1, 6, dtype=torch.bool)
    diffusion = LatentDiffusion(Answer(torch.zeros_like(clean)), DiffusionConfig())
    path = diffusion.path
    noisy, velocity = add_noise(path, clean, noise, time), path.target(clean, noise, time)
    guess = diffusion.predict(noisy, time, encode_priors([PRIOR]), mask, None)
    left = (guess - velocity) * math.sqrt(at**2 + (1 - at) ** 2)
    assert float(left.std()) == pytest.approx(1.0, abs=0.03)
    if at == 1.0:
        torch.testing.assert_close(left, clean)
    diffusion.network = Answer(left)
    torch.testing.assert_close(diffusion.predict(noisy, time, encode_priors([PRIOR]), mask, None), velocity)


def test_shifted_times_lie_nearer_to_noise_in_training_and_sampling():
    plain, shifted = (LatentDiffusion(nn.Identity(), DiffusionConfig(time_shift=s)) for s in (1.0, 4.0))
    uniforms = torch.linspace(0.01, 0.99, 99)
    before, after = plain.path.draw_times(uniforms), shifted.path.draw_times(uniforms)
    torch.testing.assert_close(after, 4.0 * before / (1.0 + 3.0 * before))
    assert make_solver(shifted.config, 4).times == pytest.approx([1.0, 12 / 13, 0.8, 4 / 7])


def test_a_solver_of_another_objective_is_refused() -> None:
    for objective, solver in (("flow", "ddim"), ("v", "euler"), ("noise", "heun")):
        with pytest.raises(ValueError, match=f"solver {solver} does not support the objective {objective}"):
            DiffusionConfig(objective=objective, solver=solver)
    with pytest.raises(ValueError, match="begins after its end"):
        DiffusionConfig(guidance_interval=(0.8, 0.2))


@pytest.fixture
def anatomy():
    torch.manual_seed(0)
    diffusion = build_anatomy_diffusion(load_config("smoke")).eval()
    for parameter in diffusion.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.05)
    return diffusion


def test_guidance_zero_is_unconditional_and_one_is_conditional(anatomy):
    noise, mask = torch.randn(1, 4, 8, 8, 12), torch.ones(1, 12, dtype=torch.bool)
    asked, null = encode_priors([PRIOR]), encode_priors([PRIOR]).unconditional()
    sample = lambda conditions, scale: anatomy.sample(noise, conditions, mask, steps=2, guidance=scale)  # noqa: E731
    assert torch.equal(sample(asked, 0.0), sample(null, 1.0))
    assert not torch.equal(sample(asked, 1.0), sample(null, 1.0))
    almost = sample(asked, 1.0 + 1e-6)
    torch.testing.assert_close(almost, sample(asked, 1.0), atol=1e-4, rtol=0)


def test_guidance_one_costs_one_pass(anatomy):
    calls = []
    anatomy.network.register_forward_hook(lambda *_: calls.append(1))
    noise, mask = torch.randn(1, 4, 8, 8, 12), torch.ones(1, 12, dtype=torch.bool)
    anatomy.sample(noise, encode_priors([PRIOR]), mask, steps=3, guidance=1.0)
    assert len(calls) == 3
    anatomy.sample(noise, encode_priors([PRIOR]), mask, steps=3, guidance=2.0)
    assert len(calls) == 6  # a guided step is one pass of twice the batch


def test_guidance_is_used_within_its_interval_alone(anatomy):
    batches = []
    anatomy.network.register_forward_hook(lambda _, given, __: batches.append(len(given[0])))
    noise, mask = torch.randn(1, 4, 8, 8, 12), torch.ones(1, 12, dtype=torch.bool)
    anatomy.config = anatomy.config.model_copy(update={"guidance_interval": (0.15, 0.85), "time_shift": 1.0})
    anatomy.sample(noise, encode_priors([PRIOR]), mask, steps=5, guidance=2.0)
    assert batches == [1, 2, 2, 2, 2]  # at times 1, .8, .6, .4 and .2


def test_rescaled_guidance_has_the_spread_of_the_conditional_output(anatomy):
    noise, mask = torch.randn(1, 4, 8, 8, 12), torch.arange(12)[None] < 9
    asked, time = encode_priors([PRIOR]), torch.ones(1)
    conditional = anatomy.predict(noise, time, asked, mask, None)
    spread = lambda output: float((output * mask).square().mean().sqrt())  # noqa: E731
    for share in (0.0, 0.5, 1.0):
        anatomy.config = anatomy.config.model_copy(update={"guidance_rescale": share})
        guided = anatomy.denoiser(asked, mask, guidance=3.0)(noise, 1.0)
        if share == 0.0:
            before = spread(guided)
        expected = (1 - share) * before + share * spread(conditional)
        assert spread(guided) == pytest.approx(expected, rel=1e-4)
    assert before != pytest.approx(spread(conditional), rel=1e-3)


@pytest.mark.parametrize(("objective", "solver"), CASES)
@pytest.mark.parametrize("strength", [0.0, 1e-3, 0.3, 0.7, 1.0])
def test_a_perfect_denoiser_varies_nothing(objective, solver, strength):
    """Noised to any level, the code that the data hold alone comes back; at strength 1 it does from any start."""
    torch.manual_seed(0)
    clean = torch.randn(1, 2, 4, 4, 3)
    diffusion = Oracle.of(clean, objective=objective, solver=solver)
    mask, noise = torch.ones(1, 3, dtype=torch.bool), torch.randn_like(clean)
    start = clean if strength < 1.0 else torch.randn_like(clean)
    sample = diffusion.sample(noise, encode_priors([PRIOR]), mask, steps=20, start=start, strength=strength)
    torch.testing.assert_close(sample, clean, atol=2e-2, rtol=0)


@pytest.mark.parametrize("objective", ["noise", "v", "flow"])
def test_a_variation_is_exact_at_0_plain_at_1_and_farther_with_strength(anatomy, objective):
    anatomy.config = anatomy.config.model_copy(update={"objective": objective, "time_shift": 3.0})
    start, noise, mask = *torch.randn(2, 1, 4, 8, 8, 12), torch.ones(1, 12, dtype=torch.bool)
    sample = lambda **how: anatomy.sample(noise, encode_priors([PRIOR]), mask, steps=6, **how)  # noqa: E731
    varied = [sample(start=start, strength=s) for s in (0.0, 0.05, 0.2, 0.4, 0.6, 0.8, 0.95, 1.0)]
    distances = [float((code - start).norm()) for code in varied]
    assert torch.equal(varied[0], start)
    assert distances == sorted(set(distances))
    assert torch.equal(varied[-1], sample())


@pytest.mark.parametrize(("solver", "strength", "calls"), [("euler", 1.0, 5), ("heun", 1.0, 9), ("euler", 0.5, 3)])
def test_the_callback_hears_of_every_call_and_ends_the_sampling(anatomy, solver, strength, calls):
    """Of a variation too, whose first call enters the trajectory."""
    anatomy.config = anatomy.config.model_copy(update={"solver": solver, "time_shift": 1.0})
    start, noise, mask = *torch.randn(2, 1, 4, 8, 8, 12), torch.ones(1, 12, dtype=torch.bool)
    how = {"steps": 5, "start": start, "strength": strength}
    heard, asked = [], []
    anatomy.network.register_forward_hook(lambda *_: asked.append(1))
    codes = anatomy.sample(noise, encode_priors([PRIOR]), mask, **how, callback=lambda *step: heard.append(step))
    assert heard == [(step, calls) for step in range(1, calls + 1)]
    assert len(asked) == calls
    assert torch.equal(codes, anatomy.sample(noise, encode_priors([PRIOR]), mask, **how))

    def stop(step: int, _: int) -> None:
        if step == 2:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        anatomy.sample(noise, encode_priors([PRIOR]), mask, **how, callback=stop)


def test_denoising_only_acquired_slices_gives_the_same(anatomy):
    mask = torch.zeros(1, 12, dtype=torch.bool)
    mask[:, 2:9] = True
    noise, time = torch.randn(1, 4, 8, 8, 12), torch.tensor([0.4])
    whole = anatomy.network(noise, time, encode_priors([PRIOR]), mask)
    part = anatomy.network(noise[..., 2:9], time, encode_priors([PRIOR]), mask[:, 2:9])
    torch.testing.assert_close(whole[..., 2:9], part, atol=1e-5, rtol=0)
    assert torch.all(whole[..., :2] == 0)


@pytest.mark.parametrize("preset", ["smoke", "small", "compact", "base", "paper"])
def test_the_slice_axis_is_never_pooled(preset):
    """Defect 5: every strided convolution keeps the last axis, and pools both in-plane axes alike."""
    with torch.device("meta"):
        networks = [build_anatomy_diffusion(load_config(preset)), build_motion_diffusion(load_config(preset))]
    strides = [
        m.stride for net in networks for m in net.modules() if isinstance(m, nn.Conv3d) and m.stride != (1, 1, 1)
    ]
    assert strides
    assert set(strides) == {(2, 2, 1)}


def test_unobserved_directions_of_a_cycle_do_not_train():
    torch.manual_seed(0)
    clean, noise = torch.randn(2, 1, 12, 4, 4, 3)
    diffusion = LatentDiffusion(nn.Identity(), DiffusionConfig())
    code = HarmonicCode(3, 2)
    observed = code.observed(torch.tensor([0.0, 1.0]))[None]
    hidden = torch.eye(6) - observed[0]
    wrong = torch.einsum("jk,kcxyz->jcxyz", hidden, torch.randn(6, 2, 4, 4, 3)).flatten(0, 1)[None]
    seen = torch.einsum("jk,kcxyz->jcxyz", observed[0], torch.randn(6, 2, 4, 4, 3)).flatten(0, 1)[None]

    def loss_of(error: torch.Tensor) -> float:
        diffusion.network = Answer((clean - noise - error) * math.sqrt(0.5))  # at t = 0.5 the linear guess is 0
        trainable = TrainableDiffusion(diffusion)
        return float(
            trainable(
                encode_priors([PRIOR]),
                observed,
                clean=clean,
                noise=noise,
                uniforms=torch.tensor([0.5]),
                slice_mask=torch.ones(1, 3, dtype=torch.bool),
            )
        )

    assert loss_of(wrong) < 1e-8
    assert loss_of(seen) > 1e-3
