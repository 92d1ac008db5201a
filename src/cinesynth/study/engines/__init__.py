"""What trains segmenters: the light U-Net of this package, or nnU-Net v2."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from cinesynth.data.manifest import Row
from cinesynth.study.cells import Task
from cinesynth.study.spec import NnunetSpec, StudySpec
from cinesynth.training.trainer import Report
from cinesynth.types import LabelArray


class Engine(Protocol):
    """Trains the segmenter of a cell, and labels people with it."""

    def train(self, task: Task, report: Report) -> None:
        """Train it in the task's folder, or go on with it; a finished one is left alone."""

    def labels(self, task: Task, data: Path, people: Sequence[Row]) -> Iterator[LabelArray]:
        """Labels of each of the people of the dataset ``data``, at the frames that are `judged`: ``T X Y Z``."""


def engine_of(spec: StudySpec) -> Engine:
    """The engine that a study names."""
    if isinstance(spec.engine, NnunetSpec):
        from cinesynth.study.engines.nnunet import Nnunet

        return Nnunet(spec.engine)
    from cinesynth.study.engines.unet import UNet

    return UNet(spec.engine)
