"""Long tasks: reporting progress in one way, and applying a task to many items by several processes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.context import BaseContext
from multiprocessing.reduction import ForkingPickler
from typing import Any, Protocol, TypeVar

from threadpoolctl import threadpool_limits

from cinesynth.errors import CinesynthError

Item = TypeVar("Item")
Result = TypeVar("Result")

FORK = sys.platform == "linux"
"""Forked workers inherit the task. Elsewhere forking is absent or unsafe, so the task must be pickled."""

_task: Callable[[Any], Any]
"""The task of this process, if it is a worker."""


class ProgressCallback(Protocol):
    """Called whenever a step of a long task has ended.

    ``task`` names what is being done ("ingest", "vae", "generate"), ``done`` of ``total`` steps have ended, and
    ``metrics`` holds figures of the last step, by name; it may be empty. The task "case: motion" is the stage "motion"
    of "case". A callback that raises stops the task.
    """

    def __call__(self, task: str, done: int, total: int, metrics: Mapping[str, float], /) -> None:
        """Report that a step has ended."""


def no_progress(task: str, done: int, total: int, metrics: Mapping[str, float], /) -> None:
    """Ignore progress."""


def part_of(task: str, progress: ProgressCallback) -> ProgressCallback:
    """A callback whose tasks are reported to ``progress`` as stages of ``task``."""

    def report(stage: str, done: int, total: int, metrics: Mapping[str, float], /) -> None:
        progress(f"{task}: {stage}", done, total, metrics)

    return report


def ordered_map(
    task: Callable[[Item], Result], items: Sequence[Item], workers: int | None = None
) -> Generator[Result, None, None]:
    """Yield ``task(item)`` for each item, computed by up to ``workers`` processes (default: all cores).

    Each worker holds one item at a time and returns only its result, which bounds the memory. If the iterator is
    closed or interrupted, running items finish and no new one starts; if this process is killed, its workers end.
    Where workers cannot be forked and the task cannot be pickled, this process does all the work.
    `CinesynthError` if a worker was killed.
    """
    count, context = min(workers or cores(), len(items)), _context(task)
    if count < 2 or context is None:
        yield from map(task, items)
        return
    pool = ProcessPoolExecutor(count, context, _begin, (task,))
    try:
        yield from pool.map(_run, items)
    except BrokenProcessPool:
        raise CinesynthError(
            "a worker process was killed, most likely because memory ran out",
            hint="use fewer workers; the same command continues where it stopped",
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def cores() -> int:
    """Number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _context(task: Callable[[Any], Any]) -> BaseContext | None:
    if FORK:
        return multiprocessing.get_context("fork")
    try:
        ForkingPickler.dumps(task)
    except Exception:  # pickling may raise anything
        return None
    return multiprocessing.get_context("spawn")


def _begin(task: Callable[[Any], Any]) -> None:
    global _task
    _task = task
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles interruptions
    # One core a worker: threads of OpenBLAS, each waiting for the others, make an evaluation take twice as long. A fork
    # would besides wait forever for threads of its parent.
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"
    threadpool_limits(1, user_api="blas")
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
    # The fork may have copied a progress display in the middle of a line, with the lock of its stream taken.
    sys.stdout = sys.stderr = os.fdopen(2, "w", 1, closefd=False)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Exit when the parent is gone; otherwise a worker of a killed parent would wait for work forever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _run(item: Any) -> Any:
    return _task(item)
