"""People on whom weights were trained are no held-out people, whatever the splits of a dataset say."""

from pathlib import Path

import pytest
import torch

from cinesynth.data.geometry import Grid
from cinesynth.data.packed import PackedDataset, prepare
from cinesynth.evaluation.held_out import real_sets
from cinesynth.memorisation.duplicate_filter import Fingerprints, fingerprints_of


@pytest.fixture
def data(people: Path, monkeypatch: pytest.MonkeyPatch) -> PackedDataset:
    monkeypatch.setattr("cinesynth.memorisation.duplicate_filter.MIN_SUBJECTS", 5)
    return prepare(people, Grid((64, 64, 24), (3.0, 3.0, 10.0)))


def test_whoever_was_in_training_is_moved_there_by_fingerprint(data: PackedDataset) -> None:
    train, test = data.split("train"), data.split("test")
    stored = fingerprints_of(data)
    assert stored is not None
    assert isinstance(Fingerprints(stored["numbers"].numpy(), 1.0), Fingerprints)
    first = test.records[0]
    trained_on = [r.split == "train" or r is first for r in data.records]
    stored["numbers"] = stored["numbers"][torch.tensor(trained_on)]
    stored["limit"] = torch.tensor(0.05)  # of the distance to the next: only the same images are as close
    sets = real_sets(data, "test", stored, "other data")
    assert sets.moved == (f"{first.dataset} {first.subject}",)
    assert len(sets.held_out) == len(test) - 1
    assert [r.subject for r in sets.train.records] == [
        r.subject for r, seen in zip(data.records, trained_on, strict=True) if seen
    ]
    assert len(sets.train) == len(train) + 1


def test_the_splits_of_the_weights_own_dataset_are_taken_as_they_are(data: PackedDataset) -> None:
    stored = fingerprints_of(data)
    for known, trained_on in ((stored, data.data_hash), (None, "other data")):
        sets = real_sets(data, "test", known, trained_on)
        assert sets.moved == ()
        assert len(sets.held_out) == len(data.split("test"))
        assert len(sets.train) == len(data.split("train"))
