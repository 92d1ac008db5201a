"""What nobody annotated teaches nothing and scores nothing."""

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from monai.losses import DiceCELoss
from torch import Tensor

from cinesynth.config import Config
from cinesynth.data.geometry import Grid
from cinesynth.data.ingest import ingest
from cinesynth.data.packed import PackedDataset, prepare
from cinesynth.data.phantom import read_phantoms
from cinesynth.models.vae import VAE, Decoded
from cinesynth.training.frames import FrameSampler
from cinesynth.training.losses import dice_ce, dice_scores, merge_unannotated, reconstruction_scores
from cinesynth.training.stages.reconstruction import VAEStage
from cinesynth.types import Study, covered_label

Batch = tuple[Tensor, Tensor, Tensor]
RV, MYO, LV = range(3)
SHAPE = (2, 8, 8, 3)


@pytest.fixture
def batch() -> Batch:
    """Logits ``B 4 X Y Z``, labels ``B 1 X Y Z`` of everything, and full coverage ``B Z S``."""
    torch.manual_seed(0)
    logits = torch.randn(SHAPE[0], 4, *SHAPE[1:], dtype=torch.float64, requires_grad=True)
    return logits, torch.randint(0, 4, (SHAPE[0], 1, *SHAPE[1:])), torch.ones(SHAPE[0], SHAPE[3], 3, dtype=torch.bool)


def gradient_of(loss: Callable[[], Tensor], logits: Tensor) -> Tensor:
    (found,) = torch.autograd.grad(loss(), logits)
    return found


def test_fully_annotated_frames_have_the_loss_of_monai(batch: Batch) -> None:
    logits, label, coverage = batch
    plain = DiceCELoss(to_onehot_y=True, softmax=True, include_background=False, batch=True)
    assert torch.equal(dice_ce(logits, label, coverage), plain(logits, label))
    expected = gradient_of(lambda: plain(logits, label), logits)
    assert torch.equal(gradient_of(lambda: dice_ce(logits, label, coverage), logits), expected)


def test_cases_that_are_not_annotated_change_nothing(batch: Batch) -> None:
    logits, label, coverage = batch
    coverage[1] = False
    assert torch.equal(dice_ce(logits, label, coverage), dice_ce(logits[:1], label[:1], coverage[:1]))


def test_slices_that_are_not_annotated_get_no_gradient_and_change_nothing(batch: Batch) -> None:
    logits, label, coverage = batch
    coverage[:, 1] = False
    gradient = gradient_of(lambda: dice_ce(logits, label, coverage), logits)
    assert float(gradient[..., 1].abs().max()) == 0.0
    assert float(gradient[..., 0].abs().min()) > 0.0
    rest = [0, 2]
    alone = dice_ce(logits[..., rest], label[..., rest], coverage[:, rest])
    torch.testing.assert_close(dice_ce(logits, label, coverage), alone)


@pytest.mark.parametrize("missing", [[RV], [MYO], [LV], [RV, MYO], [RV, MYO, LV]])
def test_a_structure_that_is_not_annotated_is_pulled_nowhere(batch: Batch, missing: list[int]) -> None:
    """Nothing tells it from the background: moving probability between the two leaves the loss as it is."""
    logits, label, coverage = batch
    coverage[0, :, missing] = False
    gradient = gradient_of(lambda: dice_ce(logits, label, coverage), logits)[0]
    chance = logits[0].detach().softmax(dim=0)
    for structure in missing:
        along = gradient[1 + structure] / chance[1 + structure] - gradient[0] / chance[0]
        assert float(along.abs().max()) < 1e-9
    elsewhere = gradient_of(lambda: dice_ce(logits, label, coverage), logits)[1]
    assert float(elsewhere.abs().min()) > 0.0


def test_labels_where_nobody_looked_are_not_read(batch: Batch) -> None:
    logits, label, coverage = batch
    coverage[:, :, RV] = False
    blank = label.masked_fill(label == 1, 0)
    assert torch.equal(dice_ce(logits, label, coverage), dice_ce(logits, blank, coverage))


def test_a_background_that_may_be_anything_is_no_error(batch: Batch) -> None:
    """Where the RV was not annotated, the RV is as good an answer to "neither MYO nor LV" as the background."""
    _, _, coverage = batch
    coverage[:, :, RV] = False
    label = torch.zeros(SHAPE[0], 1, *SHAPE[1:], dtype=torch.long)
    label[:, :, :4] = 3
    sure = torch.nn.functional.one_hot(label[:, 0], 4).movedim(-1, 1).double() * 40
    for answer in (0, 1):
        logits = sure.clone()
        logits[:, [0, answer], 4:] = logits[:, [answer, 0], 4:]
        assert float(dice_ce(logits, label, coverage)) < 1e-3
    logits[:, [1, 2], 4:] = logits[:, [2, 1], 4:]
    assert float(dice_ce(logits, label, coverage)) > 1.0


