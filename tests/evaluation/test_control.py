"""Requested against achieved, on pairs whose agreement is known."""

from dataclasses import replace

import numpy as np
import pytest

from cinesynth.data.packed import PackedDataset
from cinesynth.evaluation.agreement import RequestedPair, agree, agreement, dice, r_interval
from cinesynth.evaluation.cases import Case, CaseSet
from cinesynth.evaluation.control import section_spec
from cinesynth.evaluation.generation import prior_of, requests_of
from cinesynth.evaluation.reconstruction import mean_ssim
from cinesynth.evaluation.section import Metric, Section
from cinesynth.models.conditioning import ConditionSet
from cinesynth.types import CONDITIONS, STRUCTURES, Diagnosis, Label
from cinesynth.weights.prior_fit import fit
from tests.evaluation.answers import answer


def test_a_constant_offset_is_bias_not_disagreement() -> None:
    (result,) = agree([RequestedPair("EDV mL", v, v + 10.0) for v in (80.0, 120.0, 200.0, 260.0)])
    assert result.r == pytest.approx(1.0)
    assert result.slope == pytest.approx(1.0)
    assert result.bias == pytest.approx(10.0)
    assert result.mae == pytest.approx(10.0)
    assert result.count == 4


def test_hearts_that_ignore_the_request_do_not_correlate() -> None:
    rng = np.random.default_rng(0)
    pairs = [RequestedPair("EDV mL", float(a), float(b)) for a, b in rng.normal(150, 40, (400, 2))]
    (result,) = agree(pairs)
    assert abs(result.r) < 0.15
    assert result.mae > 30


def test_a_correlation_that_does_not_exist_is_not_a_number() -> None:
    (result,) = agree(
        [RequestedPair("EF %", 50.0, 40.0), RequestedPair("EF %", 50.0, 60.0), RequestedPair("EF %", 50.0, 55.0)]
    )
    assert result.r is None
    assert result.slope is None


def test_dice_and_ssim_of_known_overlap() -> None:
    a, b = np.zeros((8, 8), bool), np.zeros((8, 8), bool)
    a[:4], b[2:6] = True, True
    assert dice(a, b) == pytest.approx(0.5)
    image = np.random.default_rng(0).uniform(-1, 1, (32, 32, 3)).astype(np.float32)
    assert mean_ssim(image, image) == pytest.approx(1.0)
    assert mean_ssim(image, image[::-1].copy()) < 0.3


def test_limits_of_agreement_are_those_of_bland_and_altman() -> None:
    asked = np.array([100.0, 120.0, 140.0, 160.0])
    result = agreement("EDV", asked, asked + np.array([2.0, -2.0, 4.0, 0.0]))
    sd = float(np.std([2.0, -2.0, 4.0, 0.0], ddof=1))
    assert result.bias == pytest.approx(1.0)
    assert (result.low, result.high) == (pytest.approx(1.0 - 1.96 * sd), pytest.approx(1.0 + 1.96 * sd))


def test_the_interval_of_a_correlation_holds_it() -> None:
    rng = np.random.default_rng(0)
    asked = rng.normal(150, 40, 60)
    low, high = r_interval(asked, asked + rng.normal(0, 30, 60))
    assert low < 0.8 < high
    assert high - low < 0.3
    assert r_interval(np.ones(5), np.arange(5.0)) is None


def section(synthetic: CaseSet, train: CaseSet, held_out: CaseSet) -> Section:
    return answer(section_spec(None), synthetic, train, held_out)


def values(result: Section, prefix: str) -> dict[str, Metric]:
    return {m.name: m for m in result.metrics if m.name.startswith(prefix)}


def test_hearts_that_are_what_was_asked_pass(synthetic: CaseSet, train: CaseSet, held_out: CaseSet) -> None:
    result = section(synthetic, train, held_out)
    assert result.judgement == "pass"
    for measure in values(result, "MAE").values():
        assert measure.value == pytest.approx(0.0, abs=1e-3)
        assert measure.count == 12
    assert all(m.value == pytest.approx(1.0) for m in values(result, "r ").values() if m.value is not None)
    unseen = values(result, "r EDV, images")["r EDV, images"]
    assert "no segmenter" in unseen.missing
    assert {p.png[:4] for p in result.figures} == {b"\x89PNG"}


