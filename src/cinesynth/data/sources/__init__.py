"""One file a dataset: each yields `cinesynth.types.Study`, labels 1 RV, 2 myocardium, 3 LV, slices base to apex."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from cinesynth.types import Study

if TYPE_CHECKING:
    from cinesynth.data.terms import Terms


@dataclass(frozen=True)
class Source:
    """Studies that are known by name and read one at a time."""

    names: tuple[str, ...]
    read: Callable[[str], Study]
    aside: tuple[tuple[str, str], ...] = ()
    """Name and reason of what was found and is no study: scouts, long axes, duplicates, strange files."""
    files: Callable[[str], Sequence[Path]] | None = None
    """Everything that decides what a study becomes: by their content, a killed ingestion knows what it has done."""
    recipe: str = ""
    """What is done to each study after it was read, in words that change with it; it decides like a file."""
    terms: Terms | None = None
    """Licence and citation, where the package does not know them by the dataset's name."""

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[Study]:
        return map(self.read, self.names)

    def amended(self, amend: Callable[[Study], Study], recipe: str) -> Source:
        """The same studies, each changed by ``amend`` once it is read; ``recipe`` says what that does."""
        return replace(self, read=partial(_amended, self.read, amend), recipe=f"{self.recipe}\n{recipe}")


def _amended(read: Callable[[str], Study], amend: Callable[[Study], Study], name: str) -> Study:
    return amend(read(name))
