"""What revision ffe2e86 wrote under the stages' first names still opens, resumes and trains on."""

from pathlib import Path

import pytest
import yaml

from cinesynth.config import STAGES, dump_config, hashed_settings, load_config, parse_config
from cinesynth.config.migration import RENAMED_STAGES, original_name, original_settings, stage_path
from cinesynth.errors import ConfigError
from cinesynth.weights.bundle import verify_bundle, with_sampling
from cinesynth.weights.folder import Bundle, bundle_sha256, stage_info
from cinesynth.weights.registry import shipped_bundles
from tests.conftest import Run


def old_tree(preset: str) -> dict[str, object]:
    return original_settings(load_config(preset).model_dump(mode="json"))


def test_old_settings_are_read_and_new_ones_are_written(tmp_path: Path) -> None:
    old = old_tree("smoke")
    assert {"motion", "anatomy", "dynamics"} <= set(old) & set(old["training"])  # type: ignore[call-overload]
    (tmp_path / "old.yaml").write_text(yaml.safe_dump(old))
    config = load_config(str(tmp_path / "old.yaml"), ["training.dynamics.steps=7", "motion.width=16"])
    assert (config.training.motion_diffusion.steps, config.residual_motion.width) == (7, 16)
    written = yaml.safe_load(dump_config(config))
    assert set(STAGES) <= set(written) & set(written["training"])
    assert parse_config(written) == config
    sampling = with_sampling(config, ["anatomy.diffusion.guidance=3", "motion_diffusion.diffusion.sampling_steps=4"])
    assert (sampling.anatomy_diffusion.diffusion.guidance, sampling.motion_diffusion.diffusion.sampling_steps) == (3, 4)


def test_a_stage_under_both_names_is_refused() -> None:
    tree = load_config("smoke").model_dump(mode="json")
    tree["motion"] = tree["residual_motion"]
    with pytest.raises(ConfigError, match="motion: unknown key"):
        parse_config(tree)


def test_hashes_of_settings_are_what_they_were() -> None:
    """Names of a study's cached runs are made of them."""
    text = hashed_settings(load_config("smoke"))
    assert text == yaml.safe_dump(old_tree("smoke"), sort_keys=False)
    assert list(yaml.safe_load(text)) == [
        "preset", "grid", "vae", "motion", "anatomy", "dynamics", "conditions", "vendors", "segmenter", "training",
    ]  # fmt: skip


def test_every_renamed_stage_is_one_of_today() -> None:
    assert set(RENAMED_STAGES.values()) <= set(STAGES)
    assert not set(RENAMED_STAGES) & set(STAGES)
    assert [original_name(stage) for stage in STAGES] == ["vae", "motion", "anatomy", "dynamics"]


def test_weights_that_ship_keep_their_files_and_open() -> None:
    folder = shipped_bundles()["small"]
    assert bundle_sha256(folder) == "062a9f2835a061292da26cf6ffaaa306faf12b2bad3343bbd58cd7ddc2483839"
    assert [check for check in verify_bundle(folder) if check.problem] == []
    assert stage_path(folder, "motion_diffusion", ".json").name == "dynamics.json"
    info = stage_info(folder, "motion_diffusion")
    assert (info["stage"], set(info["parents"])) == ("motion_diffusion", {"vae", "residual_motion"})
    assert set(STAGES) <= set(info["config"])
    assert Bundle.load(folder).config.residual_motion.harmonics == 3


def test_an_old_verb_says_its_new_name(run: Run) -> None:
    code, _, err = run("train", "dynamics", "--dry-run", "--preset", "smoke")
    assert code == 0
    assert "`train dynamics` is now called `train motion-diffusion`" in err
    assert "is now" not in run("train", "motion-diffusion", "--dry-run", "--preset", "smoke")[2]
    assert "dynamics" not in run("train", "--help")[1]


@pytest.mark.parametrize("words", [("--set", "training.dynamics.steps=7"), ("--set=training.dynamics.steps=7",)])
def test_an_old_setting_says_its_new_name_and_is_understood(run: Run, words: tuple[str, ...]) -> None:
    code, out, err = run("train", "all", "--dry-run", "--preset", "smoke", *words)
    assert (code, yaml.safe_load(out.partition("preset smoke")[0])["training"]["motion_diffusion"]["steps"]) == (0, 7)
    assert err.splitlines() == [
        "warning: the setting training.dynamics.steps is now called training.motion_diffusion.steps; "
        "the old name will stop working"
    ]
    assert run("train", "all", "--dry-run", "--preset", "smoke", "--set", "vae.blocks=2")[2] == ""
