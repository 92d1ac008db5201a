"""The same heart at ED, another motion."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cinesynth.cases.reading import read_case
from cinesynth.cases.schema import to_stored
from cinesynth.cases.writing import save_case
from cinesynth.errors import InputError
from cinesynth.synthesis.acceptance import Candidate
from cinesynth.synthesis.cohort import counterfactual, kept_anatomy
from cinesynth.synthesis.pipeline import CinePipeline
from cinesynth.synthesis.planning import Plan
from cinesynth.synthesis.request import Request
from cinesynth.synthesis.sampler import Sampler
from cinesynth.types import Cine, ClinicalPrior, Diagnosis, Label
from tests.conftest import Run


@pytest.fixture(scope="module")
def case(cine: Cine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kept") / "case"
    save_case(cine, folder, pictures=False)
    return folder


def make(pipe: CinePipeline, request: Request) -> Cine:
    (cine,) = pipe.generate([request])
    return cine


def test_another_ef_keeps_the_first_frame_bit_for_bit(pipe: CinePipeline, cine: Cine, case: Path) -> None:
    other = make(pipe, counterfactual(kept_anatomy(case, pipe), ef_percent=60.0, frames=5, max_attempts=1))
    assert np.array_equal(to_stored(other.image[0]), to_stored(cine.image[0]))
    assert np.array_equal(other.label[0], cine.label[0])
    assert not np.array_equal(to_stored(other.image[2]), to_stored(cine.image[2]))
    assert other.prior.lv_edv_ml == 280.0
    assert other.prior.ef_percent == pytest.approx(60.0)
    assert other.prior.diagnosis is Diagnosis.DCM


def test_nothing_changed_is_the_same_case_and_another_seed_another_motion(
    pipe: CinePipeline, cine: Cine, case: Path
) -> None:
    kept = kept_anatomy(case, pipe)
    again = make(pipe, counterfactual(kept, frames=6))
    assert np.array_equal(to_stored(again.image), to_stored(cine.image))
    assert np.array_equal(again.label, cine.label)
    moved = make(pipe, counterfactual(kept, frames=6, seed=8))
    assert np.array_equal(moved.label[0], cine.label[0])
    assert not np.array_equal(to_stored(moved.image[3]), to_stored(cine.image[3]))


def on_another_machine(monkeypatch: pytest.MonkeyPatch, by: float) -> None:
    """Latents of anatomies are computed with other last bits (or, if ``by`` is large, others altogether)."""
    anatomy = Sampler.anatomy

    def moved(self: Sampler, plan: Plan, *args: Any, **settings: Any) -> Candidate:
        found = anatomy(self, plan, *args, **settings)
        latent = found.latent + by * torch.randn(found.latent.shape, generator=torch.Generator().manual_seed(3))
        return self._decoded_anatomy(plan, latent, found.attempt)

    monkeypatch.setattr(Sampler, "anatomy", moved)


def test_the_first_frame_is_copied_and_not_computed_again(
    pipe: CinePipeline, case: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another number of threads changes the last bits of a latent."""
    request = counterfactual(kept_anatomy(case, pipe), ef_percent=60.0, frames=4, max_attempts=1)
    on_another_machine(monkeypatch, 1e-4)
    recomputed = make(pipe, replace(request, frame=None))
    save_case(make(pipe, request), tmp_path / "other", pictures=False)
    first, other = (read_case(folder, "case") for folder in (case, tmp_path / "other"))
    assert not np.array_equal(to_stored(recomputed.image[0]), first.image[0])
    assert np.array_equal(other.image[0], first.image[0])
    assert np.array_equal(other.label[0], first.label[0])
    record = json.loads((tmp_path / "other" / "case.json").read_text())["provenance"]
    assert record["ed_frame_from"] == json.loads((case / "case.json").read_text())["files"]


