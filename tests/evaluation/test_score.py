"""The score command's figures come from held-out subjects and are in the report."""

import json
from pathlib import Path

import pytest

from cinesynth.data.manifest import Manifest
from cinesynth.errors import InputError
from cinesynth.evaluation.score import score_bundle
from tests.synthesis.conftest import make_bundle


def quiet(*_: object) -> None:
    pass


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("bundle"), "grid.size=[64,64,12]")


def test_scores_are_of_held_out_subjects(phantoms: Path, weights: Path, tmp_path: Path) -> None:
    report = score_bundle(phantoms, weights, split="test", count=2, seed=0, progress=quiet)
    held = {row.subject for row in Manifest.read(phantoms) if row.split == "test"}
    assert {frame.subject for frame in report.frames} == held
    assert len(report.frames) == 2 * len(held)  # ED and ES
    assert [pair.quantity for pair in report.control.pairs][:2] == ["EDV mL", "ESV mL"]
    codec, control = report.tables().values()
    assert [row[0] for row in codec.rows][:3] == ["Dice LV", "Dice MYO", "Dice RV"]
    assert len(control.rows) >= 2
    report.write(tmp_path / "score.json")
    content = json.loads((tmp_path / "score.json").read_text())
    assert set(content["about"]["subjects"]) == held
    assert content["about"]["same_data_as_training"] is False


def test_training_subjects_are_not_scored(phantoms: Path, weights: Path) -> None:
    with pytest.raises(InputError, match="not held out"):
        score_bundle(phantoms, weights, split="train", count=0, seed=0, progress=quiet)
