"""The training loop of all stages: optimisers, averaging, validation, checkpoints, metrics, several processes."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.swa_utils import AveragedModel
from torch.utils.tensorboard import SummaryWriter

from cinesynth.config.training import OptimConfig
from cinesynth.errors import ConfigError, WeightsError
from cinesynth.io.files import make_folder, write_text
from cinesynth.io.tasks import ProgressCallback
from cinesynth.training.checkpoint import load_checkpoint, read_shards, save_checkpoint, write_shards
from cinesynth.training.stages import Deadline, Stage, TimeLimitReached

CHECKPOINT_MINUTES = 10.0
"""Longest time between checkpoints. Only with one process: several would have to agree on the time."""
FASTEST_LAYOUTS = {4: torch.channels_last, 5: torch.channels_last_3d}
"""Of the weights of 2D and 3D convolutions on CPUs and GPUs, by their number of dimensions."""


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
        self.stage, self.folder, self.accelerator, self.report = stage, make_folder(folder), accelerator, report
        self.clock, settings, processes = clock or Deadline(), stage.settings, accelerator.num_processes
        each, rest = divmod(settings.batch_size, processes)
        if rest:
            raise ConfigError(
                f"batch_size {settings.batch_size} is not a multiple of {processes} processes",
                hint=f"--set training.{stage.name}.batch_size={(each + 1) * processes}",
            )
        # The cases of the global batch that this process takes.
        self.cases = range(accelerator.process_index * each, (accelerator.process_index + 1) * each)
        self.best = math.inf
        self.plain = dict(stage.modules)
        self.optimizers: dict[str, Any] = {}
        for name, module in self.plain.items():
            module.to(accelerator.device)
            for parameter in module.parameters():
                if parameter.dim() in FASTEST_LAYOUTS:
                    parameter.data = parameter.data.contiguous(memory_format=FASTEST_LAYOUTS[parameter.dim()])
            if name == "model":  # before it is prepared: validation has the precision of the weights
                self.average = AveragedModel(module, multi_avg_fn=_warm_average(settings.ema_decay))
            # The learning rate is set anew before each step.
            how: dict[str, Any] = {"betas": settings.betas, "weight_decay": settings.weight_decay, "fused": True}
            optimizer = AdamW(module.parameters(), lr=1.0, **how)
            stage.modules[name], self.optimizers[name] = accelerator.prepare(module, optimizer)
        # What a checkpoint holds.
        self.everything: dict[str, nn.Module] = {**self.plain, "average": self.average}
        self.raw_optimizers = {name: optimizer.optimizer for name, optimizer in self.optimizers.items()}

    def run(self) -> nn.Module:
        """Train to the end; returns the averaged model that scored best on validation subjects.

        Raises `TimeLimitReached`, after a checkpoint, if the clock is over before the end.
        """
        stage, settings = self.stage, self.stage.settings
        state = load_checkpoint(self.folder / "checkpoints", self.everything, self.raw_optimizers)
        if state.get("best") is not None:
            self.best = float(state["best"])
        start, begun = int(state.get("step", 0)), time.monotonic()
        saved = begun
        with metrics_writer(self.folder, start, self.accelerator.is_main_process) as write_metrics:
            for step in range(start, settings.steps):
                logs = self._step(step)
                done = step + 1
                if done % settings.validate_every_steps == 0 or done == settings.steps:
                    logs |= self._validate(done)
                write_metrics(done, logs)
                over = self.clock.over and done < settings.steps
                late = self.accelerator.num_processes == 1 and time.monotonic() - saved >= 60.0 * CHECKPOINT_MINUTES
                if over or late or done == settings.steps or done % settings.checkpoint_every_steps == 0:
                    self._save(done)
                    saved = time.monotonic()
                self.report(stage.name, done, settings.steps, logs)
                if over:
                    each = (time.monotonic() - begun) / (done - start)
                    raise TimeLimitReached(stage.name, done, settings.steps, each)
        return self._best()

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
            value = float(loss.value.detach())
            if not math.isfinite(value) or (norm is not None and not math.isfinite(float(norm))):
                key = "learning_rate" if loss.module == "model" else "discriminator_learning_rate"
                raise ConfigError(
                    f"{self.stage.name}: the loss of {loss.module} is not finite at step {step}",
                    hint=f"train the stage again with a lower rate: remove {self.folder}, and repeat the command with "
                    f"--set training.{self.stage.name}.{key}={rate / 2:g}; finished stages stay",
                )
            optimizer.step()
            logs |= {f"{loss.module}/loss": value, **loss.logs}
        self.average.update_parameters(self.plain["model"])
        return logs

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

    def _save(self, done: int) -> None:
        if self.accelerator.is_main_process:
            state = {"best": None if math.isinf(self.best) else self.best}
            save_checkpoint(self.folder / "checkpoints", done, self.everything, self.raw_optimizers, state)
        self.accelerator.wait_for_everyone()


def _warm_average(decay: float) -> Callable[[Sequence[Tensor], Sequence[Tensor], Tensor | int], None]:
    """Exponential average whose memory grows with the steps done, so that early weights are soon forgotten."""

    @torch.no_grad()
    def update(averaged: Sequence[Tensor], current: Sequence[Tensor], count: Tensor | int) -> None:
        kept = min(decay, (1 + float(count)) / (10 + float(count)))
        torch._foreach_lerp_(list(averaged), list(current), 1.0 - kept)

    return update


# --- Metrics ---------------------------------------------------------------------------------------------------------


@contextmanager
def metrics_writer(folder: Path, start: int, active: bool) -> Iterator[Callable[[int, dict[str, float]], None]]:
    """A function that appends a step to ``metrics.jsonl`` and ``tensorboard/``, or does nothing unless ``active``.

    On resuming, lines after the resumed step are dropped.
    """
    if not active:
        yield lambda step, logs: None
        return
    path = folder / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.is_file() else []
    whole = [line for line in lines if line.endswith("}")]  # a killed process may leave half a line
    write_text(path, "".join(line + "\n" for line in whole if json.loads(line)["step"] <= start))
    board = SummaryWriter(str(folder / "tensorboard"), purge_step=start)
    with path.open("a") as stream, closing(board):

        def write(step: int, logs: dict[str, float]) -> None:
            stream.write(json.dumps({"step": step, **logs}) + "\n")
            stream.flush()
            for name, value in logs.items():
                board.add_scalar(name, value, step)

        yield write
