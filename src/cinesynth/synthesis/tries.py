"""Several draws of one thing: the first that is accepted, or the best of those that are not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from cinesynth.synthesis.acceptance import Verdicts
from cinesynth.synthesis.control import Steering
from cinesynth.types import FloatArray, LabelArray


@dataclass(frozen=True)
class Draw:
    """Frames from one try, and what the rules say of them."""

    latent: Tensor  # 1 C x y z of an anatomy, its start noise of a motion
    image: FloatArray  # T X Y Z
    label: LabelArray  # T X Y Z
    verdicts: Verdicts
    attempt: int
    steering: Steering | None = None


def best_of(tries: int, draw: Callable[[int], Draw]) -> tuple[Draw, list[Draw]]:
    """The first accepted draw of at most ``tries``, or the one that passes most rules; and all that were made."""
    draws: list[Draw] = []
    while len(draws) < tries and not (draws and draws[-1].verdicts.accepted):
        draws.append(draw(len(draws)))
    return max(draws, key=lambda d: (d.verdicts.passed, -d.attempt)), draws


def tries_json(kept: Draw, draws: Sequence[Draw]) -> dict[str, object]:
    """What the sidecar says of the tries."""
    failed = [[rule.rule for rule in draw.verdicts.rules if not rule.passed] for draw in draws]
    return {
        "accepted": kept.verdicts.accepted,
        "tries": len(draws),
        "kept_try": kept.attempt,
        "rules": kept.verdicts.to_json(),
        "failed_rules_by_try": failed,
        "control": kept.steering.to_json() if kept.steering else None,
    }
