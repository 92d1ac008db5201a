"""Hints of train: doing what they say works."""

import re
import shutil
from pathlib import Path

import pytest

from cinesynth.cli.train import train as train_stages
from cinesynth.config import load_config
from cinesynth.data.ingest import ingest
from tests.cases.exports import scanned, small
from tests.hints.conftest import Desk
from tests.once import made_once

SETTINGS = ["grid.size=[48,48,12]", "grid.spacing_mm=[4,4,10]", "training.vae.steps=1", "training.segmenter.steps=1"]


def train(stage: str, data: Path, run: Path, *settings: str) -> tuple[object, ...]:
    """The command that trains a stage for one step."""
    options = [word for setting in (*SETTINGS, *settings) for word in ("--set", setting)]
    return "train", stage, "--dataset", data, "--run", run, "--preset", "smoke", *options


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, phantoms: Path) -> Path:
    """A run whose first stage is finished."""
    config = load_config("smoke", SETTINGS)
    return made_once(tmp_path_factory, "hints", lambda folder: train_stages(["vae"], phantoms, folder, config))


@pytest.fixture
def begun(desk: Desk, trained: Path) -> Path:
    return Path(shutil.copytree(trained, desk / "run"))


def test_training_without_a_dataset(desk: Desk, phantoms: Path, begun: Path) -> None:
    desk.fails("train", "vae", "--preset", "smoke", hint="give both, or use --dry-run, which needs neither")
    desk.works("train", "vae", "--preset", "smoke", "--dry-run")
    desk.works(*train("vae", phantoms, begun))


def test_a_preset_that_is_not_there(desk: Desk, phantoms: Path) -> None:
    hint = desk.fails("doctor", phantoms, "--preset", "smok", hint="use one of ...smoke...or a .yaml file")
    desk.works("doctor", phantoms, "--preset", hint.partition(", or a")[0].rpartition(", ")[2])


def test_a_setting_that_is_not_there(desk: Desk, phantoms: Path, begun: Path) -> None:
    hint = desk.fails(*train("vae", phantoms, begun, "training.vae.stepz=1"), hint="list all keys with cinesynth train")
    told = desk.works(*hint.partition("cinesynth ")[2].split(), "--preset", "smoke")
    assert re.search(r"^  vae:\n    steps:", told, flags=re.MULTILINE)
    desk.works(*train("vae", phantoms, begun, "training.vae.steps=1"))


def test_too_few_subjects(desk: Desk) -> None:
    ingest([small("s0")], desk / "data")
    desk.fails(*train("vae", desk / "data", desk / "run"), hint="ingest more subjects")
    ingest([small(f"s{i}") for i in range(1, 10)], desk / "data")
    desk.works(*train("vae", desk / "data", desk / "other"))


def test_a_segmenter_without_labels(desk: Desk, phantoms: Path) -> None:
    ingest([scanned(f"s{i}") for i in range(10)], desk / "data")
    desk.fails(*train("segmenter", desk / "data", desk / "run"), hint="ingest ")
    desk.works(*train("segmenter", phantoms, desk / "other"))


def test_a_run_with_other_settings(desk: Desk, phantoms: Path, begun: Path) -> None:
    other = "training.vae.learning_rate=0.0002"
    desk.fails(*train("vae", phantoms, begun, other), hint="use the same settings, or another --run")
    desk.works(*train("vae", phantoms, begun))
    desk.works(*train("vae", phantoms, desk / "other", other))


def test_other_data_in_a_run(desk: Desk, phantoms: Path, begun: Path) -> None:
    ingest([small(f"s{i}") for i in range(10)], desk / "data")
    desk.fails(*train("vae", desk / "data", begun), hint="use the same dataset, or another --run")
    desk.works(*train("vae", phantoms, begun))


def test_no_time_to_train(desk: Desk, phantoms: Path, begun: Path) -> None:
    desk.fails(*train("vae", phantoms, begun), "--minutes", 0, hint="give a number above 0")
    desk.works(*train("vae", phantoms, begun), "--minutes", 5)


def test_a_stage_that_the_preset_lacks(desk: Desk, phantoms: Path, begun: Path) -> None:
    hint = desk.fails(*train("texture", phantoms, begun), hint="--set training.texture.steps=1000")
    settings = [setting.replace("1000", "1") for setting in re.findall(r"training\.texture\.\w+=\d+", hint)]
    desk.works(*train("vae", phantoms, desk / "other", *settings))
    desk.works(*train("texture", phantoms, desk / "other", *settings))


def test_initial_weights_for_the_decoder(desk: Desk, phantoms: Path, weights: Path) -> None:
    settings = ("training.decoder.steps=1", "training.decoder.batch_size=2")
    command = train("decoder", phantoms, desk / "run", *settings)
    desk.fails(*command, "--initial", weights, hint="the decoder stage starts from the VAE in --run")
    desk.works(*train("vae", phantoms, desk / "run", *settings))
    desk.works(*command)
