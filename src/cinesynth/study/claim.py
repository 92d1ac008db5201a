"""What the paper says of its hearts, beside what a study found: arXiv 2606.26764, table of the downstream task."""

from __future__ import annotations

import math
from dataclasses import dataclass

from cinesynth.study.results import Effect


@dataclass(frozen=True)
class Claim:
    """A gain over real people with standard augmentation; ``sign`` is 1 where more is better."""

    title: str
    metric: str
    column: str
    amount: float
    unit: str
    factor: float
    """From the metric to the unit."""
    sign: int

    def verdict(self, found: Effect) -> str:
        """Whether the claim holds: what was found reaches it, and its interval is on one side of nothing."""
        if math.isnan(found.value):
            return "not known"
        low, high = sorted((self.sign * found.low, self.sign * found.high))
        if low > 0:
            enough = self.sign * self.factor * found.value >= abs(self.amount)
            return "holds" if enough else "helps, by less than claimed"
        if high < 0:
            return "harms"
        return "no effect is shown"

    def told(self, found: Effect) -> str:
        """The finding in the claim's unit, with its interval."""
        value, low, high = (self.factor * x for x in (found.value, found.low, found.high))
        return f"{value:+.1f} [{low:+.1f}, {high:+.1f}] {self.unit}"


CLAIMS = (
    Claim("mean Dice", "dice", "mean", 1.4, "points", 100.0, 1),
    Claim("mean HD95", "hd95_mm", "mean", -3.0, "mm", 1.0, -1),
    Claim("LV Dice", "dice", "LV", 2.8, "points", 100.0, 1),
    Claim("LV HD95", "hd95_mm", "LV", -5.4, "mm", 1.0, -1),
)
