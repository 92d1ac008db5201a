"""Rejection sampling: keep the first candidate that passes every acceptance rule, or the best of those that fail."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from cinesynth.errors import InputError
from cinesynth.synthesis.acceptance import Verdicts
from cinesynth.synthesis.volume_matching import VolumeMatching
from cinesynth.types import FloatArray, LabelArray


@dataclass(frozen=True)
class Candidate:
    """One sampled anatomy (one frame) or motion (all frames), with the verdicts of the acceptance rules."""

    latent: Tensor  # 1 C x y z: the latent of an anatomy, the start noise of a motion
    image: FloatArray  # T X Y Z
    label: LabelArray  # T X Y Z
    verdicts: Verdicts
    attempt: int
    volume_matching: VolumeMatching | None = None
    postprocessing_ml: float = 0.0
    """Volume of the voxels that mask postprocessing changed, summed over frames."""
    rejected: str = ""
    """Why a duplicate filter rejects this candidate, whatever the rules say; empty if none does."""


def rejection_sample(
    max_attempts: int, sample: Callable[[int], Candidate], *, max_rejected: int = 8
) -> tuple[Candidate, list[Candidate]]:
    """Call ``sample(0)``, ``sample(1)``, ... until a candidate is accepted.

    Candidates that a duplicate filter rejects do not count towards ``max_attempts``; the search stops
    after ``max_rejected`` of them.

    Returns:
        The candidate to keep, which passes all rules or more than any other attempt, and all candidates in order.

    Raises:
        InputError: if a duplicate filter rejected every candidate.
    """
    candidates: list[Candidate] = []
    attempts: list[Candidate] = []
    while len(attempts) < max_attempts and len(candidates) - len(attempts) < max_rejected:
        candidates.append(sample(len(candidates)))
        if candidates[-1].rejected:
            continue
        attempts.append(candidates[-1])
        if attempts[-1].verdicts.accepted:
            break
    if not attempts:
        raise InputError(
            f"all {len(candidates)} candidates were rejected: {candidates[-1].rejected}",
            hint="use another seed, or request a heart that is less similar to a training subject's",
        )
    # On a tie the earlier attempt is kept, so that raising max_attempts changes no case that it does not improve.
    return max(attempts, key=lambda c: (c.verdicts.passed, -c.attempt)), candidates


def acceptance_json(kept: Candidate, candidates: Sequence[Candidate]) -> dict[str, object]:
    """The sidecar's acceptance record of one stage; ``attempts`` counts all candidates, rejected ones too."""
    failed = [[rule.rule for rule in c.verdicts.rules if not rule.passed] for c in candidates]
    return {
        "accepted": kept.verdicts.accepted,
        "attempts": len(candidates),
        "kept_attempt": kept.attempt,
        "rules": kept.verdicts.to_json(),
        "failed_rules_by_attempt": failed,
        "near_duplicates": sum(bool(c.rejected) for c in candidates),
        "postprocessing_ml": round(kept.postprocessing_ml, 3),
        "volume_matching": kept.volume_matching.to_json() if kept.volume_matching else None,
    }
