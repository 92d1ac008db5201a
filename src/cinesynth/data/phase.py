"""Frames to phase and back: 0 at ED, 1 at ES, 2 at the next ED, linear in systole and in diastole.

Every part of the package that places a frame in the cycle comes here, so ES has phase 1 in a cine of any length.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cinesynth.errors import InputError


def systole_frames(ed_index: int, es_index: int, frames: int) -> int:
    """Frames from ED to ES in a cycle of ``frames``; `InputError` if the indices do not lie in the cycle or agree."""
    for name, index in (("ED", ed_index), ("ES", es_index)):
        if not 0 <= index < frames:
            raise InputError(f"{name} frame {index} is not in a cycle of {frames} frames", hint="count frames from 0")
    if ed_index == es_index:
        raise InputError(f"ED and ES are both frame {ed_index}", hint="a cycle needs two different frames")
    return (es_index - ed_index) % frames


def phase_of_frames(
    frame_index: NDArray[np.integer[Any]], ed_index: int, es_index: int, frames: int
) -> NDArray[np.float64]:
    """Phase in [0, 2) of frames of a cycle, same shape as ``frame_index`` (zero-based; wraps around the cycle)."""
    systole = systole_frames(ed_index, es_index, frames)
    since_ed = (np.asarray(frame_index, dtype=np.float64) - ed_index) % frames
    diastole = 1.0 + (since_ed - systole) / (frames - systole)
    return np.where(since_ed <= systole, since_ed / systole, diastole)


def frame_of_phase(phase: float, ed_index: int, es_index: int, frames: int) -> float:
    """Position in [0, frames) of a phase; the inverse of `phase_of_frames` (a fraction lies between two frames)."""
    systole = systole_frames(ed_index, es_index, frames)
    phase = float(phase) % 2.0
    since_ed = phase * systole if phase <= 1.0 else systole + (phase - 1.0) * (frames - systole)
    return (ed_index + since_ed) % frames


def frame_phases(frames: int, es_index: int) -> NDArray[np.float64]:
    """Phases of every frame of a cycle that starts at ED, shape ``T``."""
    return phase_of_frames(np.arange(frames), 0, es_index, frames)


def default_es_index(frames: int, systolic_fraction: float = 0.38) -> int:
    """ES frame of a cycle that starts at ED when nothing better is known (30-45 % of the cycle in patients)."""
    if frames < 2:
        raise InputError(f"a cycle of {frames} frames has no ED and ES", hint="ask for 2 frames or more")
    return min(max(round(systolic_fraction * frames), 1), frames - 1)
