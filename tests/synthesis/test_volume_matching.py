"""Closed loop: the shift meets the volume, leaves ED alone, and is no part of an open-loop case."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from cinesynth.synthesis import volume_matching
from cinesynth.synthesis.pipeline import CinePipeline
from cinesynth.synthesis.request import Request
from cinesynth.synthesis.volume_matching import (
    MATCHING,
    Target,
    cells_near_heart,
    ed_targets,
    es_targets,
    es_weight,
    find_amplitude,
    match_motion_volumes,
    match_volumes,
    polyak_length,
    soft_volumes_ml,
)
from cinesynth.types import ClinicalPrior, Diagnosis, Label
from cinesynth.weights.registry import shipped_bundles


@pytest.fixture(scope="module")
def small() -> CinePipeline:
    """Trained weights: an untrained decoder of masks sees no heart."""
    if "small" not in shipped_bundles():
        pytest.skip("no weights are shipped in this checkout")
    return CinePipeline.from_pretrained("small", precision="fp32")


@pytest.fixture(scope="module")
@torch.inference_mode()
def latent(small: CinePipeline) -> torch.Tensor:
    plan = small.plan(Request(ClinicalPrior(Diagnosis.NOR, 140.0, slices=9), seed=3, match_volumes=False))
    return small.sampler.anatomy(plan, 0).latent


def lv_ml(small: CinePipeline, latent: torch.Tensor) -> float:
    return float(soft_volumes_ml(small.bundle.codec, latent, everywhere(latent))[Label.LV])


def everywhere(latent: torch.Tensor) -> torch.Tensor:
    return torch.ones(1, latent.shape[-1], dtype=torch.bool)


@pytest.mark.parametrize("factor", [0.8, 1.2])
def test_the_volume_is_met_by_a_small_shift(small: CinePipeline, latent: torch.Tensor, factor: float) -> None:
    before = lv_ml(small, latent)
    matching = match_volumes(small.bundle.codec, latent, everywhere(latent), [Target.of(Label.LV, factor * before)])
    after = lv_ml(small, latent + matching.shift)
    assert matching.before_ml == pytest.approx({Label.LV: before}, rel=1e-5)
    assert matching.after_ml == pytest.approx({Label.LV: after}, rel=1e-5)
    assert abs(after - factor * before) < 0.5 * abs(before - factor * before)
    assert matching.to_json()["shift_rms"] < 1.0  # type: ignore[operator]


def test_several_volumes_are_met_together(small: CinePipeline, latent: torch.Tensor) -> None:
    before = soft_volumes_ml(small.bundle.codec, latent, everywhere(latent))
    wanted = {Label.LV: 0.95, Label.RV: 1.05, Label.MYO: 1.0}
    targets = [Target.of(s, share * float(before[s])) for s, share in wanted.items()]
    found = match_volumes(small.bundle.codec, latent, everywhere(latent), targets).after_ml
    for structure, share in wanted.items():
        assert found[structure] == pytest.approx(share * float(before[structure]), rel=0.06)


def test_a_step_ends_where_a_linear_error_vanishes() -> None:
    """Along any direction of descent, (a x - 1)^2 is 0 after one step; a step that would be too long is limited."""
    slopes, direction = torch.tensor([0.5, -4.0]), torch.tensor([1.0, -0.5])
    x = torch.tensor([3.0, -1.0])
    error = slopes @ x - 5.3  # 0.2
    stepped = x - direction * polyak_length(float(error.square()), 2 * error * slopes, direction)
    assert float(slopes @ stepped - 5.3) == pytest.approx(0.0, abs=1e-5)
    assert polyak_length(1e6, torch.tensor([1.0]), torch.tensor([1.0])) == MATCHING.max_step
    assert polyak_length(1.0, torch.tensor([0.0]), torch.tensor([1.0])) == MATCHING.max_step  # nothing to go by


def test_swings_make_masks_surer(small: CinePipeline, latent: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same volume is met either way; with swings fewer voxels are in doubt between two structures."""
    codec, mask = small.bundle.codec, everywhere(latent)
    target = Target.of(Label.LV, 1.2 * lv_ml(small, latent))
    doubts = []
    for swings in (0, 4):
        monkeypatch.setattr(volume_matching, "MATCHING", replace(MATCHING, swings=swings))
        found = match_volumes(codec, latent, mask, [target])
        assert found.after_ml[Label.LV] == pytest.approx(target.low_ml, rel=0.005)
        likeliest = codec.decode(latent + found.shift, mask).logits.softmax(dim=1).amax(dim=1)
        doubts.append(float((1.0 - likeliest).sum()))
    assert doubts[1] < doubts[0]


def test_the_latent_is_moved_near_the_heart_alone(small: CinePipeline, latent: torch.Tensor) -> None:
    codec, stride = small.bundle.codec, small.bundle.config.vae.stride
    label = np.zeros(codec.grid.size, np.uint8)
    label[:4, :4] = Label.LV  # in a corner
    where = cells_near_heart(codec, label)
    reach = math.ceil((4 + MATCHING.reach_mm / codec.grid.spacing_mm[0]) / stride)
    assert where[..., 0, 0, 0].all()
    assert not where[..., reach:, :, :].any()
    assert not where[..., reach:, :].any()
    assert cells_near_heart(codec, np.zeros_like(label)).all()  # no heart yet: it may grow anywhere
    shift = match_volumes(
        codec, latent, everywhere(latent), [Target.of(Label.LV, 1.2 * lv_ml(small, latent))], where
    ).shift
    assert (shift != 0).any()
    assert not (shift * (1.0 - where)).any()


