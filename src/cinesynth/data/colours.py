"""The colour of each structure, the same in every picture: told apart by colour-blind readers too, and on grey."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from cinesynth.types import Label

RGB = tuple[int, int, int]
COLOURS: Mapping[Label, RGB] = MappingProxyType(
    {Label.RV: (86, 180, 233), Label.MYO: (240, 190, 40), Label.LV: (230, 70, 80)}
)
"""Red, green and blue in bytes."""


def for_plots(structure: Label) -> tuple[float, float, float]:
    """The colour as matplotlib takes it, in [0, 1]."""
    red, green, blue = COLOURS[structure]
    return red / 255, green / 255, blue / 255
