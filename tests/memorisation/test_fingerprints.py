"""Fingerprints know a near-copy of a training subject, and nobody else."""

import numpy as np
import pytest
from scipy import ndimage

from cinesynth.memorisation.fingerprints import MIN_SUBJECTS, NUMBERS, Fingerprints, _signs
from cinesynth.memorisation.nearest import REACH_PX, Stack, image_distance, nearest
from cinesynth.memorisation.thumbnails import HEIGHTS, PIXELS


def thumbnails(count: int, seed: int) -> Stack:
    """Blurred noise around what all have in common, as people's thumbnails are: about .5 to .7 correlated."""
    common = np.random.default_rng(99).normal(size=(len(HEIGHTS), PIXELS, PIXELS))
    own = np.random.default_rng(seed).normal(size=(count, len(HEIGHTS), PIXELS, PIXELS))
    blurred = ndimage.gaussian_filter(common + 0.8 * own, (0, 0, 2, 2))
    return np.asarray(128 + 40 * blurred / blurred.std(), dtype=np.float32)


@pytest.fixture(scope="module")
def people() -> Stack:
    return thumbnails(40, 0)


@pytest.fixture(scope="module")
def known(people: Stack) -> Fingerprints:
    found = Fingerprints.of(people)
    assert found is not None
    return found


def test_copies_are_known_though_moved_darker_and_noisy(people: Stack, known: Fingerprints) -> None:
    rng = np.random.default_rng(1)
    for person in people[:10]:
        moved = np.roll(person, (REACH_PX, -1), axis=(1, 2))
        copy = 0.6 * moved + 10 + rng.normal(0, 8, person.shape)
        assert known.is_near_duplicate(copy.astype(np.float32))


def test_others_are_no_copies(known: Fingerprints) -> None:
    others = [known.closeness(other) for other in thumbnails(40, 2)]
    assert min(others) > known.limit
    assert 0.7 < np.median(others) <= 1.0


def test_a_person_with_something_of_another_is_a_copy(people: Stack, known: Fingerprints) -> None:
    mixed = 0.6 * people[:20] + 0.4 * people[20:]
    assert nearest(image_distance(mixed, people)).closeness.max() < 0.3  # by whole thumbnails
    assert all(known.is_near_duplicate(heart) for heart in mixed)


def test_a_fingerprint_is_a_few_bytes_that_stay_the_same(known: Fingerprints) -> None:
    assert known.numbers.shape == (40, NUMBERS)
    assert known.numbers.dtype == np.int8
    signs = _signs()
    assert signs.shape == (7220, 256)
    assert signs[0, :16].tolist() == [-1, 1, -1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1, 1, -1]


def test_of_few_people_there_are_none(people: Stack) -> None:
    assert Fingerprints.of(people[: MIN_SUBJECTS - 1]) is None
