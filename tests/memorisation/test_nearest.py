"""Distances ignore what a copy may change, and closeness tells a copy from an average heart."""

import numpy as np
import pytest

from cinesynth.memorisation.nearest import REACH_PX, copy_limit, image_distance, mask_distance, nearest


def test_a_shifted_image_is_the_same_image() -> None:
    known = np.random.default_rng(0).uniform(0, 255, (4, 2, 20, 20)).astype(np.float32)
    moved = 0.5 * np.roll(known, (REACH_PX, -REACH_PX), axis=(2, 3)) + 20
    away = image_distance(moved, known)
    np.testing.assert_allclose(np.diag(away), 0, atol=1e-6)
    assert away[~np.eye(4, dtype=bool)].min() > 0.5


def test_mask_distance_is_one_less_dice_and_unknown_where_nothing_was_annotated() -> None:
    masks = np.zeros((3, 1, 4, 4), dtype=np.float32)
    masks[0, 0, 0], masks[1, 0, 0, :2], masks[2] = 1, 1, np.nan
    away = mask_distance(masks, masks)
    assert away[0, 1] == pytest.approx((1 - 2 * 2 / (4 + 2)) / 3)  # MYO and LV, absent in both, agree
    assert np.isnan(away[2]).all()
    assert np.isnan(away[:, 2]).all()


def test_closeness_is_the_nearest_over_the_next_ones() -> None:
    found = nearest(np.array([[0.4, 0.1, 0.6, 0.5], [np.nan, np.nan, 0.2, 0.3]]))
    assert found.place.tolist() == [1, 2]
    assert found.closeness[0] == pytest.approx(0.1 / 0.5)
    assert np.isnan(found.closeness[1])  # one other is no yardstick


def test_twins_among_people_do_not_make_copies_of_all() -> None:
    people = np.random.default_rng(1).normal(0.85, 0.03, 60)
    twins = np.concatenate([people, [1e-9, 1e-9]])
    assert copy_limit(people) == copy_limit(twins) == 0.5
    wide = np.exp(np.random.default_rng(2).normal(-0.4, 0.3, 4000))
    assert copy_limit(wide) == pytest.approx(np.exp(-0.4 - 4 * 0.3), rel=0.1)
