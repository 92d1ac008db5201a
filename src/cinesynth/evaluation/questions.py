"""What a report asks, in its order: the one list of the evaluation's modules."""

from __future__ import annotations

from pathlib import Path

from cinesynth.evaluation import memorisation, realism, temporal
from cinesynth.evaluation.question import Question


def questions(weights: Path | None = None, segmenter: Path | None = None, i3d: Path | None = None) -> list[Question]:
    """Every question; ``weights``, ``segmenter`` and ``i3d`` are for those that look with a network.

    `WeightsError` where one of them is missing, damaged or of another kind.
    """
    return [realism.question(weights, i3d), temporal.question(), memorisation.question(weights)]
