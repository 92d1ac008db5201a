"""A reader never meets half a file, a failed write says what to do, and a folder has one writer at a time."""

import errno
import multiprocessing
import os
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from cinesynth.errors import OutputError
from cinesynth.io.files import (
    LOCK,
    atomic_path,
    holding,
    is_held,
    make_folder,
    only_writer,
    write_bytes,
    write_json,
    write_text,
    writing,
)
from tests.limits import files_below


def test_written_whole_and_nothing_beside(tmp_path: Path) -> None:
    path = tmp_path / "new" / "report.txt"
    write_text(path, "EDV 120 mL\r\nµ")
    assert path.read_bytes() == "EDV 120 mL\r\nµ".encode()
    assert list(path.parent.iterdir()) == [path]


def test_temporary_lies_beside_and_keeps_suffixes(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "case.nii.gz") as temporary:
        assert temporary.parent == tmp_path
        assert temporary.name.endswith("case.nii.gz")
        temporary.touch()


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt])
def test_failure_leaves_the_earlier_file(tmp_path: Path, failure: type[BaseException]) -> None:
    path = tmp_path / "a.bin"
    write_bytes(path, b"first")

    def write_half() -> None:
        with atomic_path(path) as temporary:
            temporary.write_bytes(b"sec")
            raise failure

    with pytest.raises(failure):
        write_half()
    assert path.read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [path]


def test_full_disk_is_an_output_error(tmp_path: Path) -> None:
    with files_below(65536), pytest.raises(OutputError, match=r"a\.bin could not be written") as caught:
        write_bytes(tmp_path / "a.bin", bytes(200_000))
    assert caught.value.hint
    assert not list(tmp_path.iterdir())


def test_full_disk_under_hdf5_is_an_output_error(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    full = files_below(65536)
    with full, pytest.raises(OutputError, match=r"a\.h5"), atomic_path(path) as tmp, h5py.File(tmp, "w") as file:
        file["image"] = np.zeros(200_000, dtype=np.uint8)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("number", "hint"),
    [(errno.ENOSPC, "free some space"), (errno.EROFS, "read-only"), (errno.EACCES, "permissions")],
)
def test_hint_follows_the_reason(number: int, hint: str) -> None:
    with pytest.raises(OutputError) as caught, writing(Path("out")):
        raise OSError(number, "reason")
    assert hint in caught.value.hint


def test_error_number_is_found_in_the_message_of_hdf5() -> None:
    with pytest.raises(OutputError, match="No space left") as caught, writing(Path("out")):
        raise OSError("Can't write data (file write failed: errno = 28, error message = '...')")
    assert "free some space" in caught.value.hint


def test_file_where_a_folder_is_needed(tmp_path: Path) -> None:
    write_text(tmp_path / "file", "x")
    with pytest.raises(OutputError):
        write_text(tmp_path / "file" / "below.txt", "x")
    with pytest.raises(OutputError):
        make_folder(tmp_path / "file")


def test_json_refuses_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"edv_ml": float("nan")})
    assert not list(tmp_path.iterdir())


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
