"""Ingestion at scale: several processes, killed and taken up again, and never two at once."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cinesynth.data.dataset_table import DatasetTable, data_hash
from cinesynth.data.ingest import ingest
from cinesynth.data.sources import Source
from cinesynth.data.store import KEPT, STAGING, content_key
from cinesynth.errors import CinesynthError, DataError, OutputError
from cinesynth.io.files import only_writer
from cinesynth.types import Study
from tests.data.conftest import build_study

COUNT = 5

KILLED = """
import sys, time
from pathlib import Path
from cinesynth.data.ingest import ingest
from cinesynth.data.sources import Source
from tests.data.test_store import heart

folder, out = map(Path, sys.argv[1:])
files = {path.stem: path for path in sorted(folder.iterdir())}

def read(name):
    if name > "s1":
        time.sleep(60)
    return heart(files[name])

ingest(Source(tuple(files), read, files=lambda name: (files[name],)), out, workers=3)
"""


@pytest.fixture(name="folder")
def _folder(tmp_path: Path) -> Path:
    """Files that each hold the number of a heart."""
    folder = tmp_path / "source"
    folder.mkdir()
    for seed in range(COUNT):
        (folder / f"s{seed}.txt").write_text(str(seed))
    return folder


def heart(path: Path) -> Study:
    """A small study whose subject and pixels come from the number in a file."""
    number = int(path.read_text())
    study = build_study(f"heart{number}", size=(32, 32, 4), spacing=(5.0, 5.0, 10.0))
    return replace(study, image=study.image + number)


class Reader:
    """Reads hearts from their files, and writes down which; ``before`` may do harm before one is read."""

    def __init__(self, folder: Path, before: Callable[[str], None] | None = None) -> None:
        self.files = {path.stem: path for path in sorted(folder.iterdir())}
        self.log = folder.parent / "log.txt"
        self.before = before

    def __call__(self, name: str) -> Study:
        if self.before:
            self.before(name)
        study = heart(self.files[name])
        with self.log.open("a") as file:
            file.write(f"{name}\n")
        return study

    def source(self) -> Source:
        return Source(tuple(self.files), self, files=lambda name: (self.files[name],))

    def seen(self) -> list[str]:
        """The names read since the last call."""
        text = self.log.read_text() if self.log.exists() else ""
        self.log.write_text("")
        return sorted(text.split())


def kept(out: Path) -> int:
    staging = out / STAGING
    return sum(bool(KEPT.fullmatch(path.name)) for path in staging.iterdir()) if staging.is_dir() else 0


def uninterrupted(folder: Path) -> str:
    ingest(Reader(folder).source(), folder.parent / "whole", workers=1)
    Reader(folder).seen()
    return data_hash(folder.parent / "whole")


def stop_at(name: str) -> Callable[[str], None]:
    def stop(current: str) -> None:
        if current == name:
            raise KeyboardInterrupt

    return stop


def test_the_number_of_workers_changes_nothing(folder: Path, tmp_path: Path) -> None:
    expected, steps = uninterrupted(folder), []
    for workers in (2, 4, None):
        steps.clear()
        out = tmp_path / f"by{workers}"
        ingest(Reader(folder).source(), out, workers=workers, progress=lambda *step: steps.append(step))
        assert data_hash(out) == expected
        assert steps == [("ingest", i + 1, COUNT, {}) for i in range(COUNT)]
        assert sorted(path.name for path in out.iterdir()) == ["dataset.csv", "dataset.json", "studies"]


@pytest.mark.parametrize("workers", [1, 2])
def test_an_interrupted_ingestion_goes_on(folder: Path, tmp_path: Path, workers: int) -> None:
    expected, out = uninterrupted(folder), tmp_path / "data"
    with pytest.raises(KeyboardInterrupt):
        ingest(Reader(folder, stop_at("s3")).source(), out, workers=workers)
    done = Reader(folder).seen()
    assert {"s0", "s1", "s2"} <= set(done)
    assert [path.name for path in out.iterdir()] == [STAGING]
    ingest(Reader(folder).source(), out, workers=workers)
    assert sorted(done + Reader(folder).seen()) == [f"s{i}" for i in range(COUNT)]
    assert data_hash(out) == expected
    assert not (out / STAGING).exists()


def test_a_changed_file_is_read_again(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "data"
    with pytest.raises(KeyboardInterrupt):
        ingest(Reader(folder, stop_at("s2")).source(), out, workers=1)
    assert Reader(folder).seen() == ["s0", "s1"]
    before = content_key(Reader(folder).source(), "s1")
    (folder / "s1.txt").write_text("7")
    assert content_key(Reader(folder).source(), "s1") != before
    ingest(Reader(folder).source(), out, workers=1)
    assert Reader(folder).seen() == ["s1", "s2", "s3", "s4"]
    assert "heart7" in {row.subject for row in DatasetTable.read(out)}
    assert not (out / STAGING).exists()


def test_another_recipe_is_another_study(folder: Path, tmp_path: Path) -> None:
    """What is done after reading decides as files do: nothing that was made otherwise is taken up."""
    out, plain = tmp_path / "data", Reader(folder, stop_at("s2")).source()
    with pytest.raises(KeyboardInterrupt):
        ingest(plain.map(in_a_group, "group A"), out, workers=1)
    assert Reader(folder).seen() == ["s0", "s1"]
    sources = [plain, plain.map(in_a_group, "group A"), plain.map(in_a_group, "group B")]
    sources.append(sources[1].map(in_a_group, "group B"))
    assert len({content_key(source, "s0") for source in sources}) == len(sources)
    ingest(Reader(folder).source().map(in_a_group, "group A"), out, workers=2)
    assert Reader(folder).seen() == ["s2", "s3", "s4"]
    assert {row.group for row in DatasetTable.read(out)} == {"A"}
    with pytest.raises(KeyboardInterrupt):
        ingest(plain.map(in_a_group, "group A"), tmp_path / "other", workers=1)
    Reader(folder).seen()
    ingest(Reader(folder).source(), tmp_path / "other", workers=1)
    assert len(Reader(folder).seen()) == COUNT
    assert {row.group for row in DatasetTable.read(tmp_path / "other")} == {""}


def in_a_group(study: Study) -> Study:
    return replace(study, group="A")


def test_half_written_and_damaged_studies_are_redone(folder: Path, tmp_path: Path) -> None:
    expected, out, source = uninterrupted(folder), tmp_path / "data", Reader(folder).source()
    with pytest.raises(KeyboardInterrupt):
        ingest(Reader(folder, stop_at("s2")).source(), out, workers=1)
    Reader(folder).seen()
    staging = out / STAGING
    damaged = staging / f"{content_key(source, 's1')}.h5"
    damaged.write_bytes(damaged.read_bytes()[:5000])
    (staging / ".tmp-0a1b2c3d-half.h5").write_bytes(b"half")
    ingest(source, out, workers=1)
    assert Reader(folder).seen() == ["s1", "s2", "s3", "s4"]
    assert data_hash(out) == expected


def test_a_killed_ingestion_goes_on(folder: Path, tmp_path: Path) -> None:
    expected, out = uninterrupted(folder), tmp_path / "data"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(folder), str(out)], env=environment)
    try:
        wait_for(lambda: kept(out) >= 2)
        with pytest.raises(OutputError, match=f"process {process.pid}"):
            ingest(Reader(folder).source(), out)
    finally:
        process.kill()
        process.wait()
    with pytest.raises(DataError, match="not a dataset"):
        DatasetTable.read(out)
    assert Reader(folder).seen() == []
    wait_for(lambda: free(out))  # the workers end with their parent
    ingest(Reader(folder).source(), out)
    assert Reader(folder).seen() == ["s2", "s3", "s4"]
    assert data_hash(out) == expected


def free(out: Path) -> bool:
    try:
        with only_writer(out):
            return True
    except OutputError:
        return False


def wait_for(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


def test_killed_while_the_studies_were_moved(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "data"
    (out / STAGING).mkdir(parents=True)
    (out / "studies").mkdir()
    (out / "studies" / "drawn_heart0.h5").write_bytes(b"moved, but never in a manifest")
    ingest(Reader(folder).source(), out, workers=1)
    assert data_hash(out) == uninterrupted(folder)


def test_a_killed_worker_is_told_and_costs_only_its_study(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "data"

    def die(name: str) -> None:
        if name == "s4":
            os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(CinesynthError, match="killed") as caught:
        ingest(Reader(folder, die).source(), out, workers=2)
    assert "fewer workers" in caught.value.hint
    finished = kept(out)
    assert 2 <= finished < COUNT
    Reader(folder).seen()
    ingest(Reader(folder).source(), out, workers=2)
    assert len(Reader(folder).seen()) == COUNT - finished
    assert len(DatasetTable.read(out)) == COUNT


def test_an_error_leaves_nothing_behind(folder: Path, tmp_path: Path) -> None:
    def refuse(name: str) -> None:
        if name == "s2":
            raise DataError("s2 is damaged")

    for workers in (1, 3):
        with pytest.raises(DataError, match="s2 is damaged"):
            ingest(Reader(folder, refuse).source(), tmp_path / "data", workers=workers)
        assert not (tmp_path / "data").exists()
        summary = ingest(Reader(folder, refuse).source(), tmp_path / f"{workers}", workers=workers, on_error="skip")
        assert [each.name for each in summary.skipped] == ["s2"]


def test_two_at_once_are_refused(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "data"
    ingest(Reader(folder).source(), out)
    before = data_hash(out)
    with only_writer(out):
        with pytest.raises(OutputError, match="another ingestion is writing"):
            ingest([build_study("another")], out)
        assert data_hash(out) == before
    assert ingest([build_study("another")], out).total == COUNT + 1
