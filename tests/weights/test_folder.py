"""Weights say what is wrong with them, and the default is what somebody chose or an error, never something else."""

import json
import pickle
import shutil
from pathlib import Path

import pytest
import torch

from cinesynth.cli import main
from cinesynth.errors import WeightsError
from cinesynth.io.files import file_sha256
from cinesynth.weights.bundle import verify_bundle
from cinesynth.weights.folder import INDEX, Bundle, bundle_sha256
from cinesynth.weights.registry import VARIABLE, find_bundle, read_settings, set_default, settings_file, shipped_bundles
from cinesynth.weights.scores import SCORES_FILE, record_scores, recorded_scores
from tests.bundles import make_bundle


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("made"))


@pytest.fixture
def weights(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made, tmp_path / "mine")


@pytest.fixture(autouse=True)
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "settings"))


def problems(folder: Path) -> dict[str, str]:
    return {check.name: check.problem for check in verify_bundle(folder) if check.problem}


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr("sys.argv", ["cinesynth", "weights", *words])
    try:
        main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


# --- verify ----------------------------------------------------------------------------------------------------------


def test_what_was_bundled_is_whole(weights: Path) -> None:
    checks = [check.name for check in verify_bundle(weights)]
    assert problems(weights) == {}
    assert {INDEX, "vae.safetensors", "prior.json", "lineage", "network motion_diffusion"} <= set(checks)
    assert problems(shipped_bundles()["phantom"]) == {}


@pytest.mark.parametrize("name", ["residual_motion.safetensors", "vae.json", "prior.json"])
def test_one_altered_byte_is_named(weights: Path, name: str) -> None:
    content = bytearray((weights / name).read_bytes())
    content[-3] ^= 1
    (weights / name).write_bytes(content)
    found = problems(weights)
    assert set(found) == {name, "lineage and networks"}
    assert "was altered" in found[name]


def test_what_is_missing_and_what_nobody_listed_is_named(weights: Path) -> None:
    (weights / "prior.json").unlink()
    index = json.loads((weights / INDEX).read_text())
    del index["files"]["vae.json"]
    (weights / INDEX).write_text(json.dumps({**index, "files": {**index["files"], "../run/vae.json": "0"}}))
    found = problems(weights)
    assert found["prior.json"] == "is missing"
    assert "not listed" in found["vae.json"]
    assert "not the name of a file" in found["../run/vae.json"]


def test_pickles_are_named_whatever_they_are_called(weights: Path) -> None:
    (weights / "notes.bin").write_bytes(pickle.dumps({"a": 1}))
    torch.save({"a": torch.zeros(2)}, weights / "vae.safetensors")
    (weights / "README.md").write_text("said of the weights")
    found = problems(weights)
    assert set(found) == {"notes.bin", "vae.safetensors", "lineage and networks"}
    assert "is a pickle" in found["notes.bin"]
    assert "is a pickle" in found["vae.safetensors"]


def listed_anew(folder: Path, name: str) -> None:
    """The index says what the file is now: damage that only lineage or the networks can tell."""
    index = json.loads((folder / INDEX).read_text())
    index["files"][name] = file_sha256(folder / name)
    (folder / INDEX).write_text(json.dumps(index, indent=1))


def test_mixed_parents_and_networks_that_do_not_fit_are_named(weights: Path) -> None:
    info = json.loads((weights / "residual_motion.json").read_text())
    (weights / "residual_motion.json").write_text(json.dumps({**info, "parents": {"vae": "0" * 64}}))
    listed_anew(weights, "residual_motion.json")
    assert set(problems(weights)) == {"lineage"}
    info = json.loads((weights / "motion_diffusion.json").read_text())
    info["config"]["residual_motion"]["width"] *= 2
    (weights / "motion_diffusion.json").write_text(json.dumps(info))
    listed_anew(weights, "motion_diffusion.json")
    found = problems(weights)
    assert set(found) == {"lineage", "network residual_motion"}
    assert "does not fit its own configuration" in found["network residual_motion"]


