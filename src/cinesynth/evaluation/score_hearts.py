"""What the hearts that `score` generates say beyond their volumes: do they beat, and are they anybody's copies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from cinesynth.data.packed import PackedDataset
from cinesynth.evaluation.cases import generated, patients
from cinesynth.evaluation.limits import LIMITS
from cinesynth.evaluation.measure import Measured, Progress, Values, gathered, measure, measure_case, thumbnails
from cinesynth.evaluation.memorisation import search
from cinesynth.evaluation.motion import motion
from cinesynth.evaluation.section import Measure
from cinesynth.evaluation.temporal import kept
from cinesynth.memorisation.nearest import IMAGE, MASK, Space
from cinesynth.types import Cine

SHOWN = ("closure", "boiling", "roughness")
"""Cycle closure, change outside the heart and roughness of the LV curve, of `limits.LIMITS`."""
MEASURERS = (motion(), thumbnails())


@dataclass(frozen=True)
class Copies:
    """Near-copies of training subjects in one space; the rate is None where it cannot be told, and ``why`` says so."""

    space: str
    hearts: int
    copies: int | None
    rate: float | None
    limit: float | None
    """The closeness below which a heart is a near-copy."""
    training_people: int
    why: str = ""


@dataclass
class Hearts:
    """Numbers of generated hearts, taken when each is there; no heart is kept."""

    rows: list[list[Values]] = field(default_factory=list)

    def see(self, cine: Cine) -> None:
        """Measure one more."""
        self.rows.append(measure_case(generated(f"case {len(self.rows)}", cine), MEASURERS))

    def measured(self) -> Measured:
        """All that were seen; at least one."""
        names = [f"case {number}" for number in range(len(self.rows))]
        return gathered("synthetic", names, MEASURERS, self.rows)


@dataclass(frozen=True)
class HeartScores:
    """Motion beside real whole cycles, and near-copies; nothing where no heart was generated."""

    temporal: Sequence[Measure] = ()
    copies: Sequence[Copies] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain values by the limit's and the space's name."""
        return {
            "temporal": {m.name: asdict(m) for m in self.temporal},
            "memorisation": {c.space: asdict(c) for c in self.copies},
        }


def score_hearts(
    hearts: Hearts, train: PackedDataset, held_out: PackedDataset, workers: int | None, progress: Progress
) -> HeartScores:
    """Compare the hearts that were seen with the people of two splits (``train`` may be empty)."""
    if not hearts.rows:
        return HeartScores()
    others = _measured(held_out, "held-out", workers, progress)
    known = _measured(train, "train", workers, progress) if train.records else others.where([], "train")
    made = hearts.measured()
    temporal = [kept(limit, (known, others, made)) for limit in LIMITS if limit.quantity in SHOWN]
    return HeartScores(temporal, [_copies(space, made, known, others) for space in (IMAGE, MASK)])


def _measured(people: PackedDataset, title: str, workers: int | None, progress: Progress) -> Measured:
    return measure(patients(people, title), MEASURERS, workers=workers, progress=progress)


def _copies(space: Space, made: Measured, train: Measured, held_out: Measured) -> Copies:
    if not len(train):
        return Copies(space.name, len(made), None, None, None, 0, "the dataset has nobody in training")
    found = search(space, made, train, held_out)
    count = len(found.synthetic.known)
    if found.missing:
        return Copies(space.name, count, None, None, None, len(train), found.missing)
    return Copies(space.name, count, found.copies, found.copies / count, found.limit, len(train))
