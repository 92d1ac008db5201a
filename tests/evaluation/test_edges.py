"""A mask belongs to its image where its contour lies on the edges."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from cinesynth.evaluation.cases import Case, CaseSet
from cinesynth.evaluation.contours import contour, measure_edges
from cinesynth.types import LabelArray


def shifted(case: Case, x: int, y: int) -> Case:
    label: LabelArray = np.roll(case.label, (x, y), axis=(1, 2))
    return replace(case, label=label)


def test_the_contour_of_a_box_is_its_faces() -> None:
    mask = np.zeros((10, 10, 2), bool)
    mask[3:6, 4:6, 0] = True
    points = contour(mask)
    assert points.shape == (3, 2 * 2 + 2 * 3)
    assert set(points[0][points[0] % 1 == 0.5]) == {2.5, 5.5}
    assert set(points[1][points[1] % 1 == 0.5]) == {3.5, 5.5}


@pytest.mark.parametrize("shift", [(2, 0), (0, -2), (2, 1)])
def test_a_shifted_mask_loses_its_edges_and_the_shift_is_found(train: CaseSet, shift: tuple[int, int]) -> None:
    case = train[0]
    right, wrong = measure_edges(case), measure_edges(shifted(case, *shift))
    assert right["ratio"] > 1.2
    assert right["offset_mm"] <= 1.5  # half a voxel
    assert wrong["ratio"] < 0.8 * right["ratio"]
    assert wrong["offset_mm"] == pytest.approx(3.0 * np.hypot(*shift), abs=2.0)


def test_the_ratio_knows_no_scale_but_blur_lowers_it(train: CaseSet) -> None:
    case = train[0]
    faint = replace(case, image=(case.image // 2).astype(np.uint8))
    blurred = replace(case, image=ndimage.gaussian_filter(case.image, (0, 2, 2, 0)))
    sharp = measure_edges(case)["ratio"]
    assert measure_edges(faint)["ratio"] == pytest.approx(sharp, rel=0.02)
    assert measure_edges(blurred)["ratio"] < 0.95 * sharp


def test_without_an_lv_there_is_no_edge_to_meet(train: CaseSet) -> None:
    case = replace(train[0], label=np.zeros_like(train[0].label))
    assert np.isnan(list(measure_edges(case).values())).all()
