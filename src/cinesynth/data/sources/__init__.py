"""One file a dataset: each yields `cinesynth.types.Study`, labels 1 RV, 2 myocardium, 3 LV, slices base to apex."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from cinesynth.types import Study


@dataclass(frozen=True)
class Source:
    """Studies that are known by name and read one at a time."""

    names: tuple[str, ...]
    read: Callable[[str], Study]

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[Study]:
        return map(self.read, self.names)
