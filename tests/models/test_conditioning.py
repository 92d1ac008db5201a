"""Conditions: unknown is a token, EF is derived, and there is one way to say nothing."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from cinesynth.config import load_config
from cinesynth.config.migration import stage_path
from cinesynth.errors import ConfigError, InputError
from cinesynth.models.conditioning import DIAGNOSES, ClinicalEmbedding, ConditionSet, drop, encode_priors
from cinesynth.types import CONDITIONS, FURTHER_CONDITIONS, UNCONDITIONAL, ClinicalPrior, Diagnosis
from cinesynth.weights.folder import read_tensors
from cinesynth.weights.registry import shipped_bundles

PRIOR = ClinicalPrior.from_ef(Diagnosis.DCM, 280.0, 25.0, 10)
TOLD = ConditionSet(CONDITIONS, ("GE", "Siemens"))
WHOLE = replace(PRIOR, rv_edv_ml=180.0, rv_esv_ml=90.0, myo_mass_g=140.0, vendor="Siemens")


@pytest.fixture
def embedding():
    torch.manual_seed(0)
    return ClinicalEmbedding(16).eval()


def test_guidance_and_dropout_use_the_same_null(embedding):
    """Defect 1: what training drops to is bit for bit what generation calls unconditional."""
    dropped = drop(PRIOR, [0.0, 0.9, 0.9, 0.9, 0.9], p_all=0.1, p_each=0.0)
    assert dropped == UNCONDITIONAL
    trained, guided = encode_priors([dropped]), encode_priors([PRIOR]).unconditional()
    assert torch.equal(embedding(trained), embedding(guided))
    assert not torch.equal(embedding(trained), embedding(encode_priors([PRIOR])))


def test_dropout_is_per_case():
    kept = drop(PRIOR, [0.5, 0.9, 0.9, 0.9, 0.9], p_all=0.1, p_each=0.1)
    assert kept == PRIOR
    without_edv = drop(PRIOR, [0.5, 0.9, 0.05, 0.9, 0.9], p_all=0.1, p_each=0.1)
    assert without_edv.lv_edv_ml is None
    assert without_edv.lv_esv_ml == PRIOR.lv_esv_ml


def test_unknown_is_not_a_number(embedding):
    """Defect 6: an unknown volume is neither 0 mL nor NaN nor the largest heart."""
    unknown = encode_priors([ClinicalPrior(Diagnosis.NOR, None, None, 8)])
    assert torch.isfinite(embedding(unknown)).all()
    assert unknown.known.tolist() == [[False, False, False, True]]
    for edv in (20.0, 600.0):
        assert not torch.allclose(
            embedding(unknown), embedding(encode_priors([ClinicalPrior(Diagnosis.NOR, edv, None, 8)]))
        )


def test_the_number_behind_an_unknown_does_not_matter(embedding):
    conditions = encode_priors([ClinicalPrior(Diagnosis.NOR, None, None, 8)])
    conditions.values[~conditions.known] = 123.0
    other = encode_priors([ClinicalPrior(Diagnosis.NOR, None, None, 8)])
    assert torch.equal(embedding(conditions), embedding(other))


def test_ef_is_derived():
    """Defect 7: there is no way to give EDV, ESV and an EF that contradict each other."""
    assert PRIOR.lv_esv_ml == pytest.approx(210.0)
    assert PRIOR.ef_percent == pytest.approx(25.0)
    assert "ef_percent" not in ClinicalPrior.__dataclass_fields__


@pytest.mark.parametrize(
    "request_",
    [
        {"lv_edv_ml": 900.0},
        {"lv_edv_ml": 100.0, "lv_esv_ml": 120.0},
        {"lv_edv_ml": 100.0, "lv_esv_ml": 1.0},
        {"slices": 0},
        {"slices": 40},
        {"rv_edv_ml": 0.18},
        {"rv_esv_ml": 700.0},
        {"rv_edv_ml": 100.0, "rv_esv_ml": 120.0},
        {"myo_mass_g": 0.14},
        {"vendor": " "},
    ],
)
def test_impossible_hearts_are_refused(request_):
    with pytest.raises(InputError) as error:
        ClinicalPrior(**request_)
    assert error.value.hint


def test_impossible_ef_and_diagnosis_are_refused():
    with pytest.raises(InputError, match="120"):
        ClinicalPrior.from_ef(Diagnosis.NOR, 120.0, 120.0)
    with pytest.raises(InputError) as error:
        Diagnosis.parse("flu")
    assert "DCM" in error.value.hint


# --- further conditions --------------------------------------------------------------------------------------------


def as_before(weights, prior):
    """The embedding as it was when there were four conditions, written out (``1 W``)."""
    scaled = [prior.lv_edv_ml / 600.0, prior.lv_esv_ml / 600.0, prior.ef_percent / 100.0, prior.slices / 20.0]
    values = torch.tensor([scaled], dtype=torch.float32)
    angle = values[..., None] * (math.pi * 2.0 ** torch.arange(8, dtype=torch.float32))
    features = torch.cat([values[..., None], torch.cat([angle.sin(), angle.cos()], dim=-1)], dim=-1)
    total = weights["diagnosis.weight"][[DIAGNOSES.index(prior.diagnosis)]]
    for i in range(4):
        total = total + nn.functional.linear(features[:, i], weights[f"values.{i}.weight"], weights[f"values.{i}.bias"])
    return nn.functional.linear(nn.functional.silu(total), weights["out.1.weight"], weights["out.1.bias"])


def test_a_model_of_the_core_is_what_it_was(embedding):
    """Names, shapes and first values of its weights, and its output, bit for bit."""
    torch.manual_seed(0)
    diagnosis, values = nn.Embedding(6, 16), [nn.Linear(17, 16) for _ in range(4)]
    unknown, out = torch.randn(4, 16) * 0.02, nn.Linear(16, 16)
    before = {"unknown": unknown, "diagnosis.weight": diagnosis.weight, "out.1.weight": out.weight}
    before |= {"out.1.bias": out.bias}
    before |= {f"values.{i}.{name}": p for i, layer in enumerate(values) for name, p in layer.named_parameters()}
    now = embedding.state_dict()
    assert now.keys() == before.keys()
    assert all(torch.equal(now[name], before[name]) for name in now)
    for prior in (PRIOR, WHOLE):
        assert torch.equal(embedding(encode_priors([prior])), as_before(now, prior))


@pytest.mark.parametrize("name", ["small", "phantom"])  # trained before there were further conditions
@pytest.mark.parametrize("stage", ["anatomy_diffusion", "motion_diffusion"])
def test_weights_that_ship_say_what_they_said(name, stage):
    prefix = "network.clinical."
    tensors = read_tensors(stage_path(shipped_bundles()[name], stage, ".safetensors"))
    own = {k.removeprefix(prefix): v.float() for k, v in tensors.items() if k.startswith(prefix)}
    embedding = ClinicalEmbedding(len(own["out.1.bias"]))
    embedding.load_state_dict(own)
    assert torch.equal(embedding(encode_priors([PRIOR])), as_before(own, PRIOR))


def test_each_further_condition_is_heard_and_an_unknown_one_is_not():
    torch.manual_seed(0)
    embedding = ClinicalEmbedding(16, TOLD).eval()
    heard = embedding(encode_priors([WHOLE], TOLD))
    for name, other in zip(FURTHER_CONDITIONS, (181.0, 91.0, 141.0, "ge"), strict=True):
        assert not torch.allclose(heard, embedding(encode_priors([replace(WHOLE, **{name: other})], TOLD)))
        unknown = encode_priors([replace(WHOLE, **{name: None})], TOLD)
        assert not torch.allclose(heard, embedding(unknown))
        said = embedding(unknown)
        unknown.values[~unknown.known] = 123.0
        assert torch.equal(said, embedding(unknown))


def test_vendors_are_words_of_a_vocabulary():
    found = encode_priors([replace(PRIOR, vendor=v) for v in ("GE", " siemens", "SIEMENS", "Canon", None)], TOLD)
    assert found.vendor.tolist() == [1, 2, 2, 0, 0]
    assert encode_priors([WHOLE]).vendor.tolist() == [0]  # a model that is told no vendors


def test_there_is_one_null_whatever_a_model_is_told():
    null = encode_priors([WHOLE, PRIOR], TOLD).unconditional()
    for name, field in vars(encode_priors([UNCONDITIONAL] * 2, TOLD)).items():
        assert name == "phase" or torch.equal(getattr(null, name), field)


def test_fields_are_forgotten_independently_at_the_configured_rate():
    rng, count, rate = np.random.default_rng(0), 4000, 0.2
    priors = [drop(WHOLE, rng.random(1 + len(CONDITIONS)).tolist(), 0.0, rate, CONDITIONS) for _ in range(count)]
    forgotten = np.array([[getattr(p, n) == getattr(UNCONDITIONAL, n) for n in CONDITIONS] for p in priors])
    np.testing.assert_allclose(forgotten.mean(axis=0), rate, atol=0.025)
    both = forgotten.T.astype(float) @ forgotten / count
    np.testing.assert_allclose(both[~np.eye(len(CONDITIONS), dtype=bool)], rate**2, atol=0.015)
    assert drop(WHOLE, [0.05] + [0.9] * 8, 0.1, rate, CONDITIONS) == UNCONDITIONAL


def test_a_presets_conditions_hold_the_core_in_one_order():
    names = ["vendor", "rv_edv_ml", "slices", "lv_esv_ml", "lv_edv_ml", "diagnosis"]
    config = load_config("smoke", [f"conditions=[{', '.join(names)}]", "vendors=[GE]"])
    assert config.conditions == ("diagnosis", "lv_edv_ml", "lv_esv_ml", "slices", "rv_edv_ml", "vendor")
    assert ConditionSet.of(config).numbers == ("lv_edv_ml", "lv_esv_ml", "ef_percent", "slices", "rv_edv_ml")
    assert load_config("smoke").conditions == CONDITIONS[:4]
    for override, found in (
        ("conditions=[diagnosis, vendor]", "lv_edv_ml is missing"),
        ("conditions=[age]", "conditions.0"),
        ("vendors=[GE]", "vendor is not among the conditions"),
    ):
        with pytest.raises(ConfigError, match=found):
            load_config("smoke", [override])
