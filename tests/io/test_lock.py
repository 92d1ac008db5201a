"""Locks: one writer a folder, whose process is named; nothing stays locked by a process that is gone."""

import multiprocessing
import os
import time
from pathlib import Path

import pytest

from cinesynth.errors import OutputError
from cinesynth.io.lock import LOCK, holding, is_held, only_writer


def test_a_second_writer_is_refused_and_the_first_is_named(tmp_path: Path) -> None:
    out = tmp_path / "data"
    with only_writer(out):
        with pytest.raises(OutputError, match="another ingestion is writing") as caught, only_writer(out):
            pytest.fail("two at once")
        assert f"process {os.getpid()}" in caught.value.message
    assert not out.exists()  # it was created, and stayed empty


def test_what_a_process_that_is_gone_left_locks_nothing(tmp_path: Path) -> None:
    (tmp_path / LOCK).write_text("left behind by a process that is gone")
    with only_writer(tmp_path):
        assert (tmp_path / LOCK).read_text().startswith(f"process {os.getpid()} on ")
    assert list(tmp_path.iterdir()) == []


def hold(folder: Path) -> None:
    with holding(folder), only_writer(folder / "data"):
        time.sleep(60)


def test_a_killed_process_holds_nothing(tmp_path: Path) -> None:
    process = multiprocessing.get_context("spawn").Process(target=hold, args=(tmp_path,))
    process.start()
    end = time.monotonic() + 60
    while not (tmp_path / "data" / LOCK).exists():
        assert time.monotonic() < end
        time.sleep(0.05)
    assert is_held(tmp_path)
    process.kill()
    process.join()
    assert not is_held(tmp_path)
    with only_writer(tmp_path / "data"):
        assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]


def test_a_folder_is_held_without_a_file_in_it(tmp_path: Path) -> None:
    with holding(tmp_path) as held:
        assert held
        assert is_held(tmp_path)
        assert list(tmp_path.iterdir()) == []
    assert not is_held(tmp_path)
    with holding(tmp_path / "absent") as held:
        assert not held
