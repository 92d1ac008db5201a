"""What every test stands on: real studies where there are any, and no network."""

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.once import made_once

if TYPE_CHECKING:
    from cinesynth.synthesis.pipeline import CinePipeline
    from cinesynth.types import Cine, Study

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
    from cinesynth.data.phantom import read_phantoms

    return made_once(tmp_path_factory, "phantoms", lambda folder: ingest(read_phantoms(10, frames=6), folder))


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


@pytest.fixture(scope="session")
def make_study() -> Callable[..., "Study"]:
    """Small studies drawn with rulers."""
    from tests.data.conftest import build_study

    return build_study


# --- pipelines of random weights -----------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def one_thread() -> Iterator[None]:
    """Tiny networks gain nothing from threads, and results can depend on their number."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> Path:
    """A weights folder of tiny random networks."""
    from tests.bundles import make_bundle

    return made_once(tmp_path_factory, "bundle", make_bundle) / "weights"


@pytest.fixture(scope="session")
def pipe(weights: Path) -> "CinePipeline":
    from cinesynth.synthesis.pipeline import CinePipeline

    return CinePipeline.from_pretrained(weights, device="cpu", precision="fp32")


@pytest.fixture(scope="session")
def per_frame_pipe(tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> "CinePipeline":
    """As in the paper: one residual a frame, tokens, group norms."""
    from cinesynth.synthesis.pipeline import CinePipeline
    from tests.bundles import make_bundle

    conditioning = [
        f"{stage}.denoiser.conditioning=cross_attention" for stage in ("anatomy_diffusion", "motion_diffusion")
    ]
    changes = ["residual_motion.harmonics=0", "vae.norm=group", "anatomy_diffusion.diffusion.guidance=2", *conditioning]
    folder = made_once(tmp_path_factory, "per_frame", lambda folder: make_bundle(folder, *changes))
    return CinePipeline.from_pretrained(folder / "weights", device="cpu", precision="fp32")


@pytest.fixture(scope="session")
def cine(pipe: "CinePipeline") -> "Cine":
    from cinesynth.types import ClinicalPrior, Diagnosis

    return pipe(ClinicalPrior.from_ef(Diagnosis.DCM, 280.0, 25.0, slices=7), frames=6, seed=7)
