"""Several draws of one thing: the first that is accepted, or the best of those that are not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from cinesynth.errors import InputError
from cinesynth.synthesis.acceptance import Verdicts
from cinesynth.synthesis.volume_matching import VolumeMatching
from cinesynth.types import FloatArray, LabelArray

REFUSALS = 8
"""Draws that a screen may refuse before there is no case."""


@dataclass(frozen=True)
class Candidate:
    """Frames from one try, and what the rules say of them."""

    latent: Tensor  # 1 C x y z of an anatomy, its start noise of a motion
    image: FloatArray  # T X Y Z
    label: LabelArray  # T X Y Z
    verdicts: Verdicts
    attempt: int
    steering: VolumeMatching | None = None
    postprocessing_ml: float = 0.0
    """What was changed of the mask to be one that people draw, in all frames."""
    refused: str = ""
    """Why this draw may not be kept, whatever the rules say of it."""


def rejection_sample(tries: int, draw: Callable[[int], Candidate]) -> tuple[Candidate, list[Candidate]]:
    """The first accepted draw of at most ``tries``, or the one that passes most rules; and all that were made.

    Refused draws are no tries: each is replaced, `REFUSALS` at most. `InputError` where nothing else was drawn.
    """
    draws: list[Candidate] = []
    kept: list[Candidate] = []
    while len(kept) < tries and len(draws) - len(kept) < REFUSALS and not (kept and kept[-1].verdicts.accepted):
        draws.append(draw(len(draws)))
        kept += [] if draws[-1].refused else [draws[-1]]
    if not kept:
        raise InputError(
            f"each of {len(draws)} draws was refused: {draws[-1].refused}",
            hint="take another seed, or ask for a heart that is less like a training subject's",
        )
    return max(kept, key=lambda d: (d.verdicts.passed, -d.attempt)), draws


def tries_json(kept: Candidate, draws: Sequence[Candidate]) -> dict[str, object]:
    """What the sidecar says of the tries."""
    failed = [[rule.rule for rule in draw.verdicts.rules if not rule.passed] for draw in draws]
    return {
        "accepted": kept.verdicts.accepted,
        "tries": len(draws),
        "kept_try": kept.attempt,
        "rules": kept.verdicts.to_json(),
        "failed_rules_by_try": failed,
        "refused_tries": sum(bool(draw.refused) for draw in draws),
        "tidied_ml": round(kept.postprocessing_ml, 3),
        "control": kept.steering.to_json() if kept.steering else None,
    }
