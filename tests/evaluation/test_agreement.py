"""Overlap and distance of solids whose answer is known."""

import math

import numpy as np
import pytest

from cinesynth.evaluation.agreement import dice, overlap, surface_distances_mm
from cinesynth.types import Label

SPACING = (1.5, 2.0, 10.0)


def cube(*start: int, size: int = 10) -> np.ndarray:
    mask = np.zeros((32, 32, 16), dtype=bool)
    mask[tuple(slice(s, s + size) for s in start)] = True
    return mask


@pytest.mark.parametrize(("shift", "expected_mm"), [((3, 0, 0), 4.5), ((0, 2, 0), 4.0), ((0, 0, 1), 10.0)])
def test_the_distance_of_shifted_cubes_is_the_shift_in_millimetres(shift: tuple[int, ...], expected_mm: float) -> None:
    """A sixth of the surface is as far off as the cube moved: more than the twentieth that may be left out."""
    assert (
        surface_distances_mm(cube(8, 8, 3), cube(*(8 + s for s in shift[:2]), 3 + shift[2]), SPACING)[0] == expected_mm
    )


def test_equal_solids_do_not_differ_and_stray_voxels_hardly_count() -> None:
    assert surface_distances_mm(cube(8, 8, 3), cube(8, 8, 3), SPACING) == (0.0, 0.0)
    stray = cube(8, 8, 3)
    stray[31, 31, 15] = True
    assert surface_distances_mm(cube(8, 8, 3), stray, SPACING)[0] == 0.0
    assert dice(cube(8, 8, 3), stray) == pytest.approx(2000 / 2001)


@pytest.mark.parametrize("missing", ["predicted", "truth"])
def test_a_missed_structure_is_as_far_off_as_the_annotated_stack_is_long(missing: str) -> None:
    """So no mean improves by it, whichever of the two labels lacks the structure."""
    both = np.where(cube(8, 8, 3), Label.LV, 0) + np.where(cube(19, 8, 3), Label.RV, 0)
    without_lv = np.where(both == Label.LV, 0, both)
    labels = {"predicted": both, "truth": both, missing: without_lv}
    coverage = np.ones((1, 16, 3), dtype=bool)
    coverage[0, 13:, 2] = False
    predicted, truth = (labels[name][None].astype(np.uint8) for name in ("predicted", "truth"))
    found = overlap(predicted, truth, coverage, SPACING)
    width = 21 if missing == "predicted" else 10  # voxels of the box around everything annotated
    corner_to_corner = math.hypot(width * 1.5, 10 * 2.0, 13 * 10.0)
    assert found.dice[0, 2] == 0.0
    assert found.hd95_mm[0, 2] == found.assd_mm[0, 2] == pytest.approx(corner_to_corner)
    assert (found.dice[0, 0], found.hd95_mm[0, 0]) == (1.0, 0.0)


def test_what_nobody_annotated_is_neither_right_nor_wrong() -> None:
    truth = np.where(cube(8, 8, 3), Label.LV, 0)[None].astype(np.uint8)
    said = np.where(cube(10, 8, 3), Label.LV, Label.RV)[None].astype(np.uint8)
    coverage = np.zeros((1, 16, 3), dtype=bool)
    coverage[0, :8, 2] = True  # the LV, on the first slices
    found, distance, _ = overlap(said, truth, coverage, SPACING)
    assert np.isnan(found[0, :2]).all()
    assert np.isnan(distance[0, :2]).all()
    assert found[0, 2] == pytest.approx(0.8)
    assert distance[0, 2] == 3.0
