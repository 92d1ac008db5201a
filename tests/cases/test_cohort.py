"""Cases are written beside the sampler, whole or not at all, and the table with them."""

import errno
import multiprocessing
import random
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from cinesynth.cases import cohort as manifest
from cinesynth.cases import writing as case
from cinesynth.cases.cohort import COHORT_TABLE, CohortTable, write_cohort_table
from cinesynth.cases.reading import read_sidecar
from cinesynth.cases.writing import case_folder, remove_stale
from cinesynth.errors import OutputError
from cinesynth.io.files import file_sha256, holding
from cinesynth.synthesis import cohort
from cinesynth.synthesis.cohort import draw_requests, generate_cohort
from cinesynth.synthesis.pipeline import CinePipeline
from cinesynth.synthesis.request import Request
from tests.synthesis.test_cohort import contents

ENTRIES = ["case_0000", "case_0001", "case_0002", COHORT_TABLE]


@pytest.fixture(scope="module")
def requests(pipe: CinePipeline) -> list[Request]:
    return draw_requests(pipe, 3, seed=4, frames=3, max_attempts=1)


@pytest.fixture(scope="module")
def whole(pipe: CinePipeline, requests: list[Request], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole")
    generate_cohort(pipe, requests, out, pictures=False)
    return out


def entries(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_case_is_written_while_the_next_is_made_and_one_waits_at_most(
    pipe: CinePipeline, requests: list[Request], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, save = CinePipeline._case, cohort.save_case
    made, saved, second = [], [], threading.Event()

    def seen(self: CinePipeline, plan: Any, *rest: Any) -> Any:
        made.append(len(saved))
        if len(made) == 2:
            second.set()
        return make(self, plan, *rest)

    def slow(*arguments: Any, **options: Any) -> Any:
        assert second.wait(60), "the second case was not begun while the first was written"
        time.sleep(0.2)
        saved.append(save(*arguments, **options))

    monkeypatch.setattr(CinePipeline, "_case", seen)
    monkeypatch.setattr(cohort, "save_case", slow)
    generate_cohort(pipe, requests, tmp_path, workers=1, pictures=False)
    assert made[:2] == [0, 0]
    assert made[2] >= 1  # with one being written and one waiting, none is begun
    assert entries(tmp_path) == ENTRIES


def test_a_disk_that_is_full_is_told_and_leaves_whole_cases(
    pipe: CinePipeline, requests: list[Request], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = case.write_label

    def full(cine: Any, path: Path) -> None:
        if "case_0001" in str(path):
            raise OSError(errno.ENOSPC, "No space left on device")
        write(cine, path)

    monkeypatch.setattr(case, "write_label", full)
    with pytest.raises(OutputError, match="case_0001 could not be written: No space left") as error:
        generate_cohort(pipe, requests, tmp_path, workers=1, pictures=False)
    assert "disk is full" in error.value.hint
    assert entries(tmp_path) == ["case_0000", COHORT_TABLE]


def test_each_sidecar_is_read_once_for_the_table(
    pipe: CinePipeline, requests: list[Request], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    monkeypatch.setattr(manifest, "read_sidecar", lambda folder: read.append(folder.name) or read_sidecar(folder))
    generate_cohort(pipe, requests, tmp_path, pictures=False)
    assert sorted(read) == ENTRIES[:3]


def test_a_table_that_takes_long_is_written_less_often(whole: Path) -> None:
    before, table = (whole / COHORT_TABLE).read_bytes(), CohortTable(whole, ENTRIES[:3], patience=1e9)
    table.refresh()
    (whole / COHORT_TABLE).unlink()
    table.refresh()
    assert not (whole / COHORT_TABLE).exists()
    assert [row["case"] for row in table.write()] == ENTRIES[:3]
    assert (whole / COHORT_TABLE).read_bytes() == before
    assert len(write_cohort_table(whole, [whole / "case_0001"])) == 1
    table.write()


def test_what_killed_processes_left_goes_and_what_is_written_now_stays(
    pipe: CinePipeline, requests: list[Request], tmp_path: Path
) -> None:
    """Of the cases of this share, that is: others may be at work on theirs."""
    left = [tmp_path / f".tmp-0123abcd-{name}" for name in ("case_0001", "case_0002", "case_0009", "notes")]
    for folder in left:
        folder.mkdir()
        (folder / "image.nii.gz").write_bytes(b"half")
    (tmp_path / ".tmp-0123abcd-case_0000-old").mkdir()
    (tmp_path / f".tmp-0123abcd-{COHORT_TABLE}").write_text("half")
    with holding(left[1]) as held:
        assert held
        generate_cohort(pipe, requests, tmp_path, pictures=False)
    assert entries(tmp_path) == sorted([*(folder.name for folder in left[1:]), *ENTRIES])


def test_a_case_is_held_while_it_is_written(tmp_path: Path) -> None:
    with case_folder(tmp_path / "case_0000") as temporary:
        case.remove_stale(tmp_path, {"case_0000"})
        assert temporary.is_dir()
    assert entries(tmp_path) == ["case_0000"]


@pytest.mark.slow
def test_a_cohort_killed_at_any_moment_goes_on_to_the_same_files(
    pipe: CinePipeline, requests: list[Request], tmp_path: Path
) -> None:
    """kill -9 at ten moments: whole cases alone then, and at last the bytes of an undisturbed run."""
    two = requests[:2]
    context, moments = multiprocessing.get_context("fork"), random.Random()
    begun_s = time.monotonic()
    generate_cohort(pipe, two, tmp_path / "undisturbed")
    lasts_s = time.monotonic() - begun_s
    expected = contents(tmp_path / "undisturbed")
    killed = 0
    for number in range(10):
        out = tmp_path / f"killed{number}"
        process = context.Process(target=generate_cohort, args=(pipe, two, out))
        process.start()
        process.join(moments.uniform(0.0, 1.1 * lasts_s))
        process.kill()
        process.join()
        killed += process.exitcode == -signal.SIGKILL
        end_s = time.monotonic() + 30.0
        while list(out.glob(".tmp-*")) and time.monotonic() < end_s:  # its workers end when they see that it is gone
            remove_stale(out, ENTRIES)
        for folder in out.glob("case_*"):
            files = (read_sidecar(folder) or pytest.fail(f"{folder} is half a case"))["files"]
            assert all(file_sha256(folder / name) == sha256 for name, sha256 in files.items())
        generate_cohort(pipe, two, out)
        assert contents(out) == expected
        assert entries(out) == [*ENTRIES[:2], COHORT_TABLE]
    assert killed >= 5
