"""Several processes, one order of results."""

import math
import multiprocessing
import os
from collections.abc import Sequence
from contextlib import closing

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from cinesynth.io import tasks
from cinesynth.io.tasks import ordered_map


def negative(value: float) -> float:
    return -value


def identity_of(_: int) -> int:
    return os.getpid()


def fails_at_two(value: int) -> int:
    if value == 2:
        raise ValueError("two")
    return value


@pytest.mark.parametrize("workers", [1, 3])
def test_results_come_in_order(workers: int) -> None:
    assert list(ordered_map(negative, range(20), workers)) == [-i for i in range(20)]
    assert list(ordered_map(negative, [], workers)) == []
    assert (os.getpid() in set(ordered_map(identity_of, range(4), workers))) == (workers == 1)
    results: list[int] = []
    with pytest.raises(ValueError, match="two"):
        results.extend(ordered_map(fails_at_two, range(5), workers))
    with closing(ordered_map(negative, range(1000), workers)) as outcomes:
        assert next(outcomes) == 0
    assert multiprocessing.active_children() == []


def blas_threads(_: int) -> list[int]:
    return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]


def test_a_worker_takes_one_core() -> None:
    """Threads of NumPy's matrices would take the cores of other workers: an evaluation took twice as long."""
    np.ones((2, 2)) @ np.ones((2, 2))
    for threads in ordered_map(blas_threads, range(4), 2):
        assert threads
        assert set(threads) == {1}


def test_without_forking_what_can_be_sent_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "FORK", False)
    values: Sequence[float] = [1.0, 4.0, 9.0]
    assert list(ordered_map(math.sqrt, values, 2)) == [1.0, 2.0, 3.0]
    here = os.getpid()
    assert set(ordered_map(lambda _: os.getpid(), values, 2)) == {here}
