"""What a run measured: JSONL for programs, TensorBoard for people."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TextIO

from torch.utils.tensorboard import SummaryWriter

from cinesynth.atomic import write_text


class Metrics:
    """Appends to ``metrics.jsonl`` and ``tensorboard/``; lines after the step resumed from are dropped."""

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
