"""The same work on many things by several processes, the results in the order of the things."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.context import BaseContext
from multiprocessing.reduction import ForkingPickler
from typing import Any, TypeVar

from cinesynth.errors import CinesynthError

Item = TypeVar("Item")
Result = TypeVar("Result")

FORK = sys.platform == "linux"
"""Forked workers take any task along. Elsewhere forking is absent or unsafe, and a task must be sent to them."""

_task: Callable[[Any], Any]
"""What this process was started for, where it is a worker."""


def in_order(
    task: Callable[[Item], Result], items: Sequence[Item], workers: int | None = None
) -> Generator[Result, None, None]:
    """``task`` of each item, done by up to ``workers`` processes (all cores by default), each at one item at a time.

    Only results come back, so memory is bounded by what one item takes in each worker. If the iterator is closed or
    interrupted, what was begun is finished and no more is begun; if this process is killed, its workers end. Where
    workers cannot be forked and the task cannot be sent to them, this process does everything itself.
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
            "a worker process was killed, most likely for want of memory",
            hint="use fewer workers; the same command goes on where it stopped",
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _context(task: Callable[[Any], Any]) -> BaseContext | None:
    if FORK:
        return multiprocessing.get_context("fork")
    try:
        ForkingPickler.dumps(task)
    except Exception:  # whatever a member of the task raises when it cannot be sent
        return None
    return multiprocessing.get_context("spawn")


def _begin(task: Callable[[Any], Any]) -> None:
    global _task
    _task = task
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interruption is for the parent to handle
    # A progress display of the parent may have been forked in the middle of a line, holding the lock of its stream.
    sys.stdout = sys.stderr = os.fdopen(2, "w", 1, closefd=False)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """The pool's own workers wait for work forever if their parent is killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _run(item: Any) -> Any:
    return _task(item)
