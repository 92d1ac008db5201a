"""The light engine: the 2D U-Net of ``cinesynth train segmenter``, for CPUs and quick answers."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator

from cinesynth.cases.schema import GENERATED
from cinesynth.config import Config
from cinesynth.data.dataset_table import SubjectRow
from cinesynth.data.geometry import Grid, Placement, slices_on_grid
from cinesynth.data.intensity import IntensityScale, from_uint8, to_uint8
from cinesynth.data.packed import load_study, prepare
from cinesynth.data.phantom import PHANTOM
from cinesynth.evaluation.segmenter import NAME, Segmenter
from cinesynth.io.progress import ProgressCallback
from cinesynth.models.codec import one_heart
from cinesynth.models.layers import resolve_precision
from cinesynth.models.segmenter import SliceUNet
from cinesynth.study.metrics import judged
from cinesynth.study.runs import Task
from cinesynth.study.spec import UNetSpec
from cinesynth.study.subjects import name_of
from cinesynth.training.stages.segmenter import SegmenterStage
from cinesynth.training.trainer import Trainer
from cinesynth.types import LabelArray, Study
from cinesynth.weights.folder import save_stage


@dataclass(frozen=True)
class UNet:
    """Every cell takes the same steps and keeps the average of the last: nobody is needed to choose one."""

    spec: UNetSpec

    def config(self, task: Task) -> Config:
        """The settings of a cell."""
        config = self.spec.config
        last = config.training.segmenter.steps
        alike = [row for row in task.rows if task.people_share is None or row.dataset != GENERATED]
        phantoms = sum(row.dataset == PHANTOM for row in alike) / len(alike)  # each of them is drawn as often
        own = {"augment": task.augment, "validate_every_steps": last, "phantom_share": phantoms}
        segmenter = config.training.segmenter.model_copy(update=own)
        training = config.training.model_copy(update={"segmenter": segmenter, "seed": task.seed})
        return config.model_copy(update={"training": training})

    def train(self, task: Task, report: ProgressCallback) -> None:
        """Train on the rows of the task."""
        if (task.folder / f"{NAME}.json").is_file():
            return
        config = self.config(task)
        packed = prepare(task.pool, Grid.from_config(config.grid))
        names = {name_of(row) for row in task.rows}
        part = packed.where([f"{r.dataset}_{r.subject}" in names for r in packed.records])
        accelerator = Accelerator(mixed_precision=resolve_precision(config.training.precision))
        torch.manual_seed(task.seed)
        network = SliceUNet(config.segmenter)
        hearts = None if task.people_share is None else 1.0 - task.people_share
        stage = SegmenterStage(network, config, part, part, accelerator.device, hearts)
        trained = Trainer(stage, task.folder / "training", accelerator, report).run()
        network.load_state_dict(trained.state_dict())
        count = {d: sum(r.dataset == d for r in part.records) for d in sorted({r.dataset for r in part.records})}
        seen = {"split": "train", "subjects": count, "frames": sum(len(r.phases) for r in part.records)}
        save_stage(task.folder, NAME, network.cpu(), config, {"data_hash": packed.data_hash, "trained_on": seen})
        shutil.rmtree(task.folder / "training")

    def labels(self, task: Task, data: Path, people: Sequence[SubjectRow]) -> Iterator[LabelArray]:
        """Labels on the scanner's grid, by a network that is told nothing but the images."""
        segmenter, spacing_mm = Segmenter.load(task.folder), self.config(task).grid.spacing_mm
        for row in people:
            yield label_of(segmenter, spacing_mm, judged(load_study(data, row)))


def label_of(segmenter: Segmenter, spacing_mm: tuple[float, float, float], study: Study) -> LabelArray:
    """What ``segmenter`` sees in all frames of ``study``, ``T X Y Z`` in its voxels.

    The whole field is looked at, with the voxels that were trained at: where the heart is, nobody tells. What lies
    apart from the largest part is not the heart.
    """
    placement = _whole_field(study, spacing_mm)
    scale = IntensityScale.of(study.image)
    image = from_uint8(to_uint8(scale.apply(placement.image_to_grid(study.image))))
    label = placement.label_to_native(segmenter.segment(image, spacing_mm))
    return np.stack([one_heart(frame) for frame in label])


def _whole_field(study: Study, spacing_mm: tuple[float, float, float]) -> Placement:
    """A grid that covers all of the image and no more."""
    native, slices = study.image.shape[1:], slices_on_grid(study, spacing_mm[2])
    x, y = (round(n * own / wanted) for n, own, wanted in zip(native, study.spacing_mm, spacing_mm[:2], strict=False))
    return Placement(native, study.affine, Grid((x, y, slices), spacing_mm), slices, (0, 0))
