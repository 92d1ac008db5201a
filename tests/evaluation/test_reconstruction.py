"""What the code of a cycle keeps of whole cycles."""

import numpy as np
import pytest
import torch

from cinesynth.config import Config, load_config
from cinesynth.data.geometry import Grid
from cinesynth.data.ingest import ingest
from cinesynth.data.packed import PackedDataset, prepare
from cinesynth.data.phantom import phantom_study
from cinesynth.evaluation.reconstruction import score_cycles, summary
from cinesynth.models.build import build_codec, build_residual_motion
from cinesynth.models.codec import Codec
from cinesynth.weights.folder import load_stage
from cinesynth.weights.registry import shipped_bundles


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> PackedDataset:
    """Two whole cycles of sixteen frames, and one of six, too few for six functions of time."""
    folder = tmp_path_factory.mktemp("cycles") / "dataset"
    studies = [phantom_study(300 + i, frames=n).study for i, n in enumerate((16, 16, 6))]
    ingest(studies, folder, fractions=(0.0, 0.0, 1.0))
    return prepare(folder, Grid.from_config(config().grid))


def config() -> Config:
    return load_config("small")


@pytest.fixture(scope="module")
def codec() -> Codec:
    found = build_codec(config())
    load_stage(shipped_bundles()["phantom"], "vae", found)
    return found.eval()


def test_a_cycle_keeps_nearly_all_in_its_code_and_less_from_its_ends(held: PackedDataset, codec: Codec) -> None:
    motion = build_residual_motion(config())
    load_stage(shipped_bundles()["phantom"], "residual_motion", motion)
    scores = score_cycles(codec, motion.eval(), held)
    assert [s.frames for s in scores] == [16, 16]
    for s in scores:
        assert s.psnr_codec - 1.5 < s.psnr_code < s.psnr_codec + 0.5
        assert s.psnr_ends < s.psnr_code
        assert s.rmse_code is not None
        assert s.rmse_ends is not None
        assert s.rmse_code < 3.0
        assert s.rmse_ends < 10.0  # phantoms taught this code how a phantom's cycle goes
    found = summary(scores)
    assert found["subjects"] == 2
    assert found["psnr_code"] == pytest.approx(np.mean([s.psnr_code for s in scores]))


def test_codes_of_single_frames_have_no_cycle(held: PackedDataset, codec: Codec) -> None:
    per_frame = build_residual_motion(load_config("small", ["residual_motion.harmonics=0"]))
    assert score_cycles(codec, per_frame, held) == []
    assert summary([]) == {
        "subjects": 0,
        **dict.fromkeys(("psnr_codec", "psnr_code", "psnr_ends", "rmse_code", "rmse_ends")),
    }


def test_a_heart_that_does_not_move_is_kept_exactly(held: PackedDataset, codec: Codec) -> None:
    motion = build_residual_motion(config()).eval()  # its head is zero: the residual is the difference of the latents

    class Frozen(torch.nn.Linear):
        def forward(self, ed: torch.Tensor, frame: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            return torch.zeros_like(ed)

    motion.network = Frozen(1, 1)  # type: ignore[assignment]
    for s in score_cycles(codec, motion, held):
        assert s.psnr_code == pytest.approx(s.psnr_ends)
        assert s.psnr_code < s.psnr_codec  # ED in place of every frame
        assert s.rmse_code is not None
        assert s.rmse_code > 2.0  # one of the two ejects little
