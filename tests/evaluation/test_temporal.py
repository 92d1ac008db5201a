"""Numbers of motion have the values of closed forms, and every planted fault of motion is seen."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cinesynth.data.geometry import Grid
from cinesynth.data.ingest import ingest
from cinesynth.data.packed import prepare
from cinesynth.evaluation.cases import Case, CaseSet, patients
from cinesynth.evaluation.measure import Measured, measure
from cinesynth.evaluation.motion import MOTION, PHASES, measure_motion, of_curve
from cinesynth.evaluation.section import Measurements, Metric, Section
from cinesynth.evaluation.temporal import MOTION_LIMITS, MotionLimit, section_spec
from tests.evaluation.conftest import noisy, shuffled
from tests.real_subjects import table

BY_QUANTITY = {limit.quantity: limit for limit in MOTION_LIMITS}


def cosine_beat(frames: int = 30, ef: float = 0.6) -> np.ndarray:
    """EDV 100 mL at frame 0, ESV at half of the cycle."""
    return 100 * (1 - ef / 2 * (1 - np.cos(2 * np.pi * np.arange(frames) / frames)))


def test_a_cosine_beat_has_the_rates_of_a_cosine() -> None:
    found = of_curve(cosine_beat(), es=15, frame_time_ms=30.0)
    rate = 0.3 * 2 * np.sin(np.pi / 30) * np.sin(np.pi / 2) / 0.03  # steepest difference of two frames, EDV/s
    assert found["ejection"] == pytest.approx(rate, rel=0.01)
    assert found["filling"] == pytest.approx(rate, rel=0.01)
    assert found["roughness"] == pytest.approx(2 * np.sin(np.pi / 30), rel=1e-2)
    assert (found["minima"], found["es_shift"], found["systole"], found["above_ed"]) == (1, 0, 0.5, 0)


def test_rates_are_unknown_without_a_frame_time() -> None:
    found = of_curve(cosine_beat(), es=15, frame_time_ms=None)
    assert np.isnan(found["ejection"])
    assert found["minima"] == 1


def test_every_dip_of_a_tenth_of_the_stroke_is_a_minimum() -> None:
    beat = cosine_beat()
    ripple = 0.5 * np.cos(2 * np.pi * np.arange(30) / 3)
    assert of_curve(beat + ripple, 15, None)["minima"] == 1
    twice = of_curve(100 - 30 * (1 - np.cos(4 * np.pi * np.arange(30) / 30)), 15, None)
    assert twice["minima"] == 2
    assert of_curve(np.full(30, 100.0), 15, None)["minima"] == 0  # a heart that stands still


def test_declared_and_measured_es_are_told_apart() -> None:
    assert of_curve(cosine_beat(), es=9, frame_time_ms=None)["es_shift"] == pytest.approx(0.2)


def test_frames_without_order_have_the_roughness_of_white_noise() -> None:
    rng = np.random.default_rng(0)
    found = of_curve(100 + rng.normal(size=20000), es=1, frame_time_ms=None)
    assert found["roughness"] == pytest.approx(np.sqrt(3), rel=0.02)


def test_phantoms_keep_every_limit(synthetic: CaseSet) -> None:
    for case in synthetic:
        found = measure_motion(case)
        kept = {name: float(found[name]) for name, limit in BY_QUANTITY.items() if broken(limit, found[name])}
        assert not kept, case.name


def broken(limit: MotionLimit, value: object) -> bool:
    return bool(limit.outside(np.array([value], dtype=np.float64))[0])


def still(case: Case) -> Case:
    return replace(case, image=np.repeat(case.image[:1], len(case.image), 0), label=case.label)


def drifting(case: Case) -> Case:
    """Brighter and brighter, so that the last frame does not lead to the first."""
    rise = np.linspace(0, 60, len(case.image))[:, None, None, None]
    return replace(case, image=np.clip(case.image * 0.7 + rise, 0, 255).astype(np.uint8))


def flickering(case: Case) -> Case:
    gain = 1 + 0.1 * (-1.0) ** np.arange(len(case.image))[:, None, None, None]
    return replace(case, image=np.clip(case.image * gain * 0.8, 0, 255).astype(np.uint8))


def late(case: Case) -> Case:
    """The masks are half a cycle behind what the case says of them."""
    return replace(case, label=np.roll(case.label, len(case.label) // 2, axis=0))


@pytest.mark.parametrize(
    ("quantity", "change"),
    [
        ("roughness", lambda case: shuffled(case, 1)),
        ("consecutive_change", lambda case: shuffled(case, 1)),
        ("closure", drifting),
        ("flicker", flickering),
        ("background_temporal_sd", lambda case: noisy(case, 1, 40.0)),
        ("es_shift", late),
        ("above_ed", late),
        ("ejection", lambda case: replace(case, frame_time_ms=case.frame_time_ms / 10)),
        ("filling", lambda case: replace(case, frame_time_ms=case.frame_time_ms / 10)),
        ("minima", lambda case: replace(case, label=np.repeat(case.label[:1], len(case.label), 0))),
        ("systole", lambda case: replace(case, label=np.roll(case.label[::-1], 1, 0))),
    ],
)
def test_every_limit_is_broken_by_its_fault(synthetic: CaseSet, quantity: str, change: Callable[[Case], Case]) -> None:
    limit, cases = BY_QUANTITY[quantity], list(synthetic)[:4]
    seen = [broken(limit, measure_motion(change(case))[quantity]) for case in cases]
    assert np.mean(seen) > 0.5, [measure_motion(change(case))[quantity] for case in cases]


def test_noise_raises_change_outside_the_heart_step_by_step(synthetic: CaseSet) -> None:
    levels = [measure_motion(noisy(synthetic[0], 1, greys))["background_temporal_sd"] for greys in (0.1, 5, 20)]
    assert levels == sorted(levels)
    assert levels[-1] > 3 * levels[0]


def test_where_ed_is_not_the_first_frame_the_numbers_are_the_same(synthetic: CaseSet) -> None:
    case = synthetic[0]
    rolled = {name: np.roll(getattr(case, name), 3, axis=0) for name in ("image", "label", "coverage")}
    other = measure_motion(replace(case, ed=3, es=(case.es + 3) % len(case.image), **rolled))
    for name, value in measure_motion(case).items():
        np.testing.assert_allclose(other[name], value, rtol=1e-6, err_msg=name)


def test_ed_and_es_alone_tell_of_their_difference_only(train: CaseSet) -> None:
    found = measure_motion(ed_and_es(train[0]))
    assert np.isfinite([found["ed_es_change_inside"], found["ed_es_change_outside"]]).all()
    assert np.isnan([float(found[name]) for name in BY_QUANTITY]).all()
    assert np.isnan(found["curves"]).all()


def ed_and_es(case: Case) -> Case:
    keep = [case.ed, case.es]
    few = {name: getattr(case, name)[keep] for name in ("image", "label", "coverage")}
    return replace(case, **few, ed=0, es=1, whole_cycle=False, frame_time_ms=None)


def test_a_structure_that_was_not_annotated_has_no_curve(train: CaseSet) -> None:
    coverage = train[0].coverage.copy()
    coverage[2, :, 0] = False  # the RV of one frame
    curves = np.asarray(measure_motion(replace(train[0], coverage=coverage))["curves"])
    assert curves.shape == (3, PHASES)
    assert np.isnan(curves).all(axis=1).tolist() == [True, False, False]


# --- the section --------------------------------------------------------------------------------------------------


def asked(train: CaseSet, held_out: CaseSet, synthetic: CaseSet) -> Section:
    sets: list[CaseSet] = [synthetic, train, held_out]
    return section_spec().evaluate(Measurements(*(measure(s, [MOTION], workers=1) for s in sets), *sets))


def by_name(section: Section) -> dict[str, Metric]:
    return {m.name: m for m in section.metrics}


@pytest.mark.parametrize("whole_people", [True, False], ids=["whole cycles", "ED and ES"])
def test_shuffled_frames_are_refused_and_good_ones_pass(
    train: CaseSet, held_out: CaseSet, synthetic: CaseSet, whole_people: bool
) -> None:
    if not whole_people:
        train, held_out = (s.changed("ED and ES", ed_and_es) for s in (train, held_out))
    assert asked(train, held_out, synthetic).judgement != "fail"
    planted = asked(train, held_out, synthetic.changed("shuffled", lambda case: shuffled(case, 3)))
    assert planted.judgement == "fail"
    assert by_name(planted)["roughness of the LV curve"].judgement == "fail"
    assert by_name(planted)["change between neighbouring frames"].judgement == "fail"
    assert planted.tables[0].rows
    compared = by_name(planted)["fd-motion"]
    assert (compared.value is not None) == whole_people
    if not whole_people:
        assert "0 train and 0 held-out" in compared.missing


def test_fd_motion_grows_when_frames_are_shuffled(train: CaseSet, held_out: CaseSet, synthetic: CaseSet) -> None:
    planted = synthetic.changed("shuffled", lambda case: shuffled(case, 3))
    good, bad = (by_name(asked(train, held_out, s))["fd-motion"] for s in (synthetic, planted))
    assert good.judgement == "pass"
    assert bad.value > 2 * max(good.value, good.floor)  # with four held-out people that is still no proof by itself


def test_hearts_that_are_no_cycle_are_not_judged_and_say_so(
    train: CaseSet, held_out: CaseSet, synthetic: CaseSet
) -> None:
    found = by_name(asked(train, held_out, synthetic.changed("pairs", ed_and_es)))
    assert found["cycle closure"].missing == "no generated heart is a whole cycle"
    assert found["ED-to-ES change in the heart over real"].value is not None


def test_a_heart_that_loses_its_lv_keeps_no_limit_of_the_curve(
    train: CaseSet, held_out: CaseSet, synthetic: CaseSet
) -> None:
    empty = synthetic.changed("no LV", lambda case: replace(case, label=np.where(case.label == 3, 0, case.label)))
    lost = by_name(asked(train, held_out, empty))["end of systole"]
    assert (lost.missing, lost.judgement) == ("no generated heart has an LV", "fail")
    some = synthetic.changed("some", lambda case: replace(case, label=case.label * (case.name > "case_0003")))
    assert by_name(asked(train, held_out, some))["end of systole"].judgement == "fail"


def test_real_whole_cycles_keep_every_limit(cine_data: Path, tmp_path: Path) -> None:
    """Those of Najman et al. with the LV at every phase, two of Sunnybrook, and ACDC patient090.

    But for three whose LV is fuller in a late frame than at ED: see `test_every_real_heart_is_accepted_in_every_frame`.
    The mask of one of them leaked into the RV in that frame, which makes its curve rough, too.
    """
    exceptions = {"above_ed": 3, "roughness": 1}
    from cinesynth.data.sources.acdc import read_acdc
    from cinesynth.data.sources.layout import load_layout
    from cinesynth.data.sources.nifti import read_nifti
    from cinesynth.data.sources.scd import read_scd

    ingest(read_nifti(cine_data / "najman4d", load_layout("najman4d")), tmp_path)
    ingest(read_scd(cine_data / "scd"), tmp_path)
    ingest([read_acdc(cine_data / "acdc").read("patient090")], tmp_path)
    people: Measured = measure(patients(prepare(tmp_path, Grid((96, 96, 24), (2.0, 2.0, 10.0))), "real"), [MOTION])
    known_throughout = len(table(cine_data / "najman4d"))
    everyone = known_throughout + 3
    assert (len(people), people["motion.whole"].sum()) == (everyone, everyone)
    assert people["motion.known"].sum() == known_throughout
    for limit in MOTION_LIMITS:
        values = people[f"motion.{limit.quantity}"].astype(np.float64)
        known = np.isfinite(values)
        assert known.sum() == {"known": known_throughout, "timed": 0}.get(limit.needs, everyone)
        assert limit.outside(values[known]).sum() == exceptions.get(limit.quantity, 0), limit.name
