"""The ladder of `benchmarks/ablations.py`: what a rung takes from the one below was trained with its own settings."""

from __future__ import annotations

import importlib.util
import sys
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from cinesynth.config import STAGES, Config, parse_config

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def ablations() -> ModuleType:
    spec = importlib.util.spec_from_file_location("ablations", FOLDER / "ablations.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["ablations"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def rungs(ablations: ModuleType) -> list[Any]:
    tree = yaml.safe_load((FOLDER / "ablations.yaml").read_text())
    found: list[Any] = ablations.ladder(tree)
    assert parse_config(found[-1].config) == parse_config(tree["preset"])  # the top is ours, whole
    return found


def of_stage(config: Config, stage: str) -> list[object]:
    """The settings that decide what a stage learns, but for the stages before it."""
    conditions = [config.conditions, config.vendors] if stage in ("anatomy_diffusion", "motion_diffusion") else []
    return [config.grid, getattr(config, stage), getattr(config.training, stage), *conditions]


def test_a_shared_stage_has_the_same_settings_on_both_rungs(rungs: list[Any]) -> None:
    for below, above in pairwise(rungs):
        before, after = parse_config(below.config), parse_config(above.config)
        differing = {stage for stage in STAGES if of_stage(before, stage) != of_stage(after, stage)}
        assert differing, above.name  # each rung mends something
        assert differing <= set(above.retrains), above.name


def test_a_stage_is_trained_anew_when_what_it_stands_on_is(rungs: list[Any]) -> None:
    for rung in rungs:
        if "vae" in rung.retrains:
            assert set(rung.retrains) == set(STAGES), rung.name
        if "residual_motion" in rung.retrains:
            assert "motion_diffusion" in rung.retrains, rung.name


def test_the_lowest_rung_is_the_papers_recipe(rungs: list[Any]) -> None:
    paper = parse_config(rungs[0].config)
    assert (paper.residual_motion.harmonics, paper.motion_diffusion.diffusion.objective) == (0, "noise")
    assert (paper.motion_diffusion.diffusion.guidance, paper.motion_diffusion.diffusion.sampling_steps) == (3.0, 30)
    assert paper.training.vae.losses.kl == 1e-7
    assert paper.training.motion_diffusion.ema_decay == 0.0


def test_cells_say_how_many_seeds_they_are_of(ablations: ModuleType) -> None:
    assert ablations.cell([0.5, 0.7]) == "0.6 ± 0.14"
    assert ablations.cell([0.5, None, 0.7]) == "0.6 ± 0.14 (2)"
    assert ablations.cell([None]) == "-"
