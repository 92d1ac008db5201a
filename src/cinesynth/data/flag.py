"""A flag: something about a study that its user should know, and whether it refuses the study."""

from __future__ import annotations

from typing import Literal, NamedTuple

Grade = Literal["stops", "look", "note"]
"""Whether a flag refuses a study, asks a person to look at it, or only tells something."""


class Flag(NamedTuple):
    """Something about a study that its user should know."""

    name: str
    grade: Grade
    text: str
    hint: str = ""

    def __str__(self) -> str:
        return self.text
