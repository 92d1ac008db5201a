"""Training that starts from weights is never judged on people whom these weights have seen."""

from dataclasses import replace
from pathlib import Path

import pytest
from torch import Tensor

from cinesynth.data.dataset_table import DatasetTable
from cinesynth.data.geometry import Grid
from cinesynth.data.ingest import ingest
from cinesynth.data.packed import prepare
from cinesynth.data.phantom import phantom_study
from cinesynth.errors import DataError
from cinesynth.memorisation.duplicate_filter import fingerprints_of
from cinesynth.memorisation.trained_on import check_held_out, move_to_training
from tests.conftest import Run

GRID = Grid((64, 64, 24), (3.0, 3.0, 10.0))


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Ten people (phantoms under another name): 7 in training, 1 in validation, 2 in test."""
    studies = (phantom_study(100 + i, frames=6).study for i in range(10))
    ingest([replace(study, dataset="people") for study in studies], tmp_path / "hearts")
    return tmp_path / "hearts"


@pytest.fixture
def seen(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Tensor]:
    """Fingerprints of weights that were trained on everybody but the last held-out subject."""
    monkeypatch.setattr("cinesynth.memorisation.duplicate_filter.MIN_SUBJECTS", 5)
    data = prepare(dataset, GRID)
    last = [r.split != "train" for r in data.records][::-1].index(True)
    known = [i != len(data) - 1 - last for i in range(len(data))]
    found = fingerprints_of(data.where(known))
    assert found is not None
    found["limit"].fill_(0.05)  # of the distance to the next: only the same images are as close
    return found


def splits(dataset: Path) -> dict[str, str]:
    return {row.subject: row.split for row in DatasetTable.read(dataset)}


def test_who_was_seen_moves_to_training_and_nobody_else(dataset: Path, seen: dict[str, Tensor]) -> None:
    before = splits(dataset)
    held_out = [name for name, split in before.items() if split != "train"]
    with pytest.raises(DataError, match=f"{len(held_out) - 1} of {len(held_out)} held-out subjects") as refused:
        check_held_out(prepare(dataset, GRID), seen, Path("weights"))
    assert "cinesynth split DATASET --seen-by weights" in refused.value.hint
    moved = move_to_training(dataset, seen, GRID)
    assert [row.subject for row in moved] == held_out[:-1]
    assert splits(dataset) == {name: "train" if name in held_out[:-1] else split for name, split in before.items()}
    check_held_out(prepare(dataset, GRID), seen, Path("weights"))
    assert move_to_training(dataset, seen, GRID) == ()


def test_without_fingerprints_there_is_nothing_to_hold_against(dataset: Path) -> None:
    check_held_out(prepare(dataset, GRID), None, Path("weights"))


def test_training_from_weights_refuses_people_whom_they_have_seen(
    run: Run, dataset: Path, seen: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cinesynth.training.run.fingerprints_in", lambda folder: seen)
    sizes = ("--set", "grid.size=[64,64,24]", "--set", "grid.spacing_mm=[3,3,10]")
    arguments = ("train", "vae", "--dataset", dataset, "--run", tmp_path / "run", "--preset", "smoke", *sizes)
    code, _, error = run(*arguments, "--initial", tmp_path / "weights")
    assert code != 0
    assert "held-out subjects were in the training of" in error


def test_weights_of_phantoms_know_nobody(run: Run, dataset: Path) -> None:
    code, _, error = run("split", dataset, "--seen-by", "phantom")
    assert code != 0
    assert "no fingerprints" in error
    code, output, _ = run("split", dataset)
    assert code == 0
    assert "people" in output
