"""What every test stands on: real studies where there are any, and no network."""

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., tuple[int, str, str]]
os.environ.pop("COLUMNS", None)  # consoles would keep the width that parallel test processes are started with
LOOPBACK = ("127.0.0.1", "::1", "localhost")


@pytest.fixture(scope="session")
def cine_data() -> Path:
    """The folder of real studies named by CINE_DATA."""
    folder = os.environ.get("CINE_DATA")
    if not folder:
        pytest.skip("CINE_DATA is not set: it names a folder of real studies (acdc/training/...)")
    assert Path(folder).is_dir(), f"CINE_DATA={folder} is not a folder"
    return Path(folder)


@pytest.fixture(scope="session")
def acdc_root(cine_data: Path) -> Path:
    """A real ACDC folder, ``training/patientNNN`` below it."""
    return cine_data / "acdc"


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here may reach beyond this machine."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        if self.family != getattr(socket, "AF_UNIX", None) and address[0] not in LOOPBACK:
            raise AssertionError(f"a test reached for the network: {address}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture(scope="session", autouse=True)
def no_settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nobody's own settings are read or written: no default weights but those of the package."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("settings")))
        patch.delenv("CINESYNTH_WEIGHTS", raising=False)
        yield


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of ten analytic hearts of six frames: 7 in training, 1 in validation, 2 in test."""
    from cinesynth.data.ingest import ingest
    from cinesynth.data.sources.phantom import read_phantoms

    folder = tmp_path_factory.mktemp("phantoms") / "dataset"
    ingest(read_phantoms(10, frames=6), folder)
    return folder


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command line; returns exit code, stdout and stderr."""
    from cinesynth.cli import main

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setenv("COLUMNS", "300")  # tables tell of paths, which are long
        monkeypatch.setattr("sys.argv", ["cinesynth", *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        return code, *capsys.readouterr()

    return call
