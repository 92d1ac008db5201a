"""What the stages of a training run share: data, codec, cached latents, and how a stage starts and ends."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from torch import nn

from cinesynth.config import Config
from cinesynth.config.migration import stage_path
from cinesynth.data.packed import PackedDataset, Record
from cinesynth.errors import ConfigError, WeightsError
from cinesynth.io.files import make_folder, write_text
from cinesynth.io.reproducibility import describe_environment
from cinesynth.io.tasks import ProgressCallback
from cinesynth.models.build import build_codec
from cinesynth.models.codec import Codec
from cinesynth.training.frames import FrameSampler
from cinesynth.training.latents import CacheSpec, LatentSequence, cached_sequences
from cinesynth.training.stages import Deadline, Stage
from cinesynth.training.trainer import Trainer
from cinesynth.weights.folder import load_stage, read_json, save_stage, source_of, stage_info

PACKAGES = ("torch", "numpy", "diffusers", "accelerate", "monai", "nibabel", "h5py", "safetensors")
"""Libraries whose versions are recorded with a run."""


@dataclass
class Session:
    """What the stages of one invocation share."""

    config: Config
    data: PackedDataset
    path: Path  # of the run
    accelerator: Accelerator
    report: ProgressCallback
    clock: Deadline
    initial: Path | None = None  # weights folder or run whose networks training starts from

    def start(self, stage: str, module: nn.Module | None) -> dict[str, Any]:
        """Fill ``module`` with the initial weights, if there are any; returns what to record about them.

        Raises `ConfigError` if the stage was begun from other weights, `WeightsError` if they do not fit.
        """
        started: dict[str, Any] = {}
        if self.initial is not None and module is not None:
            try:
                started = {"started_from": load_stage(self.initial, stage, module)["id"]}
            except WeightsError as error:
                hint = "start from weights of the same preset and conditions, or leave out --initial"
                raise WeightsError(f"{stage} cannot start from {self.initial}: {error.message}", hint=hint) from None
        saved = make_folder(stage_path(self.path, stage)) / "start.json"
        if not saved.is_file():
            write_text(saved, json.dumps(started))
        elif (before := read_json(saved, f"stage {stage} of {self.path}")) != started:
            names = [str(x.get("started_from", "nothing"))[:12] for x in (before, started)]
            raise ConfigError(
                f"{stage} of {self.path} was begun from {names[0]}, now it should start from {names[1]}",
                hint="use the same --initial, or another --run",
            )
        return started

    def codec(self, stage: str = "vae") -> Codec:
        """The trained codec of this run, frozen; of the ``decoder`` stage where it is asked for and there is one."""
        codec = build_codec(self.config)
        load_stage(self.path, source_of(self.path, stage), codec)
        return codec.eval().requires_grad_(False).to(self.accelerator.device)

    def sequences(
        self, split: str, spec: CacheSpec, phantoms: bool = True
    ) -> tuple[FrameSampler, list[LatentSequence]]:
        """The frames of a split and their cached latents; without ``phantoms``, of patients only (if any)."""
        frames = FrameSampler(self.data.split(split), self.config.training.seed, 1.0)
        subjects = sorted([*frames.patients, *(frames.phantoms if phantoms or not frames.patients else [])])
        vae = stage_info(self.path, "vae")["id"][:12]
        path = self.path / "latents" / f"{split}-{vae}-{spec}-{len(subjects)}"
        with self.accelerator.main_process_first(), self.accelerator.autocast():
            return frames, cached_sequences(path, self.codec(), frames, subjects, spec, self.report, self.clock)

    def train(self, stage: Stage) -> None:
        """Train a stage in its folder of the run; its module is then the best model."""
        Trainer(stage, stage_path(self.path, stage.name), self.accelerator, self.report, self.clock).run()

    def finish(self, stage: str, module: nn.Module, subjects: list[Record] | None = None, **further: Any) -> None:
        """Write the weights of a finished stage, trained on ``subjects``: by default those of the whole split."""
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            environment = describe_environment(PACKAGES) | {"stage": stage}
            with (self.path / "environment.jsonl").open("a") as stream:
                stream.write(json.dumps(environment) + "\n")
            records = self.data.split("train").records if subjects is None else subjects
            by_dataset = Counter(record.dataset for record in records)
            frames = sum(len(record.phases) for record in records)
            trained_on = {"split": "train", "subjects": dict(by_dataset), "frames": frames, **further}
            info = {"data_hash": self.data.data_hash, "trained_on": trained_on, "environment": environment}
            save_stage(self.path, stage, module.cpu(), self.config, info)
        self.accelerator.wait_for_everyone()
