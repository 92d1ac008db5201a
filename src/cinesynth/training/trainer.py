"""The training loop of all stages: optimisers, averaging, validation, checkpoints, metrics, several processes."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.swa_utils import AveragedModel
from torch.utils.tensorboard import SummaryWriter

from cinesynth.config import OptimConfig
from cinesynth.errors import ConfigError, WeightsError
from cinesynth.io.files import make_folder, write_text
from cinesynth.io.tasks import ProgressCallback
from cinesynth.training.checkpoint import load_checkpoint, read_shards, save_checkpoint, write_shards
from cinesynth.training.stages import Deadline, Stage, TimeLimitReached

CHECKPOINT_MINUTES = 10.0
"""Longest time between checkpoints. Only with one process: several would have to agree on the time."""


def learning_rate_factor(step: int, settings: OptimConfig) -> float:
    """Factor on the learning rate: linear warm-up, then half a cosine down to the final fraction."""
    if step < settings.warmup_steps:
        return (step + 1) / settings.warmup_steps
    progress = (step - settings.warmup_steps) / max(1, settings.steps - settings.warmup_steps)
    low = settings.final_learning_rate_fraction
    return low + (1.0 - low) * 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))


class Trainer:
    """Trains one stage in ``folder``; a new trainer on the same folder resumes where the last one stopped."""

    def __init__(
        self,
        stage: Stage,
        folder: Path,
        accelerator: Accelerator,
        report: ProgressCallback,
        clock: Deadline | None = None,
    ) -> None:
        self.clock = clock or Deadline()
        self.stage, self.folder, self.accelerator, self.report = stage, make_folder(folder), accelerator, report
        settings = stage.settings
        self.cases = _share(settings.batch_size, accelerator)
        self.average = AveragedModel(stage.modules["model"], avg_fn=_warm_average(settings.ema_decay))
        self.average.to(accelerator.device)
        self.best = math.inf
        self.plain = dict(stage.modules)
        self.optimizers: dict[str, Any] = {}
        for name, module in self.plain.items():
            module.to(accelerator.device)
            if name == "model":
                _channels_last(module)
            # The learning rate is set anew before each step.
            optimizer = AdamW(module.parameters(), lr=1.0, weight_decay=settings.weight_decay)
            stage.modules[name], self.optimizers[name] = accelerator.prepare(module, optimizer)

    def run(self) -> nn.Module:
        """Train to the end; returns the averaged model that scored best on validation subjects.

        Raises `TimeLimitReached`, after a checkpoint, if the clock is over before the end.
        """
        stage, settings = self.stage, self.stage.settings
        start, begun = self._resume(), time.monotonic()
        saved = begun
        with Metrics(self.folder, start, self.accelerator.is_main_process) as metrics:
            for step in range(start, settings.steps):
                logs = self._step(step)
                done = step + 1
                if done % settings.validate_every_steps == 0 or done == settings.steps:
                    logs |= self._validate(done)
                metrics.write(done, logs)
                over = self.clock.over and done < settings.steps
                if over or self._is_due(done, saved):
                    self._save(done)
                    saved = time.monotonic()
                self.report(stage.name, done, settings.steps, logs)
                if over:
                    raise TimeLimitReached(
                        stage.name, done, settings.steps, (time.monotonic() - begun) / (done - start)
                    )
        return self._best()

    def _is_due(self, done: int, saved: float) -> bool:
        """Whether to write a checkpoint after ``done`` steps; the last one was written at the time ``saved``."""
        settings = self.stage.settings
        late = self.accelerator.num_processes == 1 and time.monotonic() - saved >= 60.0 * CHECKPOINT_MINUTES
        return late or done == settings.steps or done % settings.checkpoint_every_steps == 0

    def _step(self, step: int) -> dict[str, float]:
        settings = self.stage.settings
        factor = learning_rate_factor(step, settings)
        logs: dict[str, float] = {}
        for loss in self.stage.losses(step, self.cases):
            optimizer = self.optimizers[loss.module]
            rate = settings.learning_rate if loss.module == "model" else settings.discriminator_learning_rate
            for group in optimizer.param_groups:
                group["lr"] = rate * factor
            optimizer.zero_grad()
            self.accelerator.backward(loss.value)
            norm = self.accelerator.clip_grad_norm_(self.stage.modules[loss.module].parameters(), settings.clip_norm)
            self._check_finite(step, loss.module, loss.value, norm)
            optimizer.step()
            logs |= {f"{loss.module}/loss": float(loss.value.detach()), **loss.logs}
        self.average.update_parameters(self.plain["model"])
        return logs

    def _check_finite(self, step: int, module: str, value: Tensor, norm: Tensor | None) -> None:
        if not math.isfinite(float(value.detach())) or (norm is not None and not math.isfinite(float(norm))):
            raise ConfigError(
                f"{self.stage.name}: the loss of {module} is not finite at step {step}",
                hint=f"lower training.{self.stage.name}.learning_rate; the last checkpoint is intact",
            )

    @torch.no_grad()
    def _validate(self, done: int) -> dict[str, float]:
        averaged = self.average.module.eval()
        scores = self.stage.validate(averaged)
        if scores["score"] < self.best:
            self.best = scores["score"]
            if self.accelerator.is_main_process:
                write_shards(self.folder / "best", f"step-{done:08d}", averaged.state_dict(), {"step": done})
        if self.accelerator.is_main_process:
            self.stage.preview(averaged, self.folder / "previews" / f"step-{done:08d}.png")
        self.accelerator.wait_for_everyone()
        return {f"validation/{name}": value for name, value in scores.items()}

    def _best(self) -> nn.Module:
        found = read_shards(self.folder / "best")
        if found is None:
            raise WeightsError(
                f"{self.folder / 'best'}, the best weights of {self.stage.name}, is missing",
                hint=f"restore it, or delete {self.folder} to train the stage again",
            )
        model = self.plain["model"]
        model.load_state_dict(found[0])
        return model

    def _everything(self) -> dict[str, nn.Module]:
        return {**self.plain, "average": self.average}

    def _save(self, done: int) -> None:
        if self.accelerator.is_main_process:
            state = {"best": None if math.isinf(self.best) else self.best}
            save_checkpoint(self.folder / "checkpoints", done, self._everything(), self._raw_optimizers(), state)
        self.accelerator.wait_for_everyone()

    def _resume(self) -> int:
        state = load_checkpoint(self.folder / "checkpoints", self._everything(), self._raw_optimizers())
        if state.get("best") is not None:
            self.best = float(state["best"])
        return int(state.get("step", 0))

    def _raw_optimizers(self) -> dict[str, Any]:
        return {name: optimizer.optimizer for name, optimizer in self.optimizers.items()}


def _channels_last(module: nn.Module) -> None:
    """Store the weights of 2D and 3D convolutions channels-last, the fastest layout on CPUs and GPUs."""
    layouts = {4: torch.channels_last, 5: torch.channels_last_3d}
    for parameter in module.parameters():
        if parameter.dim() in layouts:
            parameter.data = parameter.data.contiguous(memory_format=layouts[parameter.dim()])


def _warm_average(decay: float) -> Callable[[Tensor, Tensor, Tensor | int], Tensor]:
    """Exponential average whose memory grows with the steps done, so that early weights are soon forgotten."""

    def update(averaged: Tensor, current: Tensor, count: Tensor | int) -> Tensor:
        return torch.lerp(current, averaged, min(decay, (1 + float(count)) / (10 + float(count))))

    return update


def _share(batch_size: int, accelerator: Accelerator) -> range:
    """The cases of the global batch that this process takes."""
    each, rest = divmod(batch_size, accelerator.num_processes)
    if rest:
        raise ConfigError(
            f"batch_size {batch_size} is not a multiple of {accelerator.num_processes} processes",
            hint=f"set it to {(each + 1) * accelerator.num_processes}",
        )
    return range(accelerator.process_index * each, (accelerator.process_index + 1) * each)


# --- Metrics ---------------------------------------------------------------------------------------------------------


class Metrics:
    """Appends to ``metrics.jsonl`` and ``tensorboard/``; on resuming, lines after the resumed step are dropped."""

    def __init__(self, folder: Path, start: int, active: bool) -> None:
        self.path, self.start, self.active = folder / "metrics.jsonl", start, active
        self.stream: TextIO | None = None
        self.board: SummaryWriter | None = None

    def __enter__(self) -> Metrics:
        if self.active:
            write_text(self.path, "".join(line + "\n" for line in self._kept()))
            self.stream = self.path.open("a")
            self.board = SummaryWriter(str(self.path.parent / "tensorboard"), purge_step=self.start)
        return self

    def __exit__(self, *_: object) -> None:
        if self.stream is not None and self.board is not None:
            self.stream.close()
            self.board.close()

    def write(self, step: int, logs: dict[str, float]) -> None:
        """Record one step."""
        if self.stream is None or self.board is None:
            return
        self.stream.write(json.dumps({"step": step, **logs}) + "\n")
        self.stream.flush()
        for name, value in logs.items():
            self.board.add_scalar(name, value, step)

    def _kept(self) -> list[str]:
        if not self.path.is_file():
            return []
        lines = [line for line in self.path.read_text().splitlines() if line.endswith("}")]
        return [line for line in lines if json.loads(line)["step"] <= self.start]
