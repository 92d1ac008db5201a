import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cinesynth.data.geometry import slice_mask
from cinesynth.errors import InputError, WeightsError
from cinesynth.io.reproducibility import case_seed, derive
from cinesynth.synthesis import pipeline, sampler
from cinesynth.synthesis.acceptance import Verdict, Verdicts
from cinesynth.synthesis.pipeline import CinePipeline
from cinesynth.synthesis.request import Request
from cinesynth.types import Cine, ClinicalPrior, Diagnosis, Label

PRIORS = [
    ClinicalPrior.from_ef(Diagnosis.DCM, 280.0, 25.0, slices=7),
    ClinicalPrior(Diagnosis.NOR, lv_edv_ml=120.0),
    ClinicalPrior.from_ef(Diagnosis.HCM, 110.0, 70.0, slices=7),
]


def same(a: Cine, b: Cine) -> bool:
    """Bit for bit."""
    pairs = [(torch.from_numpy(x), torch.from_numpy(y)) for x, y in ((a.image, b.image), (a.label, b.label))]
    return all(torch.equal(x, y) for x, y in pairs)


@pytest.mark.parametrize("which", ["pipe", "per_frame_pipe"])
def test_a_case_is_the_same_alone_and_in_any_company(which: str, request: pytest.FixtureRequest) -> None:
    pipe: CinePipeline = request.getfixturevalue(which)
    settings: dict[str, Any] = {"frames": 3, "max_attempts": 2}
    seeds = [11, 12]
    alone = [pipe(prior, seed=seed, **settings) for prior, seed in zip(PRIORS[:2], seeds, strict=True)]
    together = pipe(PRIORS[1::-1], seed=seeds[::-1], **settings)[::-1]
    assert all(same(a, b) for a, b in zip(alone, together, strict=True))
    assert not same(alone[0], pipe(PRIORS[0], seed=14, **settings))


