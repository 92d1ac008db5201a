"""Limits of the motion of any human heart, which judge even where no real whole cycle is available.

They come from physiology and were checked on 13 real cycles: ten of Najman et al. (LV contoured at every frame), two of
the Sunnybrook data and one of ACDC.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cinesynth.evaluation.motion import MIN_DIP
from cinesynth.evaluation.section import Judgement

WARN_SHARE, FAIL_SHARE = 0.10, 0.25
"""Fraction of the hearts outside a limit above which it is a warning, or a failure."""
Values = NDArray[np.float64]


def judge(share: float) -> Judgement:
    """The judgement of a set of which a fraction ``share`` is outside a limit."""
    return "fail" if share > FAIL_SHARE else "warn" if share > WARN_SHARE else "pass"


@dataclass(frozen=True)
class MotionLimit:
    """The range of one number of a human heart, and its source."""

    name: str
    quantity: str
    unit: str
    low: float
    high: float
    why: str
    needs: Literal["whole", "around", "known", "timed"] = "known"
    """What a heart must have (see `measure_motion`) for the limit to apply to it."""

    @property
    def words(self) -> str:
        """The rule of the judgement."""
        if math.isinf(self.low):
            allowed = f"at most {self.high:g}"
        else:
            allowed = f"{self.low:g}" if self.low == self.high else f"{self.low:g} to {self.high:g}"
        return f"{allowed} in every heart; warn above {WARN_SHARE:.0%} of hearts outside, fail above {FAIL_SHARE:.0%}"

    def outside(self, values: Values) -> NDArray[np.bool_]:
        """Mask of the hearts outside the limit; a missing value counts as outside."""
        return ~((values >= self.low - 1e-6) & (values <= self.high + 1e-6))


MOTION_LIMITS = (
    MotionLimit(
        "ES index, measured against declared",
        "es_shift",
        "of the cycle",
        -math.inf,
        0.10,
        "frame of the smallest LV volume; they agree within 0.05 in 10 real cycles",
    ),
    MotionLimit(
        "end of systole",
        "systole",
        "of the cycle",
        0.20,
        0.55,
        "ejection takes 413 - 1.7 HR ms (Weissler et al., Circulation 1968), after some 60 ms: at 50 beats a minute it "
        "ends at 0.32 of the cycle, at 100 at 0.5; 0.27 to 0.37 in 10 real cycles",
    ),
    MotionLimit(
        "LV larger than at ED",
        "above_ed",
        "of EDV",
        -math.inf,
        0.10,
        "largest volume of the cycle above that at ED; at most 0.07 in 10 real cycles",
    ),
    MotionLimit(
        "minima of the LV curve",
        "minima",
        "a beat",
        1.0,
        1.0,
        f"dips deeper than {MIN_DIP:.0%} of the stroke volume: a heart contracts once a beat",
    ),
    MotionLimit(
        "roughness of the LV curve",
        "roughness",
        "",
        -math.inf,
        1.4,
        "mean |second difference| over mean |first difference|; at most 0.63 in 10 real cycles, 1.7 in random order",
    ),
    MotionLimit(
        "peak ejection rate",
        "ejection",
        "EDV/s",
        0.2,
        8.0,
        "3.4 in normal, 1.2 in failing hearts, up to 6 under isoprenaline (Marshall et al., Circulation 1977)",
        needs="timed",
    ),
    MotionLimit(
        "peak filling rate",
        "filling",
        "EDV/s",
        0.2,
        8.0,
        "2.2 +- 0.6 in normal hearts (Muntinga et al., Int J Card Imaging 1997), less where filling is slow",
        needs="timed",
    ),
    MotionLimit(
        "cycle closure",
        "closure",
        "",
        -math.inf,
        2.0,
        "change from the last frame to the first over that between other frames; 0.7 to 1.15 in 13 real cycles",
        needs="whole",
    ),
    MotionLimit(
        "change between neighbouring frames",
        "consecutive_change",
        "of that between any two",
        -math.inf,
        0.80,
        "in the heart; at most 0.57 in 13 real cycles of 12 to 25 frames, 1 in random order",
        needs="whole",
    ),
    MotionLimit(
        "change outside the heart",
        "background_temporal_sd",
        "% of the range",
        -math.inf,
        4.0,
        "mean temporal SD of grey values; at most 2.0 in 13 real cycles",
        needs="around",
    ),
    MotionLimit(
        "flicker of brightness",
        "flicker",
        "%",
        -math.inf,
        4.0,
        "step of the mean brightness outside the heart against neighbouring frames; at most 1.8 in 13 real cycles",
        needs="around",
    ),
)
