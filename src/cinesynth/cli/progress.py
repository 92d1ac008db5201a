"""What a long verb is doing, on stderr: a live display on a terminal, elsewhere a plain line a minute."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from cinesynth.cli import console

if TYPE_CHECKING:
    from cinesynth.io.tasks import ProgressCallback

if TYPE_CHECKING:
    from cinesynth.config import Config
    from cinesynth.types import Precision

LINE_EVERY_S = 60.0
Clock = Callable[[], float]


def announce(weights: Path | str | None, device: str | None = None, precision: Precision = "auto") -> Path:
    """Say which weights compute where, before they are read; returns their folder."""
    from cinesynth.weights.registry import find_bundle

    folder = find_bundle(weights)
    console.err.print(f"weights {folder.name}, {_machine(device, precision)}", markup=False)
    return folder


def announce_training(stages: list[str], config: Config, run: Path) -> None:
    """Say what is trained where, before the data are read."""
    machine = _machine(None, config.training.precision)
    console.err.print(f"train {', '.join(stages)} of {config.preset} in {run}, {machine}", markup=False)


def _machine(device: str | None, precision: Precision) -> str:
    import torch

    from cinesynth.models.precision import resolve_precision
    from cinesynth.synthesis.pipeline import default_device

    device = device or default_device()
    computed_in = resolve_precision(precision, device.partition(":")[0])
    return f"{device}, {computed_in}, {torch.get_num_threads()} threads"


@contextmanager
def shown(doing: str) -> Iterator[ProgressCallback]:
    """Show the steps that are reported to the callback, and ``doing`` until there are any."""
    tasks = Tasks(doing, time.monotonic)
    if console.err.is_terminal:
        from rich.live import Live

        with Live(get_renderable=tasks.table, console=console.err, refresh_per_second=2):
            yield _with_validation(tasks.step)
    else:
        log = Log(tasks, lambda text: console.err.print(text, markup=False))
        with _every_second(log.tick):
            yield _with_validation(log.step)


# --- Tasks under way -------------------------------------------------------------------------------------------------


@dataclass
class Task:
    """Steps of one task. Time is seconds of a clock."""

    text: str
    first: int
    """Steps that were done when it was first heard of."""
    done: int
    total: int
    begun_s: float
    stepped_s: float
    figures: str = ""

    def left(self, now_s: float) -> str:
        """The time that is left, at the mean pace so far; empty while there is none."""
        if self.done <= self.first or self.done >= self.total:
            return ""
        pace_s = (self.stepped_s - self.begun_s) / (self.done - self.first)
        left_s = pace_s * (self.total - self.done) - (now_s - self.stepped_s)
        return f"{timedelta(seconds=round(max(left_s, 0.0)))} left"

    def line(self, now_s: float) -> str:
        """For a log."""
        counted = f"{self.text} {self.done}/{self.total}"
        return "  ".join(filter(None, (", ".join(filter(None, (counted, self.left(now_s)))), self.figures)))


class Tasks:
    """Tasks in the order in which they began; `step` is a `ProgressCallback`.

    A step of a task ends those that began after it: they were its parts. ``doing`` stands for the first.
    """

    def __init__(self, doing: str, clock: Clock) -> None:
        self.doing, self.clock = doing, clock
        self._tasks: dict[str, Task] = {}
        self._lock = threading.Lock()  # cases are written, and displays refreshed, by other threads

    def step(self, task: str, done: int, total: int, figures: Mapping[str, float], /) -> None:
        """A step has ended."""
        name, now_s = task.partition(":")[0], self.clock()
        told = "  ".join(f"{key.split('/')[-1]} {value:.4g}" for key, value in list(figures.items())[:6])
        with self._lock:
            known = self._tasks.get(name)
            if known is None or done < known.done or total != known.total:
                known = Task(task, done, done, total, now_s, now_s)
            known.text, known.done, known.stepped_s, known.figures = task, done, now_s, told or known.figures
            names = list(self._tasks)
            for later in names[names.index(name) :] if name in names else ():
                del self._tasks[later]
            self._tasks[name] = known

    def lines(self) -> list[str]:
        """The tasks that are not finished; the last one if all are."""
        with self._lock:
            tasks = list(self._tasks.values())
        unfinished = [task for task in tasks if task.done < task.total] or tasks[-1:]
        return [task.line(self.clock()) for task in unfinished] or [self.doing]

    def table(self) -> Table:
        """For a terminal: all tasks with bars."""
        from rich.progress_bar import ProgressBar

        with self._lock:
            tasks, now_s = list(self._tasks.values()), self.clock()
        table = Table.grid(padding=(0, 1))
        for task in tasks:
            until_s = now_s if task.done < task.total else task.stepped_s
            elapsed, counted = timedelta(seconds=round(until_s - task.begun_s)), f"{task.done}/{task.total}"
            bar = ProgressBar(task.total, task.done, width=30)
            table.add_row(Text(task.text), bar, counted, str(elapsed), task.left(now_s), task.figures)
        if not tasks:
            table.add_row(Text(self.doing), ProgressBar(pulse=True, width=30))
        return table


class Log:
    """Plain lines: at once what is new, then all that is under way once a minute, whether or not a step ends."""

    def __init__(self, tasks: Tasks, say: Callable[[str], None]) -> None:
        self.tasks, self.say = tasks, say
        self._known: set[str] = set()
        self._tell(tasks.doing)

    def step(self, task: str, done: int, total: int, figures: Mapping[str, float], /) -> None:
        """A step has ended."""
        self.tasks.step(task, done, total, figures)
        name = task.partition(":")[0]
        if name not in self._known:
            self._known.add(name)
            self._tell(f"{task} {done}/{total}")

    def tick(self) -> None:
        """Say what is under way if a minute has passed without a line."""
        if self.tasks.clock() >= self._said_s + LINE_EVERY_S:
            self._tell("; ".join(self.tasks.lines()))

    def _tell(self, text: str) -> None:
        self._said_s = self.tasks.clock()
        self.say(text)


@contextmanager
def _every_second(tick: Callable[[], None]) -> Iterator[None]:
    over = threading.Event()

    def run() -> None:
        while not over.wait(1.0):
            tick()

    thread = threading.Thread(target=run, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _with_validation(step: ProgressCallback) -> ProgressCallback:
    """``step``, and a line that stays for the scores of each validation."""

    def told(task: str, done: int, total: int, figures: Mapping[str, float], /) -> None:
        step(task, done, total, figures)
        scores = {k.removeprefix("validation/"): v for k, v in figures.items() if k.startswith("validation/")}
        if scores:
            console.err.print(f"{task} {done}/{total}  " + "  ".join(f"{k} {v:.4g}" for k, v in scores.items()))

    return told
