"""Benchmarks of cost: the sizes of other people's networks, and the sums made of timed calls."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

FOLDER = Path(__file__).parents[1] / "benchmarks"


def loaded(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def peers() -> ModuleType:
    return loaded("peers")


@pytest.fixture(scope="module")
def scaling() -> ModuleType:
    return loaded("scaling")


# --- Other models ----------------------------------------------------------------------------------------------------

SIZES = {  # parameters in millions and GFLOP of a call, guidance included
    "anatomy U-Net": (796.5, 2257),
    "motion U-Net": (575.7, 2958),
    "image decoder": (3.5, 757),
    "mask decoder": (3.5, 760),
    "DiT-B": (85.5, 2440),
    "slice decoder": (12.8, 2465),
}


@pytest.mark.parametrize("name", SIZES)
def test_networks_of_others_have_the_size_of_their_released_code(peers: ModuleType, name: str) -> None:
    network = next(network for network in (*peers.PAPER, *peers.CARDIODIT) if network.name == name)
    with torch.device("meta"):
        parameters = sum(parameter.numel() for parameter in network.build().parameters())
    assert (round(parameters / 1e6, 1), round(peers.counted_flops(network) / 1e9)) == SIZES[name]


def test_the_paper_calls_its_networks_960_times_a_case(peers: ModuleType) -> None:
    calls = {network.name: network.calls for network in peers.PAPER}
    assert calls["anatomy U-Net"] + calls["motion U-Net"] == 30 + 29 * 30
    assert calls["image decoder"] + calls["mask decoder"] == 60


def test_a_part_of_the_plane_stands_for_the_whole_by_its_flops(
    peers: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = peers.Network(
        "paper", "decoder", lambda: peers.paper_decoder(1, (32, 32, 32)), lambda s: peers.latents(8, 1, 0, s), 30
    )
    ticks = iter(range(100))
    monkeypatch.setattr(peers.time, "perf_counter", lambda: float(next(ticks)))
    row = peers.timed(network, 2, share=1 / 12)
    assert row.seconds == pytest.approx([144.0, 144.0], rel=1e-6)  # a second for each call of 1/144 of the plane
    assert row.hours == pytest.approx(144.0 * 30 / 3600)


def test_a_case_of_a_model_is_the_sum_of_all_its_calls(peers: ModuleType) -> None:
    rows = [peers.Row(n.model, n.name, 1, 1.0, [1.0, 2.0, 9.0], n.calls) for n in peers.PAPER]
    found = peers.totals([*rows, peers.Row("cardiodit", "DiT-B", 1, 1.0, [1.0], 300)], [2.0, 4.0, 4.0])
    assert found == {"paper": {"case_s": pytest.approx(1920.0), "times_ours": pytest.approx(480.0)}}


def test_tokens_of_cardiodit_are_patches_and_come_back_as_long(peers: ModuleType) -> None:
    network = peers.DiT(width=24, depth=1, heads=2)
    assert network(torch.randn(1, 8, 6, 64, 64, 8)).shape == (1, 6144, 8 * 32)


# --- Growth ----------------------------------------------------------------------------------------------------------


def test_fits_find_the_law_that_made_the_seconds(scaling: ModuleType) -> None:
    points = [2, 5, 10, 20, 50]
    line = scaling.fitted(points, [3.0 + 0.5 * n for n in points])
    assert (line.fixed_s, line.each_s) == pytest.approx((3.0, 0.5))
    assert scaling.fitted(points, [0.2 * n**1.3 for n in points]).exponent == pytest.approx(1.3)


def test_points_are_measured_in_rounds_and_told_as_a_table(scaling: ModuleType) -> None:
    asked: list[int] = []

    def measure(n: int) -> float:
        asked.append(n)
        return 2.0 * n + len(asked) / 100

    found = scaling.curve("frames", (2, 10), measure, repeats=3)
    assert asked == [2, 10] * 3
    assert found.seconds[0] == pytest.approx([4.01, 4.03, 4.05])
    assert "| 10 | 20.0 (20.0-20.1) | 2.00 |" in scaling.told(found)
    assert "exponent 1.00" in scaling.told(found)


def test_every_axis_has_points_for_a_quick_run(scaling: ModuleType) -> None:
    for axis in scaling.AXES:
        assert len(axis.points) >= len(axis.quick) >= 2
