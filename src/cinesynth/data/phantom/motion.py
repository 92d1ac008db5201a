"""Timing of one heart beat: how much of the stroke has left the ventricles at every frame."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SYSTOLE_FRACTION = (0.30, 0.45)
"""End systole as a fraction of the cycle, the range seen in clinical cines."""
ISOVOLUMIC_MS = 60.0
KICK_END = 0.985


@dataclass(frozen=True)
class Beat:
    """One cardiac cycle. ``ejected`` (T,) is 0 at end diastole (frame 0) and 1 at end systole only."""

    ejected: NDArray[np.float64]
    es_index: int
    frame_time_ms: float


def smooth_step(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """0 below 0, 1 above 1, with zero slope at both ends."""
    u = np.clip(x, 0.0, 1.0)
    return np.asarray(u * u * (3.0 - 2.0 * u))


def es_index_of(frames: int, heart_rate: float) -> int:
    """Frame of end systole; ejection time 413 - 1.7 HR ms (Weissler et al., Circulation 1968)."""
    fraction = (413.0 - 1.7 * heart_rate + ISOVOLUMIC_MS) * heart_rate / 60_000.0
    first, last = math.ceil(SYSTOLE_FRACTION[0] * frames), math.floor(SYSTOLE_FRACTION[1] * frames)
    return max(1, min(max(round(fraction * frames), first), max(first, last)))


def ejected_at(tau: NDArray[np.float64], systole: float, kick: float) -> NDArray[np.float64]:
    """Ejected share of the stroke volume at cycle times ``tau`` in [0, 1).

    Ejection ends at ``systole``; rapid filling, diastasis and an atrial kick of share ``kick`` follow. Periodic.
    """
    tau = np.mod(tau, 1.0)
    diastole = 1.0 - systole
    # A short isovolumic pause opens systole, another one opens diastole.
    ejection = smooth_step((tau - 0.06 * systole) / (0.94 * systole))
    rapid = smooth_step((tau - systole - 0.04 * diastole) / (0.48 * diastole))
    atrial = smooth_step((tau - (KICK_END - 0.24 * diastole)) / (0.24 * diastole))
    return ejection - (1.0 - kick) * rapid - kick * atrial


def make_beat(frames: int, heart_rate: float, kick: float) -> Beat:
    """A beat of ``frames`` equal steps at ``heart_rate`` per minute whose ES falls exactly on a frame."""
    es_index = es_index_of(frames, heart_rate)
    ejected = ejected_at(np.arange(frames) / frames, es_index / frames, kick)
    # Isovolumic relaxation would hold the minimum for more than one sample: let it rise from ES on.
    after = np.arange(frames) > es_index
    ejected[after] = np.minimum(ejected[after], 1.0 - 1e-3 * (np.arange(frames)[after] - es_index))
    return Beat(ejected, es_index, 60_000.0 / heart_rate / frames)
