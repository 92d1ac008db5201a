"""Phase and frame are one relation, read in both directions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cinesynth.data.phase import default_es_index, frame_of_phase, frame_phases, phase_of_frames, systole_frames
from cinesynth.errors import InputError


@st.composite
def cycles(draw: st.DrawFn) -> tuple[int, int, int]:
    """ED, ES and length of a cycle; ES may come first in the file (the cycle wraps around)."""
    frames = draw(st.integers(2, 60))
    ed = draw(st.integers(0, frames - 1))
    es = draw(st.integers(0, frames - 1).filter(lambda i: i != ed))
    return ed, es, frames


@given(cycles())
def test_landmarks(cycle: tuple[int, int, int]) -> None:
    ed, es, _ = cycle
    assert phase_of_frames(np.array([ed, es]), *cycle).tolist() == [0.0, 1.0]
    assert frame_of_phase(0.0, *cycle) == ed
    assert frame_of_phase(1.0, *cycle) == es
    assert frame_of_phase(2.0, *cycle) == ed


@given(cycles())
def test_every_frame_comes_back(cycle: tuple[int, int, int]) -> None:
    """Defect 13: one function between frames and phases, and its inverse."""
    frames = cycle[2]
    phases = phase_of_frames(np.arange(frames), *cycle)
    back = np.array([frame_of_phase(phase, *cycle) for phase in phases])
    distance = (back - np.arange(frames) + frames / 2) % frames - frames / 2
    assert np.abs(distance).max() < 1e-9
    assert ((phases >= 0) & (phases < 2)).all()


@given(cycles(), st.floats(0.0, 2.0, exclude_max=True))
def test_every_phase_comes_back(cycle: tuple[int, int, int], phase: float) -> None:
    position = frame_of_phase(phase, *cycle)
    assert 0 <= position < cycle[2]
    back = phase_of_frames(np.array([position]), *cycle)[0]
    assert abs((back - phase + 1.0) % 2.0 - 1.0) < 1e-9


@given(cycles())
def test_phase_grows_from_ed(cycle: tuple[int, int, int]) -> None:
    ed, _, frames = cycle
    from_ed = phase_of_frames((ed + np.arange(frames)) % frames, *cycle)
    assert (np.diff(from_ed) > 0).all()


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
