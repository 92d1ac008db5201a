"""Threads of torch: the same results in order, whatever number of them there is."""

from collections.abc import Iterator

import pytest
import torch

from cinesynth.models.threads import background_thread, on_all_cores, one_thread

CPU = torch.device("cpu")


@pytest.fixture(params=[1, 2, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def test_results_come_in_order_each_from_one_thread(threads: int) -> None:
    def task(item: int) -> tuple[int, int, bool]:
        return item, torch.get_num_threads(), torch.is_inference_mode_enabled()

    with torch.inference_mode():
        results = list(on_all_cores(task, iter(range(9)), CPU))
    assert results == [(item, 1, True) for item in range(9)]
    assert torch.get_num_threads() == threads


def test_items_are_not_taken_before_their_time(threads: int) -> None:
    """A caller that stops at the third result has paid for few more."""
    taken: list[int] = []
    results = on_all_cores(lambda item: item, (taken.append(item) or item for item in range(100)), CPU)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    results.close()
    assert len(taken) <= 3 + threads
    assert torch.get_num_threads() == threads


def test_an_error_reaches_the_caller(threads: int) -> None:
    with pytest.raises(ZeroDivisionError):
        list(on_all_cores(lambda item: 1 // item, [1, 0, 1], CPU))
    assert torch.get_num_threads() == threads


def test_one_thread_is_for_its_block_alone(threads: int) -> None:
    def fail() -> None:
        assert torch.get_num_threads() == 1
        raise KeyError

    with pytest.raises(KeyError), one_thread():
        fail()
    assert torch.get_num_threads() == threads


def test_a_background_thread_computes_alone(threads: int) -> None:
    with background_thread("batches") as executor:
        assert executor.submit(torch.get_num_threads).result() == 1
        assert torch.get_num_threads() == threads
