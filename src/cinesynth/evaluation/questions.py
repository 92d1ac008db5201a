"""What a report asks, in its order: the one list of the evaluation's modules."""

from __future__ import annotations

from pathlib import Path

from cinesynth.evaluation import anatomy, codec, control, memorisation, realism, segmenter, temporal
from cinesynth.evaluation.question import Question


def questions(weights: Path | None = None, eye: Path | None = None, i3d: Path | None = None) -> list[Question]:
    """Every question; ``weights``, ``eye`` (a segmenter of real images) and ``i3d`` are for those that need a network.

    `WeightsError` where one of them is missing, damaged or of another kind.
    """
    seen_by = segmenter.Segmenter.load(eye) if eye else None
    asked = [
        control.question(seen_by),
        realism.question(weights, i3d),
        temporal.question(),
        anatomy.question(seen_by),
        memorisation.question(weights),
    ]
    asked += [segmenter.question(seen_by)] if seen_by else []
    return asked + ([codec.question(weights)] if weights else [])
