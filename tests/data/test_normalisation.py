"""Phases are linear between ED and ES of any cycle; intensities have one scale a sequence."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cinesynth.data.normalisation import (
    IntensityScale,
    default_es_index,
    frame_phases,
    from_uint8,
    phase_of_frames,
    systole_frames,
    to_uint8,
)
from cinesynth.errors import DataError, InputError


@st.composite
def cycles(draw: st.DrawFn) -> tuple[int, int, int]:
    """ED, ES and length of a cycle; ES may come first in the file (the cycle wraps around)."""
    frames = draw(st.integers(2, 60))
    ed = draw(st.integers(0, frames - 1))
    es = draw(st.integers(0, frames - 1).filter(lambda i: i != ed))
    return ed, es, frames


@given(cycles())
def test_phase_is_linear_in_systole_and_in_diastole(cycle: tuple[int, int, int]) -> None:
    """Defect 13: one function from frames to phases, that knows ED and ES of any cycle."""
    ed, es, frames = cycle
    since_ed = np.arange(frames)
    phases = phase_of_frames((ed + since_ed) % frames, *cycle)
    assert (phases[0], phases[(es - ed) % frames]) == (0.0, 1.0)
    assert phases == pytest.approx(np.interp(since_ed, [0, (es - ed) % frames, frames], [0.0, 1.0, 2.0]))


def test_known_cycle() -> None:
    """Five frames of systole and five of diastole, ED as frame 3."""
    phases = phase_of_frames(np.arange(10), 3, 8, 10)
    assert phases.tolist() == pytest.approx([1.4, 1.6, 1.8, 0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.2])


@given(st.integers(2, 100))
def test_default_es_lies_in_the_cycle(frames: int) -> None:
    es = default_es_index(frames)
    assert 1 <= es < frames
    assert frame_phases(frames, es)[[0, es]].tolist() == [0.0, 1.0]
    if frames >= 12:
        assert 0.3 <= es / frames <= 0.45


@pytest.mark.parametrize("cycle", [(0, 0, 10), (0, 10, 10), (-1, 3, 10), (12, 3, 10)])
def test_contradictory_cycles_are_refused(cycle: tuple[int, int, int]) -> None:
    with pytest.raises(InputError) as caught:
        systole_frames(*cycle)
    assert caught.value.hint


def test_a_brighter_frame_stays_brighter() -> None:
    """Defect 11: Scaled per frame, both would look alike, and the difference would flicker as motion."""
    frame = np.random.default_rng(0).uniform(0, 100, (8, 8, 4))
    sequence = np.stack([frame, 1.5 * frame, frame])
    scaled = IntensityScale.of(sequence).apply(sequence)
    assert (scaled[1] >= scaled[0]).all()
    assert scaled[1].mean() - scaled[0].mean() > 0.2
    assert (scaled[0] == scaled[2]).all()


@given(st.integers(0, 2**16), st.floats(0.01, 100.0), st.floats(-1000.0, 1000.0))
def test_gain_and_offset_of_the_scanner_do_not_matter(seed: int, gain: float, offset: float) -> None:
    sequence = np.random.default_rng(seed).normal(size=(2, 5, 5, 3))
    plain = IntensityScale.of(sequence).apply(sequence)
    other = gain * sequence + offset
    np.testing.assert_allclose(IntensityScale.of(other).apply(other), plain, atol=5e-3)


def test_percentiles_become_the_ends() -> None:
    ramp = np.linspace(0.0, 1000.0, 1001).reshape(1, 1001, 1, 1)
    scale = IntensityScale.of(ramp)
    assert (scale.low, scale.high) == (5.0, 995.0)
    scaled = scale.apply(ramp)
    assert scaled.dtype == np.float32
    assert (scaled.min(), scaled.max()) == (-1.0, 1.0)
    assert scaled[0, 500, 0, 0] == pytest.approx(0.0)


@pytest.mark.parametrize("value", [0.0, 7.0, np.nan])
def test_an_empty_sequence_is_refused(value: float) -> None:
    with pytest.raises(DataError, match="no intensity scale"):
        IntensityScale.of(np.full((2, 4, 4, 2), value))


def test_bytes_come_back_exactly() -> None:
    levels = np.arange(256, dtype=np.uint8)
    assert (to_uint8(from_uint8(levels)) == levels).all()
    assert from_uint8(levels)[[0, 255]].tolist() == [-1.0, 1.0]
    assert to_uint8(np.array([-3.0, 3.0])).tolist() == [0, 255]
