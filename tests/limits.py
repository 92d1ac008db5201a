"""Limits on this process for as long as a block runs: a disk that is full, memory and time that end."""

import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class Overrun(BaseException):
    """No ``Exception``: code that catches all of them must not catch this one."""


@contextmanager
def files_below(size_bytes: int) -> Iterator[None]:
    """No file of this process can grow beyond ``size_bytes`` (pytest's own output must not run into it)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def work_within(seconds: float, more_bytes: int) -> Iterator[None]:
    """`Overrun` after ``seconds``; ``MemoryError`` for what would take ``more_bytes`` beyond what is taken now."""

    def stop(*_: Any) -> None:
        raise Overrun(f"longer than {seconds} s")

    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    before = signal.signal(signal.SIGALRM, stop)
    resource.setrlimit(resource.RLIMIT_AS, (used + more_bytes, hard))
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        signal.signal(signal.SIGALRM, before)
