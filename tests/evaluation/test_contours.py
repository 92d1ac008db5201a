"""Walls of rings with known thickness and mass; contours that lie on the edges of an image, and shifted ones."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from cinesynth.evaluation.cases import Case, CaseSet
from cinesynth.evaluation.contours import contour, measure_edges, measure_wall, slice_thickness_mm, thickness_mm
from cinesynth.types import Label, LabelArray


def ring(endo_mm: float, epi_mm: float, spacing: tuple[float, float], centre_mm: tuple[float, float]) -> np.ndarray:
    x, y = (np.arange(n) * s - c for n, s, c in zip((120, 110), spacing, centre_mm, strict=True))
    radius = np.hypot(x[:, None], y[None])
    label = np.zeros(radius.shape, np.uint8)
    label[radius < epi_mm] = Label.MYO
    label[radius < endo_mm] = Label.LV
    return label


@pytest.mark.parametrize("wall_mm", [5.0, 9.0, 16.0])
@pytest.mark.parametrize("spacing", [(1.0, 1.0), (2.0, 2.0), (1.0, 1.6)])
def test_the_wall_of_a_ring_is_measured_to_a_tenth_of_a_voxel(wall_mm: float, spacing: tuple[float, float]) -> None:
    found = slice_thickness_mm(ring(22.0, 22.0 + wall_mm, spacing, (56.3, 58.7)), spacing)
    assert found == pytest.approx(wall_mm, abs=0.15 * max(spacing))


def test_an_open_ring_has_no_thickness() -> None:
    label = ring(22.0, 30.0, (1.0, 1.0), (56.0, 58.0))
    label[:56] = 0
    assert math.isnan(slice_thickness_mm(label, (1.0, 1.0)))
    assert math.isnan(thickness_mm(np.zeros((20, 20, 6), np.uint8), (1.0, 1.0, 10.0)))


def test_mass_is_that_of_the_voxels_and_a_wall_that_keeps_its_volume_does_not_vary(train: CaseSet) -> None:
    case = train[0]
    found = measure_wall(case)
    voxels = (case.label[case.ed] == Label.MYO).sum()
    assert found["mass_g"][0] == pytest.approx(1.05 * voxels * 0.09, rel=1e-5)  # 3 x 3 x 10 mm
    still = replace(case, label=np.repeat(case.label[:1], len(case.label), axis=0))
    assert measure_wall(still)["variation_percent"] == pytest.approx(0.0, abs=1e-6)
    assert measure_wall(still)["es_over_ed"] == 1.0


def test_a_dilated_wall_is_thicker_and_heavier(train: CaseSet) -> None:
    case = train[0]
    thick = measure_wall(thickened(case))
    assert thick["thickness_mm"][0] > measure_wall(case)["thickness_mm"][0] + 4.0  # a voxel of 3 mm on either side
    assert thick["mass_g"][0] > 1.3 * measure_wall(case)["mass_g"][0]


def thickened(case: Case) -> Case:
    """The wall grown by a voxel into everything around it."""
    myo = case.label == Label.MYO
    for axis in (1, 2):
        myo = myo | np.roll(myo, 1, axis) | np.roll(myo, -1, axis)
    return replace(case, label=np.where(myo, np.uint8(Label.MYO), case.label))


def test_a_wall_that_nobody_annotated_is_unknown(train: CaseSet) -> None:
    case = train[0]
    coverage = case.coverage.copy()
    coverage[case.es, :, 1] = False
    found = measure_wall(replace(case, coverage=coverage))
    assert math.isnan(found["mass_g"][1])
    assert math.isnan(found["thickness_mm"][1])
    assert math.isnan(found["es_over_ed"])
    assert math.isnan(found["variation_percent"])
    assert found["mass_g"][0] > 0


# --- Edges -----------------------------------------------------------------------------------------------------------


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
