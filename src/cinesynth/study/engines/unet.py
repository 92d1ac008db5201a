"""The light engine: the 2D U-Net of ``cinesynth train segmenter``, for CPUs and quick answers."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator

from cinesynth.config import Config, load_config
from cinesynth.data.geometry import Grid, place
from cinesynth.data.intensity import IntensityScale, from_uint8, to_uint8
from cinesynth.data.manifest import Row
from cinesynth.data.packed import load_study, prepare
from cinesynth.data.phantom import PHANTOM
from cinesynth.evaluation.segmenter import NAME, Segmenter
from cinesynth.models.weights import save_stage
from cinesynth.study.cells import Task, wanted
from cinesynth.study.datasets import without_labels
from cinesynth.study.judge import judged
from cinesynth.study.spec import UNetSpec
from cinesynth.training.precision import resolve_precision
from cinesynth.training.slice_unet import SliceUNet
from cinesynth.training.stage_segmenter import SegmenterStage
from cinesynth.training.trainer import Report, Trainer
from cinesynth.types import LabelArray, Study


@dataclass(frozen=True)
class UNet:
    """Every cell takes the same steps and keeps the average of the last: nobody is needed to choose one."""

    spec: UNetSpec

    def config(self, task: Task) -> Config:
        """The settings of a cell."""
        config = load_config(self.spec.preset, self.spec.set)
        last = config.training.segmenter.steps
        phantoms = sum(row.dataset == PHANTOM for row in task.rows) / len(task.rows)  # everybody is drawn as often
        own = {"augment": task.augment, "validate_every_steps": last, "phantom_share": phantoms}
        segmenter = config.training.segmenter.model_copy(update=own)
        training = config.training.model_copy(update={"segmenter": segmenter, "seed": task.seed})
        return config.model_copy(update={"training": training})

    def train(self, task: Task, report: Report) -> None:
        """Train on the rows of the task."""
        if (task.folder / f"{NAME}.json").is_file():
            return
        config = self.config(task)
        packed = prepare(task.pool, Grid.from_config(config.grid))
        names = wanted(task.rows)
        part = packed.where([f"{r.dataset}_{r.subject}" in names for r in packed.records])
        accelerator = Accelerator(mixed_precision=resolve_precision(config.training.precision))
        torch.manual_seed(task.seed)
        network = SliceUNet(config.segmenter)
        stage = SegmenterStage(network, config, part, part, accelerator.device)
        trained = Trainer(stage, task.folder / "training", accelerator, report).run()
        network.load_state_dict(trained.state_dict())
        count = {d: sum(r.dataset == d for r in part.records) for d in sorted({r.dataset for r in part.records})}
        seen = {"split": "train", "subjects": count, "frames": sum(len(r.phases) for r in part.records)}
        save_stage(task.folder, NAME, network.cpu(), config, {"data_hash": packed.data_hash, "trained_on": seen})
        shutil.rmtree(task.folder / "training")

    def labels(self, task: Task, data: Path, people: Sequence[Row]) -> Iterator[LabelArray]:
        """Labels on the scanner's grid, by a network that is told nothing but the images."""
        segmenter, grid = Segmenter.load(task.folder), Grid.from_config(self.config(task).grid)
        for row in people:
            yield label_of(segmenter, grid, judged(load_study(data, row)))


def label_of(segmenter: Segmenter, grid: Grid, study: Study) -> LabelArray:
    """What ``segmenter`` sees in all frames of ``study``, ``T X Y Z`` in its voxels: where things move is its heart."""
    placement = place(without_labels(study), grid)
    scale = IntensityScale.of(study.image)
    image = from_uint8(to_uint8(scale.apply(placement.image_to_grid(study.image))))
    label = np.zeros(image.shape, dtype=np.uint8)
    label[..., placement.slice_mask] = segmenter.segment(image[..., placement.slice_mask], grid.spacing_mm)
    return placement.label_to_native(label)