def test_hearts_that_were_asked_to_be_others_fail(synthetic: CaseSet, train: CaseSet, held_out: CaseSet) -> None:
    """Requests dealt out anew: everyone gets somebody else's heart."""
    asked = [case.requested for case in synthetic]

    def dealt(case: Case) -> Case:
        return replace(case, requested=asked[(synthetic.names.index(case.name) + 5) % len(asked)])

    result = section(synthetic.changed("dealt", dealt), train, held_out)
    assert result.judgement == "fail"
    assert values(result, "MAE EDV, masks")["MAE EDV, masks"].judgement == "fail"


def test_a_late_end_systole_is_told(synthetic: CaseSet, train: CaseSet, held_out: CaseSet) -> None:
    late = synthetic.changed("late", lambda case: replace(case, es=case.es + 3))
    result = values(section(late, train, held_out), "MAE ES index")["MAE ES index, masks"]
    assert result.value == pytest.approx(3.0)
    assert result.judgement == "fail"


def test_diagnoses_are_counted_and_few_are_not_correlated(
    synthetic: CaseSet, train: CaseSet, held_out: CaseSet
) -> None:
    listing = section(synthetic, train, held_out).tables[1]
    edv = [row for row in listing.rows if row[2] == "EDV"]
    assert sum(row[3] for row in edv) == 12
    for row in edv:
        assert (row[4] is None) == (row[3] < 5)


def asked_for_the_rest(case: Case, factor: float) -> Case:
    """RV volumes and mass asked for, ``factor`` of what the heart has."""
    assert case.requested is not None
    rv, myo = case.volumes_ml(Label.RV), case.volumes_ml(Label.MYO)
    volumes = {"rv_edv_ml": factor * float(rv[case.ed]), "rv_esv_ml": factor * float(rv[case.es])}
    return replace(case, requested=replace(case.requested, **volumes, myo_mass_g=factor * 1.05 * float(myo[case.ed])))


def test_the_rv_and_the_mass_are_judged_where_they_were_asked_for(
    synthetic: CaseSet, train: CaseSet, held_out: CaseSet
) -> None:
    further = [f"MAE {name}, masks" for name in ("RV EDV", "RV ESV", "mass")]
    silent = section(synthetic, train, held_out)
    assert not values(silent, "MAE").keys() & set(further)
    met = section(synthetic.changed("met", lambda c: asked_for_the_rest(c, 1.0)), train, held_out)
    assert met.judgement == "pass"
    assert all(values(met, "MAE")[name].value == pytest.approx(0.0, abs=1e-3) for name in further)
    assert values(met, "r RV EDV, masks")["r RV EDV, masks"].value == pytest.approx(1.0)
    missed = section(synthetic.changed("missed", lambda c: asked_for_the_rest(c, 1.6)), train, held_out)
    assert [values(missed, "MAE")[name].judgement for name in further] == ["fail"] * 3


def test_people_are_asked_for_as_they_were_measured(packed: PackedDataset) -> None:
    condition_set = ConditionSet(CONDITIONS, (packed.records[0].vendor,))
    record, prior, voxel_ml = packed.records[0], prior_of(packed, 0, condition_set), packed.grid.voxel_ml
    assert prior is not None
    counted = (packed.label(0, record.ed) == int(Label.RV)).sum() * voxel_ml
    assert prior.rv_edv_ml == pytest.approx(counted, rel=1e-5)
    assert prior.myo_mass_g == pytest.approx(1.05 * (packed.label(0, record.ed) == 2).sum() * voxel_ml, rel=1e-5)
    assert prior.vendor == record.vendor
    core = prior_of(packed, 0)
    assert core is not None
    assert core == replace(prior, rv_edv_ml=None, rv_esv_ml=None, myo_mass_g=None, vendor=None)
    assert requests_of(packed, 2, 0)[0].prior == core  # weights of the core are asked for the core
    others = fit([replace(r, diagnosis=Diagnosis.MINF) for r in packed.records if r.split == "train"])
    asked = requests_of(packed, 1, 0, empirical=others)[0].prior  # no training subject had this diagnosis
    assert asked == replace(core, diagnosis=Diagnosis.UNKNOWN)


def test_what_nobody_annotated_is_not_asked_for(packed: PackedDataset) -> None:
    record = packed.records[0]
    coverage = record.coverage.copy()
    coverage[..., STRUCTURES.index(Label.RV)] = False
    data = packed.where([True] + [False] * (len(packed) - 1))
    data.records[0] = replace(record, coverage=coverage)
    prior = prior_of(data, 0, ConditionSet(CONDITIONS))
    assert prior is not None
    assert prior.rv_edv_ml is prior.rv_esv_ml is prior.vendor is None
    assert prior.myo_mass_g is not None
