"""Real hearts pass, hearts with shifted masks or other walls do not."""

from dataclasses import replace

import numpy as np
import pytest

from cinesynth.evaluation.anatomy import measure_rules, section_spec
from cinesynth.evaluation.cases import Case, CaseSet
from cinesynth.evaluation.control import section_spec as control
from cinesynth.evaluation.section import Metric, Section
from cinesynth.evaluation.segmenter import Segmenter
from cinesynth.types import Label
from tests.evaluation.answers import answer
from tests.evaluation.test_contours import thickened


def metrics(result: Section) -> dict[str, Metric]:
    return {m.name: m for m in result.metrics}


def shifted(case: Case) -> Case:
    """The label two or three voxels off in the plane, another way in each heart."""
    x, y = [(2, 0), (0, -3), (-2, 2), (3, 0)][int(case.name[-2:]) % 4]
    return replace(case, label=np.roll(case.label, (x, y), axis=(1, 2)))


def torn(case: Case) -> Case:
    """Half of the wall away, as of a heart that was not closed."""
    label = case.label.copy()
    label[:, : label.shape[1] // 2][label[:, : label.shape[1] // 2] == Label.MYO] = 0
    return replace(case, label=label)


def breathing(case: Case) -> Case:
    """Myocardium that comes and goes over the cycle."""
    label = case.label.copy()
    thick = thickened(case).label
    label[1::2] = thick[1::2]
    return replace(case, label=label)


def test_held_out_people_are_hearts(segmenter: Segmenter, train: CaseSet, held_out: CaseSet) -> None:
    result = answer(section_spec(segmenter), held_out, train, held_out)
    assert result.judgement == "pass"
    found = metrics(result)
    assert found["accepted at ED"].value == 1.0
    assert found["accepted over the cycle"].value >= 0.75  # at ES one phantom's LV is in a slice its wall has left
    assert found["edge ratio"].value == pytest.approx(found["edge ratio"].floor)
    assert len(result.figures) == 2


def test_good_hearts_of_other_people_do_not_fail(
    segmenter: Segmenter, synthetic: CaseSet, train: CaseSet, held_out: CaseSet
) -> None:
    result = answer(section_spec(segmenter), synthetic, train, held_out)
    assert result.judgement in ("pass", "warn")
    assert metrics(result)["wall thickness at ED, distance"].judgement == "pass"


def test_a_shifter_of_masks_is_caught_without_and_with_a_segmenter(
    segmenter: Segmenter, synthetic: CaseSet, train: CaseSet, held_out: CaseSet
) -> None:
    result = answer(section_spec(None), synthetic.changed("shifted", shifted), train, held_out)
    found = metrics(result)
    assert found["edge ratio"].judgement == "fail"
    assert found["edge offset"].judgement == "fail"
    assert found["edge offset"].value == pytest.approx(8.0, abs=2.5)  # 6 to 9 mm
    assert found["wall thickness at ED, distance"].judgement == "pass"  # walls are as they were
    assert "no segmenter" in found["Dice of image and mask"].missing
    result = answer(section_spec(segmenter), synthetic.changed("shifted", shifted), train, held_out)
    assert metrics(result)["Dice of image and mask, LV at ED"].judgement == "fail"


def test_torn_and_breathing_walls_are_caught(synthetic: CaseSet, train: CaseSet, held_out: CaseSet) -> None:
    torn_hearts = metrics(answer(section_spec(None), synthetic.changed("torn", torn), train, held_out))
    assert torn_hearts["accepted at ED"].judgement == "fail"
    assert torn_hearts["accepted at ED"].value < 0.2
    changing = metrics(answer(section_spec(None), synthetic.changed("breathing", breathing), train, held_out))
    assert changing["myocardial volume over the cycle, SD / mean"].judgement == "fail"
    assert changing["myocardial volume over the cycle, SD / mean"].value > 20


def test_thick_walls_are_unlike_real_ones(synthetic: CaseSet, train: CaseSet, held_out: CaseSet) -> None:
    found = metrics(answer(section_spec(None), synthetic.changed("thick", thickened), train, held_out))
    for name in ("wall thickness at ED, distance", "myocardial mass at ED, distance"):
        assert found[name].judgement == "fail"
        assert found[name].value > 3 * found[name].floor
        assert found[name].count == len(held_out)


def test_rules_that_need_what_nobody_annotated_are_not_asked(train: CaseSet) -> None:
    case = train[0]
    assert np.isfinite(measure_rules(case)["cycle"]).all()
    coverage = case.coverage.copy()
    coverage[case.es, :, 1] = False
    partial = measure_rules(replace(case, coverage=coverage))
    assert np.isfinite(partial["ed"]).all()
    assert np.isnan(partial["cycle"]).all()


def test_images_that_show_other_volumes_are_caught_by_the_segmenter(
    segmenter: Segmenter, synthetic: CaseSet, held_out: CaseSet
) -> None:
    """Masks that are as asked, on images of somebody else: control by the masks alone would pass."""

    def swapped(case: Case) -> Case:
        other = synthetic[(synthetic.names.index(case.name) + 5) % len(synthetic)].image
        depth = min(other.shape[-1], case.image.shape[-1])
        image = np.zeros_like(case.image)
        image[..., :depth] = other[..., :depth]
        return replace(case, image=image)

    found = metrics(answer(control(segmenter), synthetic.changed("swapped", swapped), held_out, held_out))
    assert found["MAE EDV, masks"].judgement == "pass"
    assert found["r EDV, images"].judgement in ("warn", "fail")  # twelve hearts: chance may reach 0.8
    good = metrics(answer(control(segmenter), synthetic, held_out, held_out))
    assert good["r EDV, images"].judgement == "pass"
    assert 2 * good["MAE EDV, images"].value < found["MAE EDV, images"].value
    assert good["MAE EDV, images"].floor > 0
