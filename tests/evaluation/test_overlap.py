"""Overlap and distance of solids whose answer is known."""

import math

import numpy as np
import pytest

from cinesynth.evaluation.surfaces import dice, hd95_mm, overlaps
from cinesynth.types import Label

SPACING = (1.5, 2.0, 10.0)


def cube(*start: int, size: int = 10) -> np.ndarray:
    mask = np.zeros((32, 32, 16), dtype=bool)
    mask[tuple(slice(s, s + size) for s in start)] = True
    return mask


@pytest.mark.parametrize(("shift", "expected_mm"), [((3, 0, 0), 4.5), ((0, 2, 0), 4.0), ((0, 0, 1), 10.0)])
def test_the_distance_of_shifted_cubes_is_the_shift_in_millimetres(shift: tuple[int, ...], expected_mm: float) -> None:
    """A sixth of the surface is as far off as the cube moved: more than the twentieth that may be left out."""
    assert hd95_mm(cube(8, 8, 3), cube(*(8 + shift[0], 8 + shift[1], 3 + shift[2])), SPACING) == expected_mm


def test_equal_solids_do_not_differ_and_stray_voxels_hardly_count() -> None:
    assert hd95_mm(cube(8, 8, 3), cube(8, 8, 3), SPACING) == 0.0
    stray = cube(8, 8, 3)
    stray[31, 31, 15] = True
    assert hd95_mm(cube(8, 8, 3), stray, SPACING) == 0.0
    assert dice(cube(8, 8, 3), stray) == pytest.approx(2000 / 2001)


def test_a_distance_to_nothing_is_not_a_number() -> None:
    assert math.isnan(hd95_mm(cube(8, 8, 3), np.zeros((32, 32, 16), bool), SPACING))


def test_what_nobody_annotated_is_neither_right_nor_wrong() -> None:
    truth = np.where(cube(8, 8, 3), Label.LV, 0)[None].astype(np.uint8)
    said = np.where(cube(10, 8, 3), Label.LV, Label.RV)[None].astype(np.uint8)
    coverage = np.zeros((1, 16, 3), dtype=bool)
    coverage[0, :8, 2] = True  # the LV, on the first slices
    found, distance = overlaps(said, truth, coverage, SPACING)
    assert np.isnan(found[0, :2]).all()
    assert np.isnan(distance[0, :2]).all()
    assert found[0, 2] == pytest.approx(0.8)
    assert distance[0, 2] == 3.0
