"""What the stages learn from, and what must not teach them anything."""

from pathlib import Path

import numpy as np
import pytest
import torch

from cinesynth.config import Config, load_config
from cinesynth.data.geometry import Grid
from cinesynth.data.packed import PackedDataset, prepare
from cinesynth.io.reproducibility import stream, uniform
from cinesynth.models.build import build_codec
from cinesynth.models.vae import VAE
from cinesynth.training.augment import View, draw_copy, look
from cinesynth.training.frames import Batch, FrameSampler, Prefetch, collate
from cinesynth.training.latents import AMPLITUDES, CacheSpec, cached_sequences, encode_sequence, kept_frames
from cinesynth.training.losses import dice_ce, gradient, l1, ramp
from cinesynth.training.stages.reconstruction import VAEStage
from cinesynth.training.trainer import learning_rate_factor
from cinesynth.types import Label
from tests.training.tiny import SHORT


@pytest.fixture(scope="module")
def tiny() -> Config:
    """On the grid of the preset: volumes need its resolution."""
    return load_config("smoke", SHORT)


@pytest.fixture(scope="module")
def packed(phantoms: Path, tiny: Config) -> PackedDataset:
    return prepare(phantoms, Grid.from_config(tiny.grid))


def test_draws_depend_on_their_address_alone() -> None:
    first = [uniform(stream(3, "noise", step)) for step in range(5)]
    assert [uniform(stream(3, "noise", step)) for step in reversed(range(5))] == first[::-1]
    assert len(set(first)) == 5
    assert uniform(stream(4, "noise", 0)) != first[0]


def test_training_and_validation_people_do_not_mix(packed: PackedDataset, tiny: Config) -> None:
    """Defect 10: what selects the model is neither trained on nor tested on."""
    stage = VAEStage(VAE(tiny.vae), tiny, packed, torch.device("cpu"))
    trained = {r.subject for r in stage.frames.data.records}
    selected = {r.subject for r in stage.held_out.data.records}
    tested = {r.subject for r in packed.split("test").records}
    assert trained
    assert selected
    assert not trained & selected
    assert not (trained | selected) & tested


def test_unlabelled_frames_teach_no_mask() -> None:
    logits = torch.randn(2, 4, 8, 8, 3, requires_grad=True)
    label = torch.randint(0, 4, (2, 1, 8, 8, 3))
    labelled = torch.tensor([True, False])[:, None, None].expand(2, 3, 3)  # B Z S
    dice_ce(logits, label, labelled).backward()
    assert logits.grad is not None
    assert float(logits.grad[0].abs().sum()) > 0
    assert float(logits.grad[1].abs().sum()) == 0
    assert float(dice_ce(logits, label, torch.zeros_like(labelled))) == 0.0


def test_a_perfect_mask_has_almost_no_loss() -> None:
    label = torch.randint(0, 4, (1, 1, 8, 8, 3))
    logits = torch.nn.functional.one_hot(label[:, 0], 4).movedim(-1, 1).float() * 40 - 20
    assert float(dice_ce(logits, label, torch.ones(1, 3, 3, dtype=torch.bool))) < 1e-3


def test_padding_slices_do_not_count() -> None:
    mask = torch.tensor([[True, True, False]])
    target = torch.zeros(1, 1, 8, 8, 3)
    image = target.clone()
    image[..., 2] = 100.0
    assert float(l1(image, target, mask)) == 0.0
    assert float(gradient(image, target, mask)) == 0.0
    image[..., 0] = 0.5
    assert float(l1(image, target, mask)) == pytest.approx(0.25)
    assert float(gradient(image, target, mask)) == 0.0  # a flat error has no edges


def test_an_affine_copy_scales_the_volume_by_its_area_factor(packed: PackedDataset) -> None:
    frames = FrameSampler(packed.split("train"), 0, 1.0)
    label = frames.item(0, frames.record(0).ed)["label"]
    before = float((label == 3).sum())
    for index in range(4):
        view = draw_copy(stream(0, "copy", index), packed.grid.size[:2], packed.grid.spacing_mm[:2])
        after = float((look(label.float(), view, nearest=True) == 3).sum())
        assert after / before == pytest.approx(view.area_factor, rel=0.05)


def test_the_plain_view_is_the_identity() -> None:
    volume = torch.randn(1, 12, 10, 3)
    torch.testing.assert_close(look(volume, View((12, 10))), volume, atol=1e-5, rtol=0)


def test_a_view_centred_elsewhere_is_a_crop() -> None:
    volume = torch.randn(1, 12, 12, 2)
    torch.testing.assert_close(look(volume, View((4, 4), (2.0, -1.0))), volume[:, 6:10, 3:7], atol=1e-5, rtol=0)