def test_an_anatomy_that_becomes_another_heart_is_refused(
    pipe: CinePipeline, case: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = counterfactual(kept_anatomy(case, pipe), ef_percent=60.0, frames=4, max_attempts=1)
    on_another_machine(monkeypatch, 2.0)
    with pytest.raises(InputError, match="% of its heart differ") as error:
        make(pipe, request)
    assert error.value.hint == "generate where the case was made: device cpu, precision fp32, threads 1"


def test_the_new_ef_is_checked_against_the_kept_edv(pipe: CinePipeline, tmp_path: Path) -> None:
    """The heart became smaller than requested, and lies below the ESV that was requested with it."""
    asked = Request(ClinicalPrior(Diagnosis.DCM, 400.0, 350.0, 8), 1, 4, max_attempts=1, match_volumes=False)
    made = make(pipe, asked)
    edv_ml = float(made.volumes_ml(Label.LV)[0])
    assert 20.0 < edv_ml < 350.0
    save_case(made, tmp_path / "case", pictures=False)
    kept = kept_anatomy(tmp_path / "case", pipe)
    other = counterfactual(kept, ef_percent=50.0, frames=4)
    assert other.prior.lv_esv_ml == pytest.approx(edv_ml / 2, abs=1e-3)
    for esv in (None, 350.0):
        with pytest.raises(InputError, match=r"does not fit EDV .* the volume of the kept heart") as error:
            counterfactual(kept, esv_ml=esv, frames=4)
        assert error.value.hint == "give an EF, or an ESV below the EDV"


def test_a_counterfactual_is_kept_and_made_again_like_any_case(
    pipe: CinePipeline, cine: Cine, case: Path, tmp_path: Path
) -> None:
    request = counterfactual(kept_anatomy(case, pipe), diagnosis=Diagnosis.NOR, ef_percent=65.0, frames=4)
    assert Request.from_json(request.to_json()) == request
    save_case(make(pipe, request), tmp_path / "other", pictures=False)
    again = kept_anatomy(tmp_path / "other", pipe)
    assert again.request.prior.diagnosis is Diagnosis.NOR
    assert counterfactual(again, frames=4) == request  # the anatomy of a counterfactual is that of the first case
    moved = counterfactual(kept_anatomy(case, pipe), frames=4, seed=8)
    save_case(make(pipe, moved), tmp_path / "moved", pictures=False)
    assert counterfactual(kept_anatomy(tmp_path / "moved", pipe), frames=4) == moved  # with its own seed


def test_slices_that_were_drawn_and_an_edv_that_nobody_asked_for_are_the_anatomy_s_own(
    pipe: CinePipeline, tmp_path: Path
) -> None:
    first = make(pipe, Request(ClinicalPrior(Diagnosis.HCM), seed=3, frames=4, max_attempts=1))
    save_case(first, tmp_path / "case", pictures=False)
    request = counterfactual(kept_anatomy(tmp_path / "case", pipe), seed=5, frames=4, max_attempts=1)
    other = make(pipe, request)
    assert np.array_equal(other.label[0], first.label[0])
    assert request.prior.lv_edv_ml == pytest.approx(float(first.volumes_ml(3)[0]), abs=1e-3)
    with pytest.raises(InputError, match="9 slices were requested, but the kept anatomy has None"):
        Request(ClinicalPrior(slices=9), anatomy=request.anatomy)


def test_the_command_keeps_the_anatomy_and_says_what_cannot_be_asked_of_it(
    weights: Path, case: Path, tmp_path: Path, run: Run
) -> None:
    def made(out: str, *asked: object) -> tuple[int, str, str]:
        quick = ("--frames", 4, "--max-attempts", 1, "--no-pictures", "--weights", weights, "--precision", "fp32")
        return run("generate", "--keep-anatomy", *asked, *quick, "--out", tmp_path / out)

    assert made("one", case, "--ef", 45)[0] == 0
    assert made("more", case, "--count", 2)[0] == 0
    assert {p.name for p in (tmp_path / "more").iterdir()} == {"case_0000", "case_0001", "cohort.csv"}
    for wrong, said in (
        ([case, "--edv", 200], "--edv cannot be combined with --keep-anatomy"),
        ([case, "--ef", 30, "--esv", 80], "an ESV and an EF were both given"),
        ([case, "--ef", 99], "outside 3-95"),
        ([tmp_path / "more"], "holds no generated case"),
    ):
        code, _, err = made("none", *wrong)
        assert code == 2
        assert said in " ".join(err.split())
    assert not (tmp_path / "none").exists()


def test_a_case_of_other_weights_is_refused(per_frame_pipe: CinePipeline, case: Path) -> None:
    with pytest.raises(InputError, match="made with other weights"):
        kept_anatomy(case, per_frame_pipe)
