"""Requested against achieved, on pairs whose agreement is known."""

from dataclasses import replace

import numpy as np
import pytest

from cinesynth.evaluation.agreement import Pair, agree, agreement, r_interval
from cinesynth.evaluation.cases import Case, CaseSet
from cinesynth.evaluation.codec import dice, mean_ssim
from cinesynth.evaluation.control import question
from cinesynth.evaluation.section import Measure, Section
from tests.evaluation.answers import answer


def test_a_constant_offset_is_bias_not_disagreement() -> None:
    (result,) = agree([Pair("EDV mL", v, v + 10.0) for v in (80.0, 120.0, 200.0, 260.0)])
    assert result.r == pytest.approx(1.0)
    assert result.slope == pytest.approx(1.0)
    assert result.bias == pytest.approx(10.0)
    assert result.mae == pytest.approx(10.0)
    assert result.count == 4


def test_hearts_that_ignore_the_request_do_not_correlate() -> None:
    rng = np.random.default_rng(0)
    pairs = [Pair("EDV mL", float(a), float(b)) for a, b in rng.normal(150, 40, (400, 2))]
    (result,) = agree(pairs)
    assert abs(result.r) < 0.15
    assert result.mae > 30


def test_a_correlation_that_does_not_exist_is_not_a_number() -> None:
    (result,) = agree([Pair("EF %", 50.0, 40.0), Pair("EF %", 50.0, 60.0), Pair("EF %", 50.0, 55.0)])
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
    return answer(question(None), synthetic, train, held_out)


def values(result: Section, prefix: str) -> dict[str, Measure]:
    return {m.name: m for m in result.measures if m.name.startswith(prefix)}


def test_hearts_that_are_what_was_asked_pass(synthetic: CaseSet, train: CaseSet, held_out: CaseSet) -> None:
    result = section(synthetic, train, held_out)
    assert result.judgement == "pass"
    for measure in values(result, "MAE").values():
        assert measure.value == pytest.approx(0.0, abs=1e-3)
        assert measure.count == 12
    assert all(m.value == pytest.approx(1.0) for m in values(result, "r ").values() if m.value is not None)
    unseen = values(result, "r EDV, images")["r EDV, images"]
    assert "no segmenter" in unseen.missing
    assert {p.png[:4] for p in result.pictures} == {b"\x89PNG"}


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
    listing = section(synthetic, train, held_out).listings[1]
    edv = [row for row in listing.rows if row[2] == "EDV"]
    assert sum(row[3] for row in edv) == 12
    for row in edv:
        assert (row[4] is None) == (row[3] < 5)
