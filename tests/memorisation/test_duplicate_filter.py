"""A filter decides which anatomies may be kept at all, and fingerprints recognise a copy by few numbers."""

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from cinesynth.errors import InputError, OutputError
from cinesynth.memorisation.duplicate_filter import MIN_SUBJECTS, NUMBERS, DuplicateFilter, Fingerprints, _signs
from cinesynth.memorisation.nearest import REACH_PX, Stack, image_distance, nearest
from cinesynth.memorisation.thumbnails import HEIGHTS, PIXELS
from cinesynth.synthesis.cohort import generate_cohort
from cinesynth.synthesis.pipeline import CinePipeline
from cinesynth.synthesis.request import Request
from cinesynth.types import ClinicalPrior, Diagnosis, FloatArray, LabelArray

PRIOR = ClinicalPrior(Diagnosis.NOR, 130.0, 50.0, 7)


def with_screen(pipe: CinePipeline, screen: DuplicateFilter) -> CinePipeline:
    return CinePipeline(pipe.bundle, "cpu", screen)


def test_a_refused_anatomy_is_drawn_again_and_never_kept(pipe: CinePipeline) -> None:
    plain = pipe(PRIOR, frames=3, seed=5, max_attempts=1, match_volumes=False)
    seen: list[FloatArray] = []

    def reject_reason(image: FloatArray, label: LabelArray) -> str:
        assert image.shape == label.shape == plain.label.shape[1:]
        seen.append(image)
        return "too well known" if np.array_equal(image, plain.image[0]) else ""

    cine = with_screen(pipe, DuplicateFilter("a test", reject_reason))(
        PRIOR, frames=3, seed=5, max_attempts=2, match_volumes=False
    )
    assert [np.array_equal(image, plain.image[0]) for image in seen] == [True, False, False]  # a refusal is no try
    assert any(np.array_equal(cine.image[0], image) for image in seen[1:])
    assert cine.provenance["duplicate_filters"] == "a test"
    assert cine.provenance["acceptance"]["anatomy"]["near_duplicates"] == 1
    assert "duplicate_filters" not in plain.provenance


def test_where_every_draw_is_refused_there_is_no_case(pipe: CinePipeline, tmp_path: Path) -> None:
    nothing = with_screen(pipe, DuplicateFilter("strict", lambda *_: "a near-copy"))
    with pytest.raises(InputError, match="all 9 candidates were rejected: a near-copy") as error:
        generate_cohort(nothing, [Request(PRIOR, seed=1, frames=3, max_attempts=2)], tmp_path, pictures=False)
    assert "another seed" in error.value.hint
    assert not (tmp_path / "case_0000").exists()


def test_a_cohort_does_not_go_on_with_unscreened_cases(pipe: CinePipeline, tmp_path: Path) -> None:
    requests = [Request(PRIOR, seed=1, frames=3, max_attempts=1)]
    generate_cohort(pipe, requests, tmp_path, pictures=False)
    lenient = with_screen(pipe, DuplicateFilter("lenient", lambda *_: ""))
    with pytest.raises(OutputError, match="holds another case: another training index"):
        generate_cohort(lenient, requests, tmp_path, pictures=False)


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
        assert known.closeness(copy.astype(np.float32)) < known.limit


def test_others_are_no_copies(known: Fingerprints) -> None:
    others = [known.closeness(other) for other in thumbnails(40, 2)]
    assert min(others) > known.limit
    assert 0.7 < np.median(others) <= 1.0


def test_a_person_with_something_of_another_is_a_copy(people: Stack, known: Fingerprints) -> None:
    mixed = 0.6 * people[:20] + 0.4 * people[20:]
    assert nearest(image_distance(mixed, people)).closeness.max() < 0.3  # by whole thumbnails
    assert all(known.closeness(heart) < known.limit for heart in mixed)


def test_a_fingerprint_is_a_few_bytes_that_stay_the_same(known: Fingerprints) -> None:
    assert known.numbers.shape == (40, NUMBERS)
    assert known.numbers.dtype == np.int8
    signs = _signs()
    assert signs.shape == (7220, 256)
    assert signs[0, :16].tolist() == [-1, 1, -1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1, 1, -1]


def test_of_few_people_there_are_none(people: Stack) -> None:
    assert Fingerprints.of(people[: MIN_SUBJECTS - 1]) is None
