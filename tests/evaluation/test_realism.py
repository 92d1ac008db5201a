"""Realism says yes to people and no to noise, blur and another contrast."""

import numpy as np
import pytest
import torch
from monai.metrics.regression import MultiScaleSSIMMetric

from cinesynth.evaluation import realism
from cinesynth.evaluation.cases import CaseSet
from cinesynth.evaluation.measure import Measured, measure
from cinesynth.evaluation.realism import SCALES, ms_ssim
from cinesynth.evaluation.section import Measurements, Metric, Section
from tests.evaluation.planted import blurred, noisy, pale

QUESTION = realism.section_spec()


@pytest.fixture(scope="module")
def real(train: CaseSet, held_out: CaseSet, synthetic: CaseSet) -> dict[str, tuple[CaseSet, Measured]]:
    """Phantoms of three sets of people, measured."""
    return {s.title: (s, measure(s, QUESTION.measurers, workers=1)) for s in (train, held_out, synthetic)}


def section(generated: tuple[CaseSet, Measured], held_out: str, real: dict[str, tuple[CaseSet, Measured]]) -> Section:
    sets = generated, real["train"], real[held_out]
    return QUESTION.evaluate(Measurements(*(m for _, m in sets), *(s for s, _ in sets)))


def named(found: Section) -> dict[str, Metric]:
    return {m.name: m for m in found.metrics}


@pytest.mark.parametrize("persons", ["test", "synthetic"])
def test_people_pass(persons: str, real: dict[str, tuple[CaseSet, Measured]]) -> None:
    found = section(real[persons], "synthetic" if persons == "test" else "test", real)
    assert {m.name: m.judgement for m in found.metrics if m.judgement in ("warn", "fail")} == {}
    assert found.judgement == "pass"


@pytest.mark.parametrize(
    ("defect", "caught_by"),
    [
        (noisy, ("fd-radiomic", "mmd-radiomic", "precision-radiomic", "power spectrum", "sharpness")),
        (blurred, ("mmd-radiomic", "coverage-radiomic", "mmd-randconv3d-seed0", "power spectrum", "sharpness")),
        (pale, ("fd-radiomic", "mmd-radiomic", "fd-randconv3d-seed0", "fd-randconv3d-seed0-cycle", "grey values")),
    ],
    ids=["noise", "blur", "contrast"],
)
def test_defects_fail(
    defect, caught_by: tuple[str, ...], synthetic: CaseSet, real: dict[str, tuple[CaseSet, Measured]]
) -> None:
    """The good hearts are the held-out people here, and their spoilt selves the generated ones."""
    spoilt = synthetic.changed(defect.__name__ if hasattr(defect, "__name__") else "spoilt", defect)
    found = named(section((spoilt, measure(spoilt, QUESTION.measurers, workers=1)), "synthetic", real))
    for name in caught_by:
        assert found[name].judgement == "fail", name
    sharpness = found["sharpness"].value
    assert sharpness is not None
    assert {noisy: sharpness > 3, blurred: sharpness < -3, pale: abs(sharpness) < 2}[defect]


def test_a_generator_of_one_heart_is_not_varied(synthetic: CaseSet, real: dict[str, tuple[CaseSet, Measured]]) -> None:
    one = real["synthetic"][1].where([0] * 12)
    found = named(section((synthetic, one), "synthetic", real))
    assert found["similarity of pairs"].value == pytest.approx(1.0, abs=1e-4)
    assert found["similarity of pairs"].judgement == "fail"
    assert found["recall-radiomic"].judgement == "fail"


def test_what_cannot_be_measured_says_why(real: dict[str, tuple[CaseSet, Measured]]) -> None:
    found = named(section(real["synthetic"], "test", real))
    assert "no I3D weights" in found["fvd-i3d"].missing
    assert "no weights folder" in found["fd-vae-latent"].missing
    counted = found["mmd-radiomic"]
    assert counted.count == 4
    assert "4 of 12 generated" in counted.detail
    assert counted.low is not None


def test_the_similarity_of_all_pairs_is_that_of_each_pair() -> None:
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.uniform(-1, 1, (5, 64, 64)).astype(np.float32)).cumsum(dim=2).sin()
    metric = MultiScaleSSIMMetric(2, data_range=2.0, kernel_size=7, kernel_sigma=1.5, weights=SCALES)
    i, j = np.triu_indices(5)
    expected = metric(images[i][:, None], images[j][:, None])[:, 0]
    table = ms_ssim(images)
    assert torch.equal(table, table.T)
    torch.testing.assert_close(table[i, j], expected, atol=1e-5, rtol=0.0)
