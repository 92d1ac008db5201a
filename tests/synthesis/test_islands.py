"""Crumbs of a mask are taken out, and nothing else is touched."""

import numpy as np
import pytest

from cinesynth.synthesis.islands import without_islands
from cinesynth.types import FloatArray, Label, LabelArray


def logits_of(first: LabelArray, second: LabelArray) -> FloatArray:
    """Logits whose likeliest label is ``first``, and the one after it ``second``."""
    logits = np.zeros((len(Label), *first.shape), dtype=np.float32)
    np.put_along_axis(logits, second[None].astype(int), 1.0, axis=0)
    np.put_along_axis(logits, first[None].astype(int), 2.0, axis=0)
    return logits


@pytest.fixture
def ring() -> LabelArray:
    """An LV of 20 x 20 x 4 voxels in a myocardium three voxels thick."""
    label = np.zeros((64, 64, 6), dtype=np.uint8)
    label[17:43, 17:43, 1:5] = Label.MYO
    label[20:40, 20:40, 1:5] = Label.LV
    return label


def test_a_whole_heart_stays_as_it_is(ring: LabelArray) -> None:
    label, count = without_islands(logits_of(ring, ring))
    assert np.array_equal(label, ring)
    assert count == 0


def test_a_crumb_becomes_what_is_likeliest_after_it(ring: LabelArray) -> None:
    crumbs, after = ring.copy(), ring.copy()
    crumbs[2:4, 2:4, 2] = Label.LV  # in the lung
    crumbs[18, 30, 2] = Label.LV  # in the wall
    after[2:4, 2:4, 2] = Label.BACKGROUND
    label, count = without_islands(logits_of(crumbs, after))
    assert np.array_equal(label, ring)
    assert count == 2


def test_what_a_crumb_becomes_is_no_crumb_either(ring: LabelArray) -> None:
    crumbs, after = ring.copy(), ring.copy()
    crumbs[2:4, 2:4, 2] = Label.LV
    after[2:4, 2:4, 2] = Label.MYO
    label, count = without_islands(logits_of(crumbs, after))
    assert label[2:4, 2:4, 2].tolist() == [[Label.BACKGROUND] * 2] * 2
    assert count == 2


def test_a_part_that_is_no_crumb_stays_for_the_rules_to_see(ring: LabelArray) -> None:
    ring[2:12, 2:12, 2] = Label.LV  # 6 % of the LV
    label, count = without_islands(logits_of(ring, ring))
    assert np.array_equal(label, ring)
    assert count == 0