@pytest.mark.parametrize("which", ["pipe", "per_frame_pipe"])
def test_frames_decoded_beside_each_other_are_the_same(
    which: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three threads, of which each takes chunks of frames, give one case each time, and a cancel ends it.

    It is that of one thread to rounding: sums in the networks are in another order.
    """
    pipe: CinePipeline = request.getfixturevalue(which)
    settings: dict[str, Any] = {"frames": 9, "seed": 11, "max_attempts": 1}
    # The whole cycle, as no untrained motion holds: every chunk of frames is decoded.
    monkeypatch.setattr(pipe.sampler, "_hold_so_far", lambda *_: True)
    alone = pipe(PRIORS[0], **settings)
    torch.set_num_threads(3)
    try:
        beside = pipe(PRIORS[0], **settings)
        assert same(beside, pipe(PRIORS[0], **settings))
        np.testing.assert_allclose(beside.image, alone.image, atol=1e-2)
        calls: list[str] = []

        def cancel(stage: str, *_: object) -> None:
            calls.append(stage)
            if calls.count("motion") == 6:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            pipe(PRIORS[0], callback=cancel, **settings)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(1)


@pytest.mark.parametrize("which", ["pipe", "per_frame_pipe"])
def test_the_first_frame_is_the_anatomy_exactly(which: str, request: pytest.FixtureRequest) -> None:
    pipe: CinePipeline = request.getfixturevalue(which)
    plan = pipe.plan(Request(PRIORS[0], seed=7, frames=6, max_attempts=1))
    with torch.inference_mode():
        anatomy = pipe.sampler.matched(plan, pipe.sampler.anatomy(plan, 0))
    cine = pipe(PRIORS[0], frames=6, seed=7, max_attempts=1)
    assert np.array_equal(cine.image[0], anatomy.image[0])
    assert np.array_equal(cine.label[0], anatomy.label[0])
    assert not np.array_equal(cine.label[0], cine.label[3])  # and the others move


def test_what_was_tidied_is_of_the_frames_that_are_there(pipe: CinePipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not of those that fill up the last call of the network: one millilitre a frame is as many as there are."""
    decode = pipe.sampler.decode
    monkeypatch.setattr(pipe.sampler, "decode", lambda *given: (*decode(*given)[:2], np.ones(len(given[0]))))
    for frames in (4, 5):
        cine = pipe(PRIORS[1], frames=frames, seed=7, max_attempts=1)
        assert cine.provenance["acceptance"]["motion"]["postprocessing_ml"] == frames  # type: ignore[index]


def test_the_anatomy_does_not_depend_on_the_frames(pipe: CinePipeline, cine: Cine) -> None:
    other = pipe(cine.prior, frames=9, es_index=2, seed=cine.seed)
    assert np.array_equal(other.image[0], cine.image[0])
    assert len(other.image) == 9
    assert other.es_index == 2


def test_frames_lie_on_one_cycle(pipe: CinePipeline) -> None:
    """Twice the frames hold the same beat: those at equal phases are equal."""
    short, fine = (pipe(PRIORS[0], frames=n, es_index=es, seed=7, max_attempts=1) for n, es in ((6, 2), (12, 4)))
    np.testing.assert_allclose(fine.image[::2], short.image, atol=1e-4)
    steps = np.abs(np.diff(np.concatenate([fine.image, fine.image[:1]]), axis=0)).mean(axis=(1, 2, 3))
    assert steps[-1] < 2 * np.median(steps)  # from the last frame back to the first is a step like the others


def test_only_acquired_slices_are_computed_and_they_are_the_full_grids(pipe: CinePipeline) -> None:
    request = Request(PRIORS[0], seed=7, frames=4, max_attempts=1, match_volumes=False)
    plan = pipe.plan(request)
    assert plan.slice_mask.shape == (1, 7)
    whole = CinePipeline(pipe.bundle)
    whole.planner._may_crop = lambda: False  # type: ignore[method-assign]
    acquired = torch.from_numpy(slice_mask(7, pipe.grid.size[2]))
    assert torch.equal(whole.plan(request).slice_mask[0], acquired)
    cropped, full = next(pipe.generate([request])), next(whole.generate([request]))
    assert cropped.image.shape == full.image.shape == (4, 32, 32, 7)
    np.testing.assert_allclose(cropped.image, full.image, atol=1e-4)
    assert (cropped.label != full.label).mean() < 1e-3


def test_group_norms_see_the_whole_grid(per_frame_pipe: CinePipeline) -> None:
    assert per_frame_pipe.plan(Request(PRIORS[0])).slice_mask.shape == (1, 12)
    assert per_frame_pipe(PRIORS[0], frames=3, seed=1, max_attempts=1).image.shape[-1] == 7


def test_guidance_0_ignores_the_prior(pipe: CinePipeline) -> None:
    one, other = (
        pipe(prior, frames=4, es_index=2, seed=7, guidance=0.0, max_attempts=1, match_volumes=False)
        for prior in (PRIORS[0], PRIORS[2])
    )
    assert same(one, other)
    guided = [
        pipe(prior, frames=4, es_index=2, seed=7, guidance=2.0, max_attempts=1) for prior in (PRIORS[0], PRIORS[2])
    ]
    assert not same(*guided)


def test_what_is_not_asked_comes_from_the_training_subjects(pipe: CinePipeline) -> None:
    prior = ClinicalPrior(Diagnosis.NOR)
    cine = pipe(prior, frames=10, seed=3)
    assert cine.prior == prior  # as asked
    assert cine.es_index == 4  # 40 % of the cycle
    assert cine.frame_time_ms == pytest.approx(80.0)  # 800 ms a beat
    assert 6 <= cine.image.shape[-1] <= 12
    assert cine.provenance["slices_from"] == "empirical prior"
    assert cine.provenance["slices"] == cine.image.shape[-1]


def test_arrays_and_provenance(pipe: CinePipeline, cine: Cine) -> None:
    assert cine.image.shape == cine.label.shape == (6, 32, 32, 7)
    assert cine.image.dtype == np.float32
    assert np.abs(cine.image).max() <= 1.0
    assert set(np.unique(cine.label)) <= {0, *map(int, Label)}
    assert cine.affine.tolist() == np.diag([3.0, 3.0, 10.0, 1.0]).tolist()
    record = json.loads(json.dumps(cine.provenance, allow_nan=False))
    assert record["synthetic"] is True
    assert record["weights"] == {"preset": "smoke", "sha256": pipe.bundle_sha256, "licence": "none: random numbers"}
    assert Request.from_json(record["request"]) == Request(cine.prior, seed=7, frames=6)


def test_a_list_gives_each_case_its_own_seed(pipe: CinePipeline) -> None:
    first, second = pipe([PRIORS[0], PRIORS[0]], frames=3, seed=5, max_attempts=1)
    assert (first.seed, second.seed) == (case_seed(5, 0), case_seed(5, 1))
    assert not same(first, second)
    assert same(second, pipe(PRIORS[0], frames=3, seed=second.seed, max_attempts=1))


def test_seeds_are_the_same_everywhere() -> None:
    assert derive(7, "anatomy", 0) == 824588161036449273
    assert len({derive(s, p, i) for s in range(20) for p in ("anatomy", "motion") for i in range(5)}) == 200
    assert 0 <= case_seed(7, 3) < 2**63


@pytest.mark.parametrize("good_attempt", [0, 1, 2, None])
def test_attempts_are_bounded_and_reported(
    pipe: CinePipeline, monkeypatch: pytest.MonkeyPatch, good_attempt: int | None
) -> None:
    calls: list[int] = []

    def judge(label: np.ndarray, voxel_ml: float) -> Verdicts:
        calls.append(len(calls))
        return Verdicts((Verdict("test", float(calls[-1] == good_attempt), 1.0),))

    monkeypatch.setattr(sampler, "judge_anatomy", judge)
    monkeypatch.setattr(sampler, "judge_motion", lambda *_: Verdicts(()))
    cine = pipe(PRIORS[0], frames=2, seed=7, max_attempts=3, match_volumes=False)
    acceptance = cine.provenance["acceptance"]
    assert isinstance(acceptance, dict)
    assert len(calls) == (3 if good_attempt is None else good_attempt + 1)
    assert acceptance["accepted"] is (good_attempt is not None)
    assert acceptance["anatomy"]["attempts"] == len(calls)
    assert acceptance["anatomy"]["kept_attempt"] == (good_attempt or 0)


def test_the_least_bad_attempt_is_kept(pipe: CinePipeline) -> None:
    """Random weights make no heart: the case is returned all the same, and says so."""
    acceptance = pipe(PRIORS[0], frames=2, seed=7, max_attempts=2).provenance["acceptance"]
    assert isinstance(acceptance, dict)
    assert acceptance["accepted"] is False
    counts = [len(failed) for failed in acceptance["anatomy"]["failed_rules_by_attempt"]]
    assert len(counts) == 2
    assert counts[acceptance["anatomy"]["kept_attempt"]] == min(counts)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (lambda pipe: pipe(PRIORS[0], frames=1), "1 frames are outside 2-200"),
        (lambda pipe: pipe(PRIORS[0], frames=8, es_index=8), "ES frame 8 is not within 1-7"),
        (lambda pipe: pipe(PRIORS[0], es_index=0), "ES frame 0"),
        (lambda pipe: pipe(PRIORS[0], max_attempts=0), "max_attempts 0"),
        (lambda pipe: pipe(PRIORS[0], steps=0), "0 sampling steps"),
        (lambda pipe: pipe(PRIORS[0], guidance=-1.0), "guidance -1"),
        (lambda pipe: pipe(PRIORS[0], seed=-1), "seed -1"),
        (lambda pipe: pipe(ClinicalPrior(slices=13)), "13 slices do not fit a grid of 12"),
        (lambda pipe: pipe([PRIORS[0]], seed=[1, 2]), "2 seeds for 1 cases"),
    ],
)
def test_refused(pipe: CinePipeline, bad: Callable[[CinePipeline], object], message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        bad(pipe)
    assert error.value.exit_code == 2
    assert error.value.hint


@pytest.mark.parametrize("name", ["bundle.json", "prior.json", "vae.safetensors", "motion_diffusion.json"])
def test_missing_or_altered_weights_are_refused(weights: Path, tmp_path: Path, name: str) -> None:
    copy = tmp_path / "weights"
    shutil.copytree(weights, copy)
    content = (copy / name).read_bytes()
    altered = content[:-1] + bytes([content[-1] ^ 1])
    for change in (lambda p: p.unlink(), lambda p: p.write_bytes(altered)):
        change(copy / name)
        with pytest.raises(WeightsError) as error:
            CinePipeline.from_pretrained(copy)
        assert error.value.exit_code == 4
    (copy / name).write_bytes(content)
    CinePipeline.from_pretrained(copy)


def test_a_motion_that_fails_at_es_is_not_decoded_in_between(
    pipe: CinePipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The third draw is the first whose ES passes; of the others there are ED and the frames of one network call."""
    seen: list[int] = []

    def judge(label: np.ndarray, voxel_ml: float, es_index: int) -> Verdicts:
        seen.append(len(label))
        return Verdicts((Verdict("test", float(seen.count(2) >= 3), 1.0),))

    monkeypatch.setattr(sampler, "judge_motion", judge)
    monkeypatch.setattr(sampler, "shapes_hold", lambda _: True)
    cine = pipe(PRIORS[0], frames=8, seed=7, max_attempts=3)
    assert seen == [2, 3, 2, 3, 2, 8]
    acceptance = cine.provenance["acceptance"]
    assert isinstance(acceptance, dict)
    assert (acceptance["motion"]["attempts"], acceptance["motion"]["kept_attempt"]) == (3, 2)


def test_a_motion_is_decoded_until_a_frame_breaks_a_rule(pipe: CinePipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    """ES passes; the first motion breaks a rule in the second of its four network calls, the other in none."""
    seen: list[int] = []
    calls: list[int] = []

    def holds(labels: list[np.ndarray]) -> bool:
        calls.append(len(labels))
        return len(calls) != 2

    def judge(label: np.ndarray, voxel_ml: float, es_index: int) -> Verdicts:
        seen.append(len(label))
        return Verdicts((Verdict("test", float(len(label) in (2, 8)), 1.0),))

    monkeypatch.setattr(sampler, "judge_motion", judge)
    monkeypatch.setattr(sampler, "shapes_hold", holds)
    assert len(pipe(PRIORS[0], frames=8, seed=7, max_attempts=2).image) == 8
    assert seen == [2, 5, 2, 8]


def test_the_best_of_motions_that_all_fail_at_es_has_all_its_frames(
    pipe: CinePipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampler, "judge_motion", lambda *_: Verdicts((Verdict("test", 0.0, 1.0),)))
    assert len(pipe(PRIORS[0], frames=8, seed=7, max_attempts=2).image) == 8


def test_processes_of_a_node_take_a_device_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    devices = []
    for rank in ("0", "1", "2"):
        monkeypatch.setenv("LOCAL_RANK", rank)
        devices.append(pipeline.default_device())
    assert devices == ["cuda:0", "cuda:1", "cuda:0"]
    monkeypatch.setenv("LOCAL_RANK", "first")
    with pytest.raises(InputError, match="LOCAL_RANK is 'first'"):
        pipeline.default_device()


def test_the_names_of_the_last_release_are_read(pipe: CinePipeline) -> None:
    """Keyword arguments with a warning, the keys of a sidecar silently, also those of a kept anatomy."""
    with pytest.warns(DeprecationWarning, match="is now called") as warned:
        old = pipe(PRIORS[0], frames=2, seed=7, tries=1, control=False)
    assert [str(w.message).split(";")[0] for w in warned] == [
        "tries is now called max_attempts",
        "control is now called match_volumes",
    ]
    assert same(old, pipe(PRIORS[0], frames=2, seed=7, max_attempts=1, match_volumes=False))
    with pytest.raises(TypeError, match="trials"):
        pipe(PRIORS[0], trials=1)
    kept = Request(PRIORS[0], seed=7, max_attempts=2)
    request = Request(PRIORS[0], seed=8, match_volumes=False, anatomy=kept)
    text = json.dumps(request.to_json()).replace("max_attempts", "tries").replace("match_volumes", "control")
    assert "tries" in text
    assert Request.from_json(json.loads(text)) == request


@pytest.mark.parametrize("which", ["pipe", "per_frame_pipe"])
def test_a_callback_follows_every_network_call_and_can_end_the_case(which: str, request: pytest.FixtureRequest) -> None:
    pipe: CinePipeline = request.getfixturevalue(which)
    seen: list[tuple[str, int, int]] = []
    pipe(PRIORS[0], frames=4, seed=7, max_attempts=2, callback=lambda *step: seen.append(step[:3]))
    tasks, done, totals = zip(*seen, strict=True)
    assert list(dict.fromkeys(tasks)) == ["anatomy", "motion"]
    assert list(done) == sorted(done)
    assert len(set(totals)) == 1
    assert 1 == done[0] < done[-1] <= totals[0]

    def cancel(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pipe(PRIORS[0], frames=4, seed=7, callback=cancel)