def test_a_volume_that_is_right_is_left_alone(small: CinePipeline, latent: torch.Tensor) -> None:
    there = lv_ml(small, latent)
    for target in (
        Target.of(Label.LV, there * (1 + 0.5 * MATCHING.tolerance)),
        Target(Label.LV, 0.9 * there, 1.1 * there),
    ):
        matching = match_volumes(small.bundle.codec, latent, everywhere(latent), [target])
        assert matching.steps == 0
        assert not matching.shift.any()


def test_what_a_prior_asks_is_what_is_steered_to() -> None:
    prior = ClinicalPrior(Diagnosis.DCM, 280.0, 210.0, 10, rv_edv_ml=180.0, rv_esv_ml=110.0, myo_mass_g=147.0)
    asked = {target.structure: (target.low_ml, target.high_ml) for target in ed_targets(prior)}
    assert asked == {Label.LV: (280.0, 280.0), Label.RV: (171.0, 189.0), Label.MYO: pytest.approx((133.0, 147.0))}
    lv, rv, myo = es_targets(prior, 140.0)
    assert (lv.low_ml, rv.low_ml) == (210.0, pytest.approx(104.5))
    assert myo.error(torch.tensor(120.0)) == pytest.approx(120 / 133 - 1)  # muscle may not go
    assert [float(myo.error(torch.tensor(ml))) for ml in (140.0, 174.0)] == [0.0, 0.0]
    assert myo.error(torch.tensor(210.0)) == pytest.approx(0.2)
    assert (ed_targets(ClinicalPrior()), es_targets(ClinicalPrior(), 140.0)) == ((), ())


def test_the_shift_swings_with_the_cycle() -> None:
    weights = es_weight(torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0], dtype=torch.float64))
    torch.testing.assert_close(weights, torch.tensor([0.0, 0.5, 1.0, 0.5, 0.0], dtype=torch.float64))


@pytest.mark.parametrize("target_ml", [52.0, 70.0, 99.0])
def test_the_amplitude_that_contracts_to_the_target_is_found(target_ml: float) -> None:
    def contracting(amplitude: float) -> float:  # EDV 120 mL, ESV 60 mL at its own motion
        return 120.0 * 0.5**amplitude

    assert contracting(find_amplitude(contracting, target_ml)) == pytest.approx(target_ml, rel=0.01)


def test_a_motion_is_not_driven_beyond_its_limit_nor_turned_round() -> None:
    assert find_amplitude(lambda amplitude: 120.0 - 10.0 * amplitude, 30.0) == MATCHING.max_amplitude
    assert find_amplitude(lambda amplitude: 120.0 - 10.0 * amplitude, 130.0) == 1.0


def test_a_motion_meets_the_volume_by_its_size_first(small: CinePipeline, latent: torch.Tensor) -> None:
    codec, mask = small.bundle.codec, everywhere(latent)
    shrunk = match_volumes(codec, latent, mask, [Target.of(Label.LV, 0.8 * lv_ml(small, latent))]).shift
    target = Target.of(Label.LV, lv_ml(small, latent + 0.5 * shrunk))
    matching = match_motion_volumes(codec, latent, shrunk, mask, [target])
    assert matching.amplitude == pytest.approx(0.5, abs=0.1)
    assert float(matching.shift.square().mean().sqrt()) < 0.1 * float(shrunk.square().mean().sqrt())
    still = matching.apply(torch.zeros_like(latent).expand(2, -1, -1, -1, -1), torch.tensor([0.0, 1.0]))
    assert not still[0].any()


def test_nothing_requested_is_nothing_steered(pipe: CinePipeline) -> None:
    prior = ClinicalPrior(Diagnosis.NOR, slices=8)
    closed, open_ = (pipe(prior, frames=4, seed=3, max_attempts=1, match_volumes=control) for control in (True, False))
    assert np.array_equal(closed.image, open_.image)
    assert np.array_equal(closed.label, open_.label)


def test_control_changes_frames_towards_the_request(small: CinePipeline) -> None:
    asked = ClinicalPrior(Diagnosis.DCM, 260.0, 180.0, 10)
    closed, open_ = (small(asked, frames=4, seed=3, max_attempts=1, match_volumes=control) for control in (True, False))
    for frame, ml in ((closed.ed_index, 260.0), (closed.es_index, 180.0)):
        error = [abs(float(cine.volumes_ml(Label.LV)[frame]) - ml) for cine in (closed, open_)]
        assert error[0] < min(error[1], 0.02 * ml)
    assert closed.provenance["acceptance"]["anatomy"]["volume_matching"]["steps"] > 0  # type: ignore[index]
    assert open_.provenance["acceptance"]["anatomy"]["volume_matching"] is None  # type: ignore[index]
