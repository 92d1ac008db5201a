"""Weights that know more than the core: what they can be asked for, and what their cases record."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from cinesynth.cases.schema import achieved, requested
from cinesynth.cli import main
from cinesynth.errors import InputError
from cinesynth.synthesis.cohort import generate_cohort
from cinesynth.synthesis.pipeline import CinePipeline
from cinesynth.synthesis.request import Request
from cinesynth.types import CONDITIONS, FURTHER_CONDITIONS, ClinicalPrior, Diagnosis, Label
from cinesynth.weights import registry as knowledge
from tests.bundles import make_bundle

PRIOR = ClinicalPrior.from_ef(Diagnosis.DCM, 280.0, 25.0, slices=7)
WHOLE = replace(PRIOR, rv_edv_ml=180.0, rv_esv_ml=90.0, myo_mass_g=140.0, vendor="siemens")


@pytest.fixture(scope="module")
def knowing_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    settings = [f"conditions=[{', '.join(CONDITIONS)}]", "vendors=[GE, Siemens]"]
    return make_bundle(tmp_path_factory.mktemp("knowing"), *settings)


@pytest.fixture(scope="module")
def knowing(knowing_weights: Path) -> CinePipeline:
    return CinePipeline.from_pretrained(knowing_weights, device="cpu")


@pytest.mark.parametrize(
    ("name", "other"), [("rv_edv_ml", 260.0), ("rv_esv_ml", 40.0), ("myo_mass_g", 90.0), ("vendor", "GE")]
)
def test_both_models_hear_each_further_condition(knowing: CinePipeline, name: str, other: object) -> None:
    """And what stands behind an unknown field changes nothing."""
    asked, others, unknown = (replace(WHOLE, **{name: value}) for value in (getattr(WHOLE, name), other, None))
    plans = [knowing.plan(Request(prior, frames=2)) for prior in (asked, others, unknown)]
    behind = replace(plans[2].conditions, values=plans[2].conditions.values.clone())
    behind.values[~behind.known] = 5.0
    x, y, _ = knowing.bundle.config.latent_size
    channels = knowing.bundle.config.vae.latent_channels
    anatomy = torch.randn(1, channels, x, y, 7, generator=torch.Generator().manual_seed(0))
    motion = torch.randn(
        1, knowing.bundle.residual_motion.code.channels, x, y, 7, generator=torch.Generator().manual_seed(1)
    )
    for model, noise, given in (
        (knowing.bundle.anatomy_diffusion, anatomy, None),
        (knowing.bundle.motion_diffusion, motion, anatomy),
    ):
        conditions = [plan.conditions for plan in plans] + [behind]
        first, changed, forgotten, same = (
            knowing.sampler._sample(model, plans[0], noise, c, anatomy=given) for c in conditions
        )
        assert not torch.equal(first, changed)
        assert not torch.equal(first, forgotten)
        assert torch.equal(forgotten, same)


def test_a_case_records_what_was_asked_and_what_came_out(knowing: CinePipeline) -> None:
    cine = knowing(WHOLE, frames=2, seed=7, max_attempts=1)
    asked, found = requested(cine.prior), achieved(cine)
    assert {name: asked[name] for name in FURTHER_CONDITIONS} == {n: getattr(WHOLE, n) for n in FURTHER_CONDITIONS}
    assert found["myo_mass_g"] == pytest.approx(1.05 * float(cine.volumes_ml(Label.MYO)[0]), abs=1e-3)
    assert found["rv_edv_ml"] == pytest.approx(float(cine.volumes_ml(Label.RV)[0]), abs=1e-3)
    record = json.loads(json.dumps(cine.provenance["request"]))
    assert Request.from_json(record) == Request(WHOLE, seed=7, frames=2, max_attempts=1)


def test_a_case_of_the_core_records_what_it_did(pipe: CinePipeline) -> None:
    """So that cohorts begun before go on."""
    request = Request(PRIOR, seed=7)
    settings = ["seed", "frames", "es_index", "steps", "guidance", "max_attempts", "match_volumes"]
    assert list(request.to_json()) == ["diagnosis", "lv_edv_ml", "lv_esv_ml", "slices", *settings]
    cine = pipe(PRIOR, frames=2, seed=7, max_attempts=1)
    assert list(requested(cine.prior)) == ["diagnosis", "lv_edv_ml", "lv_esv_ml", "slices", "ef_percent"]
    assert "myo_mass_g" not in achieved(cine)


def test_a_manifest_has_the_further_conditions(knowing: CinePipeline, tmp_path: Path) -> None:
    requests = [Request(prior, seed=1, frames=2, max_attempts=1) for prior in (WHOLE, PRIOR)]
    first, second = generate_cohort(knowing, requests, tmp_path)  # with pictures: the sheet shows them too
    assert (first["requested_rv_edv_ml"], first["requested_vendor"]) == (180.0, "siemens")
    assert first["achieved_myo_mass_g"] == pytest.approx(1.05 * first["achieved_myo_ed_ml"], abs=2e-3)
    assert (second["requested_rv_edv_ml"], second["requested_vendor"]) == (None, None)


def test_nothing_is_requested_that_was_not_asked_for(knowing: CinePipeline) -> None:
    drawn = knowing.prior.draw(3)
    assert [getattr(drawn, name) for name in FURTHER_CONDITIONS] == [None] * 4
    asked = ClinicalPrior(rv_edv_ml=180.0)
    plan = knowing.plan(Request(asked))
    assert plan.request.prior == asked
    assert plan.prior.rv_edv_ml == 180.0
    # Of these training subjects neither mass nor RV is known: the networks are not told any.
    assert plan.prior.myo_mass_g is plan.prior.rv_esv_ml is None


def test_a_vendor_alone_is_any_patient_of_that_vendor(
    knowing_weights: Path, knowing: CinePipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = ["--weights", str(knowing_weights), "--frames", "2", "--max-attempts", "1", "--no-pictures", "--seed", "3"]
    monkeypatch.setattr("sys.argv", ["cinesynth", "generate", "--vendor", "GE", "--out", str(tmp_path / "a"), *flags])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code in (0, None)
    asked = json.loads((tmp_path / "a" / "case.json").read_text())["requested"]
    drawn = knowing.prior.draw(3)
    assert (asked["vendor"], asked["lv_edv_ml"]) == ("GE", drawn.lv_edv_ml)


def test_an_unknown_vendor_is_refused_and_the_known_are_named(knowing: CinePipeline) -> None:
    with pytest.raises(InputError, match="vendor 'Acme' is not known to these weights") as error:
        knowing(replace(PRIOR, vendor="Acme"))
    assert error.value.hint == "one of GE, Siemens"


@pytest.mark.parametrize("name", FURTHER_CONDITIONS)
def test_weights_of_the_core_say_who_knows_more(pipe: CinePipeline, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = replace(PRIOR, **{name: getattr(WHOLE, name)})
    with pytest.raises(InputError, match="were not trained with") as error:
        pipe(asked)
    assert "use weights that support it: --weights compact" in str(error.value.hint)
    monkeypatch.setattr(knowledge, "shipped_with", lambda _: ["large"])
    with pytest.raises(InputError) as error:
        pipe(asked)
    assert "--weights large" in str(error.value.hint)


def test_a_core_of_conditions_is_enough_for_the_knowing(knowing: CinePipeline) -> None:
    assert np.isfinite(knowing(PRIOR, frames=2, seed=7, max_attempts=1).image).all()