def test_a_crop_keeps_the_acquired_slices(packed: PackedDataset) -> None:
    frames = FrameSampler(packed.split("train"), 0, 1.0)
    for case in range(12):
        item = frames.augmented(0, case, (32, 32, 6), 1.0)
        assert item["image"].shape == (1, 32, 32, 6)
        plain = frames.augmented(0, case, (32, 32, 6), 0.0)
        assert int(plain["slice_mask"].sum()) == 6  # every phantom has six slices or more
        assert set(item["label"].unique().tolist()) <= {0.0, 1.0, 2.0, 3.0}


def test_the_same_case_at_any_batch(packed: PackedDataset) -> None:
    frames = FrameSampler(packed.split("train"), 0, 1.0)
    alone = frames.augmented(7, 3, (32, 32, 6), 1.0)["image"]
    batch = collate([frames.augmented(7, case, (32, 32, 6), 1.0) for case in range(4)])
    assert torch.equal(batch["image"][3], alone)


def test_batches_made_ahead_are_those_of_their_step() -> None:
    """Also after a restart at another step, and with the error of the step that it belongs to."""

    def make(step: int, cases: range) -> Batch:
        if step == 9:
            raise ValueError("step 9")
        return {"noise": torch.stack([torch.rand(3, generator=stream(0, "batch", step, case)) for case in cases])}

    batches = Prefetch(make, steps=10)
    for step, cases in ((0, range(2)), (1, range(2)), (2, range(2)), (7, range(2)), (8, range(2, 4)), (8, range(2))):
        assert torch.equal(batches(step, cases)["noise"], make(step, cases)["noise"])
    with pytest.raises(ValueError, match="step 9"):
        batches(9, range(2))


def test_sequences_start_at_ed_and_hold_es(packed: PackedDataset, tiny: Config) -> None:
    """Defect 12: one definition of ED, the record's, in every stage."""
    frames = FrameSampler(packed.split("train"), 0, 1.0)
    torch.manual_seed(0)
    codec = build_codec(tiny).eval()
    chosen = kept_frames(frames, 0)
    sequence = encode_sequence(codec, frames, 0, None, chosen)
    assert chosen[0] == frames.record(0).ed
    assert frames.record(0).es in chosen
    assert float(sequence.phases[0]) == 0.0
    assert 1.0 in sequence.phases.tolist()
    assert np.all(np.diff(sequence.phases.numpy()) > 0)
    assert torch.all(sequence.latents[..., ~sequence.slice_mask] == 0)
    item = frames.item(0, chosen[0])
    alone = codec.encode(item["image"][None], item["slice_mask"][None])[0]
    torch.testing.assert_close(sequence.latents[0], alone, atol=1e-4, rtol=0)


def test_a_copy_that_moves_less_has_the_same_ed_and_its_own_measured_esv(
    packed: PackedDataset, tiny: Config, tmp_path: Path
) -> None:
    frames = FrameSampler(packed.split("train"), 0, 1.0)
    torch.manual_seed(0)
    codec, path = build_codec(tiny).eval(), tmp_path / "latents"
    wanted = CacheSpec(whole_cycle=True, affine_copies=1, amplitude_copies=2)
    sequences = cached_sequences(path, codec, frames, [0], wanted)
    assert len(sequences) == 2 * 3  # subject and affine copy, each as it moved and with two other amplitudes
    voxel_ml = float(np.prod(codec.grid.spacing_mm)) / 1000.0
    for plain, copy in ((0, 1), (0, 2), (3, 4), (3, 5)):
        own, other = sequences[plain], sequences[copy]
        assert torch.equal(other.latents[0], own.latents[0])
        moved, moves = (s.latents[1:] - s.latents[:1] for s in (own, other))
        amplitude = float((moves * moved).sum() / moved.square().sum())
        assert AMPLITUDES[0] <= amplitude <= AMPLITUDES[1]
        torch.testing.assert_close(moves, amplitude * moved, atol=1e-4, rtol=0)
        if other.prior.lv_esv_ml is not None:
            es = other.latents[other.frames.index(frames.record(0).es)][None][..., other.slice_mask]
            mask = torch.ones(1, es.shape[-1], dtype=torch.bool)
            volume_ml = float((codec.labels(codec.decode(es, mask).logits, mask) == Label.LV).sum()) * voxel_ml
            assert other.prior.lv_esv_ml == pytest.approx(volume_ml, rel=1e-3)
    again = cached_sequences(path, codec, frames, [0], wanted)
    assert all(torch.equal(a.latents, b.latents) and a.prior == b.prior for a, b in zip(sequences, again, strict=True))


def test_learning_rate_warms_up_and_cools_down(tiny: Config) -> None:
    settings = tiny.training.vae.model_copy(update={"steps": 1000, "warmup_steps": 100})
    assert learning_rate_factor(0, settings) == pytest.approx(0.01)
    assert learning_rate_factor(99, settings) == 1.0
    assert learning_rate_factor(999, settings) == pytest.approx(settings.final_learning_rate_fraction, abs=0.01)
    assert ramp(5, 10, 10) == 0.0
    assert ramp(15, 10, 10) == 0.5
    assert ramp(30, 10, 10) == 1.0
