"""The segmenter learns from annotated patients alone, resumes bit for bit, and is no part of a bundle."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from cinesynth.config import STAGES, Config, load_config
from cinesynth.data.geometry import Grid
from cinesynth.data.ingest import ingest
from cinesynth.data.packed import PackedDataset, prepare
from cinesynth.data.phantom import phantom_study
from cinesynth.errors import DataError
from cinesynth.training.run import train_stage
from cinesynth.training.stages.segmenter import SegmenterStage, SliceNorm, SliceUNet, with_neighbours
from cinesynth.weights.folder import stage_info

SETTINGS = ("steps=4", "validate_every_steps=2", "checkpoint_every_steps=2", "augment=true")
TINY = [f"training.segmenter.{setting}" for setting in SETTINGS]


class Interrupted(Exception):
    pass


def quiet(*_: object) -> None:
    pass


@pytest.fixture(scope="module")
def tiny() -> Config:
    return load_config("smoke", TINY)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six people and six phantoms; the people are annotated at ED and ES alone."""
    folder = tmp_path_factory.mktemp("mixed") / "dataset"
    studies = [phantom_study(i, frames=6).study for i in range(12)]
    for i in range(6):
        coverage = np.zeros_like(studies[i].coverage)
        coverage[[studies[i].ed_index, studies[i].es_index]] = True
        label = np.where(coverage.any(axis=(1, 2))[:, None, None, None], studies[i].label, 0).astype(np.uint8)
        studies[i] = replace(studies[i], subject=f"p{i}", dataset="people", label=label, coverage=coverage)
    ingest(studies, folder)
    return folder


@pytest.fixture(scope="module")
def packed(mixed: Path, tiny: Config) -> PackedDataset:
    return prepare(mixed, Grid.from_config(tiny.grid))


@pytest.fixture(scope="module")
def stage(packed: PackedDataset, tiny: Config) -> SegmenterStage:
    parts = (packed.split(split) for split in ("train", "validation"))
    return SegmenterStage(SliceUNet(tiny.segmenter), tiny, *parts, torch.device("cpu"))


def test_only_annotated_frames_of_patients_teach(stage: SegmenterStage) -> None:
    for case in range(24):
        subject, _ = stage.frames.draw("frames", 0, case)
        assert stage.frames.record(subject).dataset == "people"
        view = stage._view(0, case)
        assert bool(view["coverage"].all())
        assert set(view["label"].unique().tolist()) == {0.0, 1.0, 2.0, 3.0}


def test_the_same_case_at_any_batch(stage: SegmenterStage) -> None:
    assert torch.equal(stage._view(3, 1)["slices"], stage._view(3, 1)["slices"])
    assert not torch.equal(stage._view(3, 1)["slices"][0], stage._view(4, 1)["slices"][0])


def test_crops_of_a_larger_field_show_hearts_and_what_is_around(packed: PackedDataset, tiny: Config) -> None:
    segmenter = tiny.training.segmenter.model_copy(update={"crop": (24, 20, 12), "augment": False})
    config = tiny.model_copy(update={"training": tiny.training.model_copy(update={"segmenter": segmenter})})
    people = packed.split("train")
    stage = SegmenterStage(SliceUNet(config.segmenter), config, people, people, torch.device("cpu"))
    views = [stage._view(step, case) for step in range(8) for case in range(4)]
    assert {tuple(view["slices"].shape[-2:]) for view in views} == {(24, 20)}
    shares = [float((view["label"] > 0).float().mean()) for view in views]
    assert min(shares) < max(shares) / 4
    assert sum(share > 0 for share in shares) > len(shares) / 2


def test_a_split_without_labels_is_refused(packed: PackedDataset, tiny: Config) -> None:
    blind = packed.where([True] * len(packed))
    blind.records = [replace(r, coverage=np.zeros_like(r.coverage)) for r in packed.records]
    with pytest.raises(DataError, match="no labelled subjects in the training split"):
        SegmenterStage(SliceUNet(tiny.segmenter), tiny, blind, packed, torch.device("cpu"))


def test_a_slice_is_shown_between_its_neighbours() -> None:
    volume = torch.arange(4.0).expand(2, 2, 4)
    assert with_neighbours(volume, 1)[:, :, 0, 0].tolist() == [[-1, 0, 1], [0, 1, 2], [1, 2, 3], [2, 3, -1]]
    assert with_neighbours(volume, 0)[:, :, 0, 0].tolist() == [[0], [1], [2], [3]]


def test_any_plane_fits_the_network(tiny: Config) -> None:
    network = SliceUNet(tiny.segmenter).eval()
    assert network(torch.zeros(2, 3, 50, 33)).shape == (2, 4, 50, 33)


def digest(run: Path) -> str:
    return hashlib.sha256((run / "segmenter.safetensors").read_bytes()).hexdigest()


def test_an_interrupted_segmenter_ends_with_the_same_weights(mixed: Path, tiny: Config, tmp_path: Path) -> None:
    info = train_stage("segmenter", mixed, tmp_path / "whole", tiny, quiet)
    assert info["trained_on"]["subjects"] == {"people": 4}
    assert info["parents"] == {}
    assert info["sha256"] == digest(tmp_path / "whole")
    left = {1, 3}

    def disturb(_: str, done: int, *__: object) -> None:
        if done in left:
            left.remove(done)
            raise Interrupted

    for _ in range(2):
        with pytest.raises(Interrupted):
            train_stage("segmenter", mixed, tmp_path / "torn", tiny, disturb)
    train_stage("segmenter", mixed, tmp_path / "torn", tiny, disturb)
    assert digest(tmp_path / "torn") == digest(tmp_path / "whole")
    assert (tmp_path / "torn" / "segmenter" / "previews" / "step-00000004.png").is_file()
    train_stage("segmenter", mixed, tmp_path / "torn", tiny, lambda *_: pytest.fail("trained again"))
    assert stage_info(tmp_path / "torn", "segmenter")["data_hash"] == info["data_hash"]


def test_a_bundle_knows_no_segmenter() -> None:
    assert "segmenter" not in STAGES


def test_slices_are_normalised_in_training_as_they_are_in_evaluation() -> None:
    norm, x = SliceNorm(3, affine=True).double(), torch.randn(4, 3, 6, 5, dtype=torch.double)
    torch.testing.assert_close(norm.train()(x), norm.eval()(x))
