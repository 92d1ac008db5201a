"""The values of a cohort's groups: a number, a range, drawn from the patients of the training, or unknown."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from enum import Enum

import numpy as np

from cinesynth.errors import InputError
from cinesynth.physiology import EDV_RANGE_ML, MYO_MASS_RANGE_G, SLICE_RANGE
from cinesynth.synthesis.request import FRAME_RANGE
from cinesynth.types import Diagnosis

MAX_CASES = 100_000
"""Of one cohort."""
MAX_LETTERS = 40
"""No number has more, and errors repeat no more of a text."""
_EDV = f"mL, {EDV_RANGE_ML[0]:g} to {EDV_RANGE_ML[1]:g}"
_ESV = "mL, below the EDV: the EF lies between 3 and 95 %"
NUMBERS = {
    "edv": _EDV,
    "esv": _ESV,
    "ef": "percent, 3 to 95",
    "slices": f"a whole number, {SLICE_RANGE[0]} to {SLICE_RANGE[1]}",
    "rv_edv": _EDV,
    "rv_esv": _ESV,
    "mass": f"g, {MYO_MASS_RANGE_G[0]:g} to {MYO_MASS_RANGE_G[1]:g}",
}
"""What is asked of a heart in numbers, and what each may be."""
SETTINGS = {
    "frames": f"a whole number, {FRAME_RANGE[0]} to {FRAME_RANGE[1]}",
    "es_index": "a whole number, 1 to frames - 1",
    "seed": "a whole number, 0 to 2^63 - 1",
    "count": f"a whole number, 1 to {MAX_CASES}",
}
KEYS = ("diagnosis", *NUMBERS, "vendor", *SETTINGS)
WHOLE = frozenset({"slices", *SETTINGS})
DRAWABLE = ("diagnosis", "edv", "esv", "ef", "slices")
"""What the patients of the training tell."""
DRAW = "draw"
UNKNOWN = frozenset({"", "~", "null", "unknown"})
_WHOLE = re.compile(r"([+-]?\d+)(\.0*)?", re.ASCII)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


class Open(Enum):
    """What is left to chance."""

    DRAWN = "from the patients of the training"


@dataclass(frozen=True)
class Range:
    """Uniform between two ends, both of them possible."""

    low: float
    high: float

    def draw(self, seed: int, *, whole: bool) -> float:
        """A ``whole`` value, or one to a decimal."""
        rng = np.random.default_rng(seed)
        if whole:
            return int(rng.integers(int(self.low), int(self.high), endpoint=True))
        return min(max(round(float(rng.uniform(self.low, self.high)), 1), self.low), self.high)


Value = float | Range | Open | None
"""None is unknown to the model."""
Text = str | tuple[str, ...]
"""A value as it is written; several are the ends of a range."""


def shown(text: Text) -> str:
    """A value as an error repeats it."""
    return repr(text if len(text) <= MAX_LETTERS else text[:MAX_LETTERS]) if isinstance(text, str) else "a list"


def parse_value(key: str, text: Text) -> Value:
    """The value of one of the `NUMBERS`; `InputError` says what it may be."""
    if isinstance(text, str):
        if not is_stated(text):
            return None
        if text.strip().casefold() != DRAW:
            return _parsed(key, text)
        if key in DRAWABLE:
            return Open.DRAWN
        raise InputError(f"{key} cannot be drawn: the weights know it of no patient", hint=NUMBERS[key])
    if len(text) != 2:
        raise InputError(f"{key} has {len(text)} values", hint=f"a range has two, [low, high]; {NUMBERS[key]}")
    low, high = (_parsed(key, end) for end in text)
    if low > high:
        raise InputError(f"{key} ranges from {low:g} down to {high:g}", hint="give [low, high]")
    return Range(low, high)


def _parsed(key: str, text: str) -> float:
    """A number; a whole one where the key asks for that."""
    if key in WHOLE:
        return parse_whole(key, text)
    number = float(text) if len(text) <= MAX_LETTERS and _NUMBER.fullmatch(text.strip()) else math.nan
    if not math.isfinite(number):
        raise InputError(f"{key} {shown(text)} is no number", hint=_allowed(key))
    return number


def parse_whole(key: str, text: Text) -> int:
    """A whole number; spreadsheets write 8 as 8.0."""
    found = isinstance(text, str) and len(text) <= MAX_LETTERS and _WHOLE.fullmatch(text.strip())
    if not found:
        raise InputError(f"{key} {shown(text)} is no whole number", hint=_allowed(key))
    return int(found[1])


def _allowed(key: str) -> str:
    return (
        SETTINGS[key] if key in SETTINGS else f"{NUMBERS[key]}; or unknown" + (", or draw" if key in DRAWABLE else "")
    )


def is_stated(text: Text | None) -> bool:
    """Whether a text is there and says more than that it is unknown."""
    return text is not None and not (isinstance(text, str) and text.strip().casefold() in UNKNOWN)


def parse_diagnosis(text: Text) -> Diagnosis | Open:
    """A diagnosis by its name, or drawn."""
    if not isinstance(text, str):
        raise InputError("diagnosis is a list", hint="give one a group")
    if text.strip().casefold() == DRAW:
        return Open.DRAWN
    return Diagnosis.parse(text[:MAX_LETTERS]) if is_stated(text) else Diagnosis.UNKNOWN


def parse_vendor(text: Text) -> str | None:
    """A vendor's name; which there are, the weights know."""
    if not isinstance(text, str) or text.strip().casefold() == DRAW:
        raise InputError("vendor is no name", hint="one name, as in the training data; or unknown")
    return text.strip() if is_stated(text) else None
