"""Requested against achieved, on pairs whose agreement is known."""

import numpy as np
import pytest

from cinesynth.evaluation.codec import dice, mean_ssim
from cinesynth.evaluation.control import Pair, agree


def test_a_constant_offset_is_bias_not_disagreement() -> None:
    (result,) = agree([Pair("EDV mL", v, v + 10.0) for v in (80.0, 120.0, 200.0, 260.0)])
    assert result.r == pytest.approx(1.0)
    assert result.slope == pytest.approx(1.0)
    assert result.bias == pytest.approx(10.0)
    assert result.mae == pytest.approx(10.0)
    assert result.count == 4


def test_hearts_that_ignore_the_request_do_not_correlate() -> None:
    rng = np.random.default_rng(0)
    pairs = [Pair("EDV mL", float(a), float(b)) for a, b in rng.normal(150, 40, (400, 2))]
    (result,) = agree(pairs)
    assert abs(result.r) < 0.15
    assert result.mae > 30


def test_a_correlation_that_does_not_exist_is_not_a_number() -> None:
    (result,) = agree([Pair("EF %", 50.0, 40.0), Pair("EF %", 50.0, 60.0), Pair("EF %", 50.0, 55.0)])
    assert result.r is None
    assert result.slope is None


def test_dice_and_ssim_of_known_overlap() -> None:
    a, b = np.zeros((8, 8), bool), np.zeros((8, 8), bool)
    a[:4], b[2:6] = True, True
    assert dice(a, b) == pytest.approx(0.5)
    image = np.random.default_rng(0).uniform(-1, 1, (32, 32, 3)).astype(np.float32)
    assert mean_ssim(image, image) == pytest.approx(1.0)
    assert mean_ssim(image, image[::-1].copy()) < 0.3