def test_dice_is_of_annotated_structures_only(batch: Batch) -> None:
    """With the LV alone annotated and found, nothing is left to lose, whatever is said of the others."""
    _, _, coverage = batch
    coverage[..., [RV, MYO]] = False
    label = torch.zeros(SHAPE[0], 1, *SHAPE[1:], dtype=torch.long)
    label[:, :, :4] = 3
    logits = torch.nn.functional.one_hot(label[:, 0], 4).movedim(-1, 1).double() * 40
    logits[:, 1:3, 4:] += 20 * torch.rand(SHAPE[0], 2, 4, *SHAPE[2:], dtype=torch.float64)
    assert float(dice_ce(logits, label, coverage)) < 1e-3


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_merging_is_finite_and_keeps_the_sum_of_probabilities(dtype: torch.dtype) -> None:
    logits = 3 * torch.randn(1, 4, 5, 5, 2)
    covered = torch.tensor([[True, False, True], [False, False, False]]).T.reshape(1, 3, 1, 1, 2)
    chance = merge_unannotated(logits.to(dtype), covered).float().softmax(dim=1)
    assert bool(chance.isfinite().all())
    before = logits.to(dtype).float().softmax(dim=1)
    torch.testing.assert_close(chance[:, 0, ..., 0], before[:, [0, 2], ..., 0].sum(dim=1), atol=0.05, rtol=0)
    assert float(chance[:, 0, ..., 1].min()) == 1.0


def test_full_coverage_merges_nothing(batch: Batch) -> None:
    logits, _, _ = batch
    assert merge_unannotated(logits, torch.ones(2, 3, 1, 1, 3, dtype=torch.bool)) is logits


def test_scores_are_of_what_was_annotated(batch: Batch) -> None:
    _, label, coverage = batch
    truth, predicted = label[:, 0], label[:, 0].clone()
    predicted[..., 2] = 1  # wrong in the last slice
    assert dice_scores(predicted, truth, coverage)["dice_lv"] < 1.0
    coverage[:, 2] = False
    assert dice_scores(predicted, truth, coverage) == {"dice_rv": 1.0, "dice_myo": 1.0, "dice_lv": 1.0}
    coverage[..., RV] = False
    assert set(dice_scores(predicted, truth, coverage)) == {"dice_myo", "dice_lv"}
    assert not dice_scores(predicted, truth, torch.zeros_like(coverage))


def test_without_labels_the_image_is_scored(batch: Batch) -> None:
    logits, label, coverage = batch
    image, mask = torch.zeros(2, 1, 8, 8, 3), torch.ones(2, 3, dtype=torch.bool)
    known = {"image": image, "slice_mask": mask, "label": label, "coverage": torch.zeros_like(coverage)}
    assert set(reconstruction_scores(Decoded(image, logits.detach()), known)) == {"l1", "psnr", "sharpness_db"}


def like_sunnybrook(study: Study) -> Study:
    """LV at ED and ES, myocardium at ED, RV never, and nothing in the slice at the base."""
    coverage = np.zeros_like(study.coverage)
    ed, es = (int(np.flatnonzero(study.frame_index == index)[0]) for index in (study.ed_index, study.es_index))
    coverage[[ed, es], 1:, LV] = True
    coverage[ed, 1:, MYO] = True
    return replace(study, dataset="scd", label=covered_label(study.label, coverage), coverage=coverage)


@pytest.fixture(scope="module")
def partial(tiny: Config, tmp_path_factory: pytest.TempPathFactory) -> PackedDataset:
    folder = tmp_path_factory.mktemp("partial") / "dataset"
    ingest([like_sunnybrook(study) for study in read_phantoms(10, frames=6)], folder)
    return prepare(folder, Grid.from_config(tiny.grid))


def test_coverage_travels_with_its_slices(partial: PackedDataset) -> None:
    frames = FrameSampler(partial.split("train"), 0, 0.0)
    record = frames.record(0)
    item = frames.item(0, record.ed)
    assert torch.equal(item["coverage"], torch.from_numpy(record.coverage[record.ed]))
    for case in range(12):
        seen = frames.augmented(0, case, (32, 32, 6), 1.0)
        assert seen["coverage"].shape == (6, 3)
        label = seen["label"].to(torch.uint8).numpy()
        assert np.array_equal(covered_label(label, seen["coverage"].numpy()[None]), label)
        assert not seen["coverage"][:, RV].any()


def test_a_vae_trains_and_is_judged_on_partial_labels(partial: PackedDataset, tiny: Config) -> None:
    torch.manual_seed(0)
    vae = VAE(tiny.vae)
    stage = VAEStage(vae, tiny, partial, torch.device("cpu"))
    loss = next(iter(stage.losses(0, range(4))))
    assert np.isfinite(float(loss.value.detach()))
    loss.value.backward()
    gradients = [p.grad for p in vae.parameters() if p.grad is not None]
    assert all(bool(gradient.isfinite().all()) for gradient in gradients)
    with torch.no_grad():
        scores = stage.validate(vae.eval())
    assert "dice_rv" not in scores
    assert np.isfinite(scores["score"])


def test_validation_does_not_punish_what_nobody_annotated(
    partial: PackedDataset, tiny: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = VAEStage(VAE(tiny.vae), tiny, partial, torch.device("cpu"))
    perfect = {"l1": 0.0, "psnr": 40.0, "sharpness_db": 0.0, "dice_lv": 1.0}
    monkeypatch.setattr("cinesynth.training.stages.reconstruction.reconstruction_scores", lambda *_: perfect)
    monkeypatch.setattr(stage, "_reconstruct", lambda *_: SimpleNamespace())
    assert stage.validate(stage.modules["model"])["score"] == 0.0
