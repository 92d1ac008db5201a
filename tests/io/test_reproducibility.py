"""Seeds are part of every result: they may not change from one version to the next."""

from cinesynth.io.reproducibility import case_seed, derive, is_short_seed, noise, shuffle_key, stream, uniform


def test_seeds_of_today() -> None:
    assert derive(0, "slices") == 291988347088984644
    assert derive(7, "é", 3) == 2795841544262640938
    assert case_seed(3, 9) == 848778099124797485
    assert stream(3, "a", 4).initial_seed() == 1922320736269497209
    assert uniform(stream(3, "a", 4)) == 0.28577733039855957
    assert shuffle_key("0:patient001").startswith("2faae6bd7057")


def test_noise_depends_on_seed_purpose_and_attempt_alone() -> None:
    first = noise(1, "anatomy", 0, (3, 4))
    assert (first == noise(1, "anatomy", 0, (3, 4))).all()
    for other in (noise(2, "anatomy", 0, (3, 4)), noise(1, "motion", 0, (3, 4)), noise(1, "anatomy", 1, (3, 4))):
        assert (first != other).all()


def test_no_two_cases_of_a_large_cohort_share_a_seed() -> None:
    """With 31 bits, four pairs of these did."""
    seeds = [case_seed(1, case) for case in range(100_000)]
    assert len(set(seeds)) == 100_000
    assert 0 <= min(seeds) <= max(seeds) < 2**63  # an integer of 64 bits in tables, and a seed that requests take


def test_a_seed_of_earlier_versions_is_told_from_others() -> None:
    assert is_short_seed(197621551, of=case_seed(3, 9))
    assert not is_short_seed(197621551, of=case_seed(3, 8))
