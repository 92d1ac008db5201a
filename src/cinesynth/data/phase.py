"""Phase of a frame in the cardiac cycle: 0 at ED, 1 at ES, 2 at the next ED, linear in systole and in diastole.

The whole package uses these functions, so that ES has phase 1 in a cine of any length.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cinesynth.errors import InputError
from cinesynth.physiology import USUAL_SYSTOLE_FRACTION


def systole_frames(ed_index: int, es_index: int, frames: int) -> int:
    """Frames from ED to ES in a cycle of ``frames``; `InputError` if an index lies outside the cycle or both agree."""
    for name, index in (("ED", ed_index), ("ES", es_index)):
        if not 0 <= index < frames:
            raise InputError(
                f"{name} frame {index} is outside a cycle of {frames} frames", hint="frames are counted from 0"
            )
    if ed_index == es_index:
        raise InputError(f"ED and ES are both frame {ed_index}", hint="give two different frames")
    return (es_index - ed_index) % frames


def phase_of_frames(
    frame_index: NDArray[np.integer[Any]], ed_index: int, es_index: int, frames: int
) -> NDArray[np.float64]:
    """Phase in [0, 2) of each ``frame_index`` (zero-based, modulo the cycle), same shape."""
    systole = systole_frames(ed_index, es_index, frames)
    since_ed = (np.asarray(frame_index, dtype=np.float64) - ed_index) % frames
    diastole = 1.0 + (since_ed - systole) / (frames - systole)
    return np.where(since_ed <= systole, since_ed / systole, diastole)


def frame_of_phase(phase: float, ed_index: int, es_index: int, frames: int) -> float:
    """Position in [0, frames) of a phase, possibly between two frames; the inverse of `phase_of_frames`."""
    systole = systole_frames(ed_index, es_index, frames)
    phase = float(phase) % 2.0
    since_ed = phase * systole if phase <= 1.0 else systole + (phase - 1.0) * (frames - systole)
    return (ed_index + since_ed) % frames


def frame_phases(frames: int, es_index: int) -> NDArray[np.float64]:
    """Phase of every frame of a cycle that starts at ED, shape ``T``."""
    return phase_of_frames(np.arange(frames), 0, es_index, frames)


def default_es_index(frames: int, systolic_fraction: float = USUAL_SYSTOLE_FRACTION) -> int:
    """ES frame of a cycle that starts at ED, where nothing better is known; `InputError` below 2 frames."""
    if frames < 2:
        raise InputError(f"a cycle of {frames} frames has no ED and ES", hint="use 2 frames or more")
    return min(max(round(systolic_fraction * frames), 1), frames - 1)
