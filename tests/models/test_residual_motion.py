"""Motion: exactly zero at ED, exactly cyclic, and honest about what two frames can tell."""

import math

import pytest
import torch

from cinesynth.config import load_config
from cinesynth.models.build import build_residual_motion
from cinesynth.models.residual_motion import CyclicBasis, FrameCode, HarmonicCode


def cycle(frames: int) -> torch.Tensor:
    return torch.arange(frames, dtype=torch.float64) * 2.0 / frames


@pytest.fixture
def coefficients():
    torch.manual_seed(0)
    return torch.randn(2, 6, 3, 4, 4, 5)


def test_residual_is_exactly_zero_at_ed_and_cyclic(coefficients):
    basis = CyclicBasis(3)
    residual = basis.evaluate(coefficients, torch.tensor([0.0, 1.0, 2.0, 3.0]))
    assert torch.all(residual[:, 0] == 0)
    assert torch.all(residual[:, 2] == 0)
    assert torch.equal(residual[:, 1], residual[:, 3])


def test_es_is_where_the_odd_cosines_turn():
    """At phase 1 theta is pi: cos k theta - 1 is -2 for odd k and 0 for even k."""
    row = CyclicBasis(3).matrix(torch.tensor([1.0]))[0]
    torch.testing.assert_close(row, torch.tensor([-2.0, 0.0, -2.0, 0.0, 0.0, 0.0], dtype=torch.float64))


def test_a_whole_cycle_is_recovered(coefficients):
    basis, phases = CyclicBasis(3), cycle(25)
    frames = basis.evaluate(coefficients, phases)[0]
    fitted = basis.fit(frames, phases, torch.eye(6))
    again = basis.evaluate(fitted[None], phases)[0]
    assert float((again - frames).norm() / frames.norm()) < 0.02


def test_two_frames_are_met_and_the_prior_draws_the_rest():
    """With ED and ES only, the fit passes through ES and follows the course of the covariance."""
    basis = CyclicBasis(2)
    course = torch.tensor([-0.5, 0.0, 0.3, 0.1], dtype=torch.float64)  # one known temporal course
    covariance = torch.outer(course, course) + 1e-6 * torch.eye(4)
    es = torch.randn(1, 2, 3, 3, 2)
    fitted = basis.fit(torch.cat([torch.zeros_like(es), es]), torch.tensor([0.0, 1.0]), covariance)
    torch.testing.assert_close(basis.evaluate(fitted[None], torch.tensor([1.0]))[0], es, rtol=0.01, atol=1e-3)
    quarter = float(basis.matrix(torch.tensor([0.5]))[0] @ course) / float(
        basis.matrix(torch.tensor([1.0]))[0] @ course
    )
    torch.testing.assert_close(basis.evaluate(fitted[None], torch.tensor([0.5]))[0], es * quarter, rtol=0.02, atol=1e-2)


def test_what_a_subject_observes():
    code = HarmonicCode(3, 4)
    whole, pair = code.observed(cycle(20)), code.observed(torch.tensor([0.0, 1.0]))
    torch.testing.assert_close(whole, torch.eye(6), atol=1e-4, rtol=0)
    assert float(pair.trace()) == pytest.approx(1.0, abs=1e-5)
    torch.testing.assert_close(pair @ pair, pair, atol=1e-5, rtol=0)


def moving_hearts(count: int) -> tuple[list[tuple[torch.Tensor, torch.Tensor]], torch.Tensor]:
    """Cycles whose harmonics are mixed by one strong and three weak courses, and the courses."""
    torch.manual_seed(0)
    basis, phases = CyclicBasis(2), cycle(20)
    courses = torch.linalg.qr(torch.randn(4, 4))[0] * torch.tensor([4.0, 1.0, 0.5, 0.25])
    channels = torch.tensor([1.0, 3.0, 0.2])[:, None, None, None]
    maps = torch.randn(count, 4, 3, 6, 6, 5) * channels
    coefficients = torch.einsum("jk,bkcxyz->bjcxyz", courses, maps)
    return [(residuals, phases) for residuals in basis.evaluate(coefficients, phases)], courses


def test_measured_codes_put_the_strongest_course_first_at_unit_scale():
    cycles, _ = moving_hearts(6)
    code = HarmonicCode(2, 3)
    code.measure(cycles, [])
    unit = torch.stack([code.encode(*pair) for pair in cycles])
    by_mode = unit.reshape(6, 4, 3, -1).square().mean(dim=(0, 3)).sqrt()  # 2K C
    torch.testing.assert_close(by_mode[0], torch.ones(3), rtol=0.02, atol=0)
    assert torch.all(by_mode.mean(dim=1).diff() < 0)
    torch.testing.assert_close(code.decode(unit[:1], cycle(20))[0], cycles[0][0], rtol=0.05, atol=0.2)


def test_modes_are_uncorrelated_and_the_first_holds_the_most_energy():
    cycles, _ = moving_hearts(24)
    code = HarmonicCode(2, 3)
    code.measure(cycles, [])
    maps = torch.cat([code.encode(*pair).reshape(4, -1) for pair in cycles], dim=1)
    assert float((torch.corrcoef(maps) - torch.eye(4)).abs().max()) < 0.1
    frames = torch.cat([residuals.flatten(1) for residuals, _ in cycles], dim=1)  # T (...)
    strongest = torch.linalg.svdvals(frames)[0].square() / frames.square().sum()
    first = torch.stack([code.encode(*pair) for pair in cycles]).reshape(24, 4, 3, 6, 6, 5)
    first[:, 1:] = 0
    alone = torch.cat([f.flatten(1) for f in code.decode(first.flatten(1, 2), cycle(20))], dim=1)
    assert float(alone.square().sum() / frames.square().sum()) == pytest.approx(float(strongest), rel=0.05)


def test_per_frame_code_is_zero_at_ed():
    code = FrameCode(2)
    out = code.decode(torch.randn(3, 2, 4, 4, 3), torch.tensor([0.0, 1.0, 2.0]))
    assert torch.all(out[0] == 0)
    assert torch.all(out[2] == 0)
    assert out[1].abs().sum() > 0


def test_m_of_a_frame_and_itself_is_small_and_padding_stays_zero():
    torch.manual_seed(0)
    motion = build_residual_motion(load_config("smoke")).network
    mask = torch.zeros(1, 12, dtype=torch.bool)
    mask[:, 3:9] = True
    ed, frame = torch.randn(2, 1, 4, 8, 8, 12)
    assert torch.all(motion(ed, ed, mask) == 0)  # an untrained M is the plain difference
    assert torch.all(motion(ed, frame, mask)[..., :3] == 0)


def test_phase_maps_to_a_full_turn():
    basis = CyclicBasis(1).matrix(torch.tensor([0.5]))[0]
    torch.testing.assert_close(basis, torch.tensor([math.cos(math.pi / 2) - 1, 1.0], dtype=torch.float64))
