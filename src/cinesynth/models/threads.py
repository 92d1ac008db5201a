"""Threads of torch: all of them for one network call, or one for each of several calls."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

MOST = 8
"""Most calls at a time: each holds the activations of a network."""
Item = TypeVar("Item")
Result = TypeVar("Result")


@contextmanager
def one_thread() -> Iterator[None]:
    """A single thread of torch in this process; a forked worker would wait forever for the threads of its parent."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def on_all_cores(
    task: Callable[[Item], Result], items: Iterable[Item], device: torch.device
) -> Generator[Result, None, None]:
    """Yield ``task(item)`` for each item, as many at a time as torch has threads (at most `MOST`), each by one of them.

    Networks as small as these use two cores 1.2 times as well this way, and what follows their calls is done beside
    them. Where ``device`` is no CPU, tasks come one after another. ``items`` are taken in the calling thread, at most
    one more than are computed. Tasks that have begun when the generator is closed are finished and forgotten.
    """
    threads = min(torch.get_num_threads(), MOST) if device.type == "cpu" else 1
    if threads < 2:
        yield from map(task, items)
        return

    @torch.inference_mode()  # it holds for one thread
    def run(item: Item) -> Result:
        return task(item)

    running: deque[Future[Result]] = deque()
    with one_thread(), ThreadPoolExecutor(threads) as pool:
        try:
            for item in items:
                running.append(pool.submit(run, item))
                if len(running) > threads:
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()
        finally:
            for future in running:
                future.cancel()


def background_thread(name: str) -> ThreadPoolExecutor:
    """One thread beside the calling one, in which torch computes without further threads.

    Otherwise OpenMP would give it as many as the calling thread has. With more of them than cores, GNU's OpenMP lets
    all threads sleep between two operations, and a training step takes a quarter longer or more.
    """
    threads = torch.get_num_threads()
    executor = ThreadPoolExecutor(1, name, torch.set_num_threads, (1,))
    executor.submit(torch.get_num_threads).result()  # now the thread has begun
    torch.set_num_threads(threads)  # some libraries have one number for all threads
    return executor
