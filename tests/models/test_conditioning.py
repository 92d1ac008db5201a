"""Conditions: unknown is a token, EF is derived, and there is one way to say nothing."""

import pytest
import torch

from cinesynth.errors import InputError
from cinesynth.models.conditioning import ClinicalEmbedding, drop, encode_priors
from cinesynth.types import UNCONDITIONAL, ClinicalPrior, Diagnosis

PRIOR = ClinicalPrior.from_ef(Diagnosis.DCM, 280.0, 25.0, 10)


@pytest.fixture
def embedding():
    torch.manual_seed(0)
    return ClinicalEmbedding(16).eval()


def test_guidance_and_dropout_use_the_same_null(embedding):
    """Defect 1: what training drops to is bit for bit what generation calls unconditional."""
    dropped = drop(PRIOR, [0.0, 0.9, 0.9, 0.9, 0.9], case=0.1, field=0.0)
    assert dropped == UNCONDITIONAL
    trained, guided = encode_priors([dropped]), encode_priors([PRIOR]).unconditional()
    assert torch.equal(embedding(trained), embedding(guided))
    assert not torch.equal(embedding(trained), embedding(encode_priors([PRIOR])))


def test_dropout_is_per_case():
    kept = drop(PRIOR, [0.5, 0.9, 0.9, 0.9, 0.9], case=0.1, field=0.1)
    assert kept == PRIOR
    without_edv = drop(PRIOR, [0.5, 0.9, 0.05, 0.9, 0.9], case=0.1, field=0.1)
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
