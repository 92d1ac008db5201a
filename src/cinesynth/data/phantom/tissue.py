"""Balanced steady-state free precession signal of the tissues in a cardiac cine."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Tissue:
    """Proton density and relaxation times in ms at 1.5 T and 3 T (rounded literature values)."""

    density: float
    t1_ms: tuple[float, float]
    t2_ms: tuple[float, float]


TISSUES = {
    "lv_blood": Tissue(0.95, (1550.0, 1930.0), (250.0, 230.0)),
    "rv_blood": Tissue(0.95, (1580.0, 1960.0), (175.0, 130.0)),  # less oxygen, shorter T2
    "myocardium": Tissue(0.78, (1000.0, 1220.0), (49.0, 44.0)),
    "fat": Tissue(0.95, (300.0, 380.0), (85.0, 75.0)),
    "liver": Tissue(0.75, (590.0, 810.0), (46.0, 34.0)),
    "spleen": Tissue(0.80, (1050.0, 1320.0), (79.0, 61.0)),
    "muscle": Tissue(0.80, (1010.0, 1410.0), (36.0, 32.0)),
    "lung": Tissue(0.17, (1200.0, 1400.0), (40.0, 25.0)),
    "bone": Tissue(0.45, (550.0, 590.0), (49.0, 45.0)),
    "fluid": Tissue(0.90, (3000.0, 3500.0), (700.0, 600.0)),
}


def bssfp_signal(tissue: Tissue, *, field_t: float, flip_deg: float, tr_ms: float) -> float:
    """On-resonance steady state of balanced SSFP at TE = TR / 2.

    ``M0 sin a (1 - E1) sqrt(E2) / (1 - (E1 - E2) cos a - E1 E2)``, Bernstein, King and Zhou, Handbook of MRI
    Pulse Sequences (2004), section 14.1.
    """
    high = int(field_t > 2.0)
    e1, e2 = math.exp(-tr_ms / tissue.t1_ms[high]), math.exp(-tr_ms / tissue.t2_ms[high])
    sin, cos = math.sin(math.radians(flip_deg)), math.cos(math.radians(flip_deg))
    return tissue.density * sin * (1.0 - e1) * math.sqrt(e2) / (1.0 - (e1 - e2) * cos - e1 * e2)


def signals(*, field_t: float, flip_deg: float, tr_ms: float) -> dict[str, float]:
    """Signal of every tissue relative to LV blood."""
    raw = {k: bssfp_signal(t, field_t=field_t, flip_deg=flip_deg, tr_ms=tr_ms) for k, t in TISSUES.items()}
    return {k: v / raw["lv_blood"] for k, v in raw.items()}
