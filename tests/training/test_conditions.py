"""Further conditions in training: measured by the masks, forgotten on their own, and no disturbance to older runs."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cinesynth.config import STAGES, Config, load_config
from cinesynth.data.dataset_table import DatasetTable
from cinesynth.data.geometry import Grid
from cinesynth.data.packed import PackedDataset, Record, prepare
from cinesynth.data.phantom import phantom_study
from cinesynth.data.subject_prior import plausible_volumes
from cinesynth.io.reproducibility import stream
from cinesynth.training.augment import draw_copy
from cinesynth.training.frames import FrameSampler, with_vendors
from cinesynth.training.latents import CacheSpec, cached_sequences, encode_sequence, kept_frames
from cinesynth.training.run import train_stage
from cinesynth.training.stages.diffusion import DiffusionStage, Example
from cinesynth.types import CONDITIONS, CORE_CONDITIONS, FURTHER_CONDITIONS, ClinicalPrior, Diagnosis, Label, LabelArray
from cinesynth.weights.bundle import bundle_run
from cinesynth.weights.folder import stage_info
from cinesynth.weights.prior import EmpiricalPrior
from cinesynth.weights.seen import NUMBERS
from tests.training.tiny import TINY

ALL = f"conditions=[{', '.join(CONDITIONS)}]"
WHOLE = ClinicalPrior(Diagnosis.DCM, 280.0, 210.0, 9, 180.0, 90.0, 140.0, "GE")


class LabelFrames(FrameSampler):
    """Frames whose images are their labels."""

    def item(self, subject: int, frame: int) -> dict[str, Tensor]:
        found = super().item(subject, frame)
        return {**found, "image": found["label"].float()}


class LabelCodec:
    """A codec that keeps images as they are, and whose masks are the images: it measures exactly."""

    latent_mean = torch.zeros(1)

    def __init__(self, grid: Grid) -> None:
        self.grid = grid

    def encode(self, image: Tensor, _: Tensor) -> Tensor:
        return image

    def decode(self, latent: Tensor, _: Tensor) -> Any:
        label = latent[:, 0].round().long().clamp(0, 3)
        return SimpleNamespace(logits=nn.functional.one_hot(label, 4).movedim(-1, 1).float())

    def labels(self, logits: Tensor, _: Tensor) -> LabelArray:
        return logits.argmax(dim=1).to(torch.uint8).numpy()


@pytest.fixture(scope="module")
def packed(phantoms: Path, tiny: Config) -> PackedDataset:
    return prepare(phantoms, Grid.from_config(tiny.grid))


@pytest.fixture
def frames(packed: PackedDataset) -> FrameSampler:
    return LabelFrames(packed.split("train"), 0, 1.0)


@pytest.fixture
def codec(packed: PackedDataset) -> Any:
    return LabelCodec(packed.grid)


def test_volumes_of_a_known_heart_in_millilitres(frames: FrameSampler, codec: Any) -> None:
    """The analytic RV and myocardium; thick slices across the moving valve plane blur the RV at ES."""
    for subject in range(3):
        record = frames.record(subject)
        heart = phantom_study(int(record.subject.removeprefix("phantom")), frames=6)
        rv, myo, lv = heart.volumes_ml.T
        prior = encode_sequence(codec, frames, subject, None, kept_frames(frames, subject)).prior
        assert prior.lv_edv_ml == pytest.approx(lv[0], rel=0.05)
        assert prior.rv_edv_ml == pytest.approx(rv[0], rel=0.05)
        assert prior.rv_esv_ml == pytest.approx(rv[heart.study.es_index], rel=0.12)
        assert prior.myo_mass_g == pytest.approx(1.05 * myo[0], rel=0.05)
        assert prior.vendor == heart.study.vendor


def test_every_copy_is_measured_and_comes_back_from_the_cache(frames: FrameSampler, codec: Any, tmp_path: Path) -> None:
    wanted, path = CacheSpec(whole_cycle=True, affine_copies=1, amplitude_copies=2), tmp_path / "latents.safetensors"
    made = cached_sequences(path, codec, frames, [0], wanted)
    assert len(made) == 6
    voxel_ml, es_frame = codec.grid.voxel_ml, frames.record(0).es
    for sequence in made:
        ed, es = (sequence.latents[i][0].round() for i in (0, sequence.frames.index(es_frame)))
        rv_ml = [float((frame == int(Label.RV)).sum()) * voxel_ml for frame in (ed, es)]
        edv_ml, esv_ml = plausible_volumes(*rv_ml)  # labels in between labels may be no heart's
        assert sequence.prior.rv_edv_ml == pytest.approx(edv_ml, rel=1e-5)
        assert sequence.prior.rv_esv_ml == (esv_ml if esv_ml is None else pytest.approx(esv_ml, rel=1e-5))
        myo_g = 1.05 * float((ed == int(Label.MYO)).sum()) * voxel_ml
        assert sequence.prior.myo_mass_g == pytest.approx(myo_g, rel=1e-5)
    assert [s.prior for s in cached_sequences(path, codec, frames, [0], wanted)] == [s.prior for s in made]


def test_an_anatomy_keeps_the_rvs_own_ejection_fraction(frames: FrameSampler, codec: Any, tmp_path: Path) -> None:
    """ED alone is encoded; ES of the subject is measured once for all its copies."""
    record = frames.record(0)
    own = encode_sequence(codec, frames, 0, None, [record.ed, record.es]).prior
    made = cached_sequences(tmp_path / "a", codec, frames, [0], CacheSpec(whole_cycle=False, affine_copies=3))
    assert len({round(s.prior.rv_edv_ml or 0.0) for s in made}) == 4
    for sequence in made:
        prior = sequence.prior
        assert prior.rv_esv_ml / prior.rv_edv_ml == pytest.approx(own.rv_esv_ml / own.rv_edv_ml, rel=1e-4)
        assert prior.lv_esv_ml / prior.lv_edv_ml == pytest.approx(record.lv_esv_ml / record.lv_edv_ml, rel=1e-4)


def test_an_unlabelled_rv_is_the_decoders_reading(frames: FrameSampler, codec: Any) -> None:
    record = frames.record(0)
    seen = encode_sequence(codec, frames, 0, None, [record.ed, record.es]).prior
    coverage = record.coverage.copy()
    coverage[..., 0] = False
    frames.data.records[0] = replace(record, coverage=coverage)
    assert encode_sequence(codec, frames, 0, None, [record.ed, record.es]).prior == seen
    view = draw_copy(stream(0, "copy", 0), codec.grid.size[:2], codec.grid.spacing_mm[:2])
    assert encode_sequence(codec, frames, 0, view, [record.ed, record.es]).prior.rv_edv_ml is not None


def batch(config: Config, monkeypatch: pytest.MonkeyPatch, steps: int) -> list[tuple[list[ClinicalPrior], Tensor]]:
    """Priors and noise of the batches that a stage of ``config`` learns from."""
    example = Example(torch.zeros(1, 2, 2, 2), WHOLE, torch.ones(2, dtype=torch.bool))
    stage = DiffusionStage("anatomy_diffusion", nn.Identity(), config, [example], [example])
    seen: list[tuple[list[ClinicalPrior], Tensor]] = []

    def loss(_: nn.Module, __: Any, priors: list[ClinicalPrior], noise: Tensor, times: Tensor) -> Tensor:
        seen.append((priors, torch.cat([noise.flatten(), times])))
        return torch.zeros(())

    monkeypatch.setattr(stage, "_loss", loss)
    for step in range(steps):
        list(stage.losses(step, range(8)))
    return seen


def test_further_conditions_do_not_disturb_what_the_core_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    dropout = ["anatomy_diffusion.diffusion.field_dropout=0.3", "anatomy_diffusion.diffusion.condition_dropout=0.1"]
    core, whole = (batch(load_config("smoke", [*dropout, *more]), monkeypatch, 40) for more in ([], [ALL]))
    for (few, drawn), (many, also_drawn) in zip(core, whole, strict=True):
        assert torch.equal(drawn, also_drawn)
        for a, b in zip(few, many, strict=True):
            assert [getattr(a, n) for n in CORE_CONDITIONS] == [getattr(b, n) for n in CORE_CONDITIONS]
    priors = [p for many, _ in whole for p in many]
    kept = [p for p in priors if p != ClinicalPrior()]
    assert 0.05 < 1 - len(kept) / len(priors) < 0.16
    for name in FURTHER_CONDITIONS:
        assert np.mean([getattr(p, name) is None for p in kept]) == pytest.approx(0.3, abs=0.08)


def test_the_core_draws_what_it_drew_before() -> None:
    """Six uniforms, then the noise: the address of every draw of an older run."""
    config = load_config("smoke")
    with pytest.MonkeyPatch.context() as patch:
        ((_, drawn),) = batch(config, patch, 1)
    generators = [stream(config.training.seed, "anatomy", "noise", 0, case) for case in range(8)]
    times = torch.stack([torch.rand(6, generator=g, dtype=torch.float64)[0] for g in generators]).float()
    noise = torch.cat([torch.randn(1, 2, 2, 2, generator=g).flatten() for g in generators])
    assert torch.equal(drawn, torch.cat([noise, times]))


def of(record: Record, dataset: str, vendor: str) -> Record:
    return replace(record, dataset=dataset, vendor=vendor)


def test_training_lists_the_vendors_of_its_patients(packed: PackedDataset) -> None:
    config, record = load_config("smoke", [ALL]), packed.records[0]
    vendors = ("Siemens", "GE", "SIEMENS", "unknown", "")
    people = [of(record, "clinic", vendor) for vendor in vendors]
    listed = with_vendors(config, [*people, record]).vendors
    assert [name.casefold() for name in listed] == ["ge", "siemens"]
    assert with_vendors(config, [record]).vendors == (record.vendor,)  # a phantom scanner, where there is nobody else
    assert with_vendors(load_config("smoke"), people).vendors == ()
    given = load_config("smoke", [ALL, "vendors=[Philips]"])
    assert with_vendors(given, people).vendors == ("Philips",)


def test_a_run_learns_all_conditions_and_keeps_its_vendors(phantoms: Path, tmp_path: Path) -> None:
    config = load_config("smoke", [*TINY, ALL])
    for stage in STAGES:
        train_stage(stage, phantoms, tmp_path, config, lambda *_: None)
    found = stage_info(tmp_path, "motion_diffusion")["config"]
    assert found["conditions"] == list(CONDITIONS)
    assert found["vendors"]
    assert all(name.startswith("phantom-") for name in found["vendors"])
    train_stage("motion_diffusion", phantoms, tmp_path, config, lambda *_: pytest.fail("trained again"))
    bundle_run(tmp_path, phantoms, tmp_path / "weights")
    seen = EmpiricalPrior.from_json(json.loads((tmp_path / "weights" / "prior.json").read_text())).seen
    rows = [row for row in DatasetTable.read(phantoms) if row.split == "train"]
    assert seen.diagnoses == sorted({row.diagnosis.value for row in rows})
    assert sorted(seen.vendors) == sorted(found["vendors"])
    assert seen.numbers == list(NUMBERS)