def test_verify_exits_by_what_it_found(weights: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    assert run(monkeypatch, "verify", str(weights)) == 0
    assert "prior.json: ok" in capsys.readouterr().out
    (weights / "prior.json").write_text("{}")
    assert run(monkeypatch, "verify", str(weights)) == 4
    assert "prior.json: was altered" in capsys.readouterr().out


# --- the default -----------------------------------------------------------------------------------------------------


def test_the_environment_wins_over_the_choice_over_the_package(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = shipped_bundles()
    assert find_bundle() == shipped["compact"]
    set_default(str(weights))
    assert find_bundle() == weights
    assert find_bundle("mine") == weights  # what was chosen once has a name
    monkeypatch.setenv(VARIABLE, "phantom")
    assert find_bundle() == shipped["phantom"]
    assert find_bundle("small") == shipped["small"]
    monkeypatch.setenv(VARIABLE, "")
    assert find_bundle() == weights
    set_default(None)
    assert find_bundle() == shipped["compact"]
    assert find_bundle("mine") == weights
    set_default("phantom")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "phantom").mkdir()
    assert find_bundle() == shipped["phantom"]  # not a folder that happens to lie here


def test_a_default_that_is_gone_or_damaged_is_an_error(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_default(str(weights))
    (weights / INDEX).write_text("{")
    with pytest.raises(WeightsError, match="cannot be read") as error:
        find_bundle()
    assert "set-default --reset" in error.value.hint
    shutil.rmtree(weights)
    with pytest.raises(WeightsError, match="is not a directory"):
        find_bundle()
    monkeypatch.setenv(VARIABLE, "nothing")
    with pytest.raises(WeightsError, match=f"nothing, set as default by the environment variable {VARIABLE}"):
        find_bundle()


def test_a_damaged_choice_is_an_error_until_it_is_reset(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    set_default("phantom")
    settings_file().write_text('{"format": 1, "default": 7, "known": []}')
    with pytest.raises(WeightsError, match="your default weights") as error:
        find_bundle()
    assert "--reset" in error.value.hint
    assert run(monkeypatch, "set-default", "--reset") == 0
    assert find_bundle() == shipped_bundles()["compact"]


def test_damaged_weights_are_not_chosen(weights: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    (weights / "prior.json").write_text("{}")
    assert run(monkeypatch, "set-default", str(weights)) == 4
    assert "prior.json was altered" in capsys.readouterr().err
    assert not settings_file().exists()
    assert run(monkeypatch, "set-default") == 2
    monkeypatch.setenv(VARIABLE, "small")
    assert run(monkeypatch, "set-default", "phantom") == 0
    assert "is set and takes precedence" in capsys.readouterr().err
    assert read_settings().default == "phantom"


def test_list_names_what_there_is(weights: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    set_default(str(weights))
    assert run(monkeypatch, "list") == 0
    out = capsys.readouterr().out
    assert f"mine (default): {weights}" in out
    assert "32 x 32 x 12 voxels" in out
    assert "licence none: random numbers" in out
    assert "phantom: " in out
    shutil.rmtree(weights)
    assert run(monkeypatch, "list") == 4
    assert "mine: " in capsys.readouterr().out


# --- scores beside weights -------------------------------------------------------------------------------------------


def test_recorded_scores_do_not_change_what_the_weights_are(weights: Path, monkeypatch, capsys) -> None:
    before = bundle_sha256(weights)
    assert before == file_sha256(weights / INDEX)
    scores = {"format": 2, "metadata": {"weights": before, "split": "test"}, "control": {"EDV mL": {"r": 0.875}}}
    for _ in range(2):  # again is the same
        record_scores(weights, scores)
        assert bundle_sha256(weights) == before
    assert recorded_scores(weights) == scores
    assert problems(weights) == {}
    Bundle.load(weights)
    set_default(str(weights))
    assert run(monkeypatch, "list") == 0
    assert "r EDV 0.875" in capsys.readouterr().out
    (weights / SCORES_FILE).write_text(json.dumps({**scores, "control": {"EDV mL": {"r": 0.99}}}))
    assert "was altered" in problems(weights)[SCORES_FILE]
    with pytest.raises(WeightsError, match="was altered"):
        recorded_scores(weights)
    with pytest.raises(WeightsError, match="describe weights"):
        record_scores(weights, {"metadata": {"weights": "0" * 64}})
