"""A user's I3D weights as a measurer of whole cycles: the features of FVD (Unterthiner et al., 2018)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from cinesynth.data.likeness.view import slices_at
from cinesynth.errors import WeightsError
from cinesynth.evaluation.cases import Case
from cinesynth.evaluation.extract.i3d import CLASSES, I3D
from cinesynth.evaluation.extract.network import evenly, one_thread
from cinesynth.evaluation.measure import Measurer
from cinesynth.files import file_sha256
from cinesynth.models.weights import read_tensors

FRAMES, SIDE_PX = 16, 224


@dataclass(frozen=True)
class VideoExtractor:
    """I3D with the weights of ``path``, whose bytes have the hash ``sha256``."""

    path: Path
    sha256: str

    @classmethod
    def of(cls, path: Path) -> VideoExtractor:
        """Check a weights file; `WeightsError` where it is missing, damaged or of another network."""
        path = Path(path)
        if not path.is_file():
            raise WeightsError(f"{path} is missing", hint="give the I3D weights as a safetensors file")
        try:
            with safe_open(path, framework="pt") as file:
                found = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise WeightsError(
                f"{path} is no whole safetensors file: {error}",
                hint="convert the state dict of I3D with safetensors.torch.save_file; pickles are not opened",
            ) from None
        _check(path, found)
        return cls(path, file_sha256(path))

    def measurer(self) -> Measurer:
        """``cycle``: the 400 logits of the mid-ventricular slice over the cycle; NaN without a whole cycle."""
        return Measurer("fvd-i3d", f"1 {self.sha256}", self._measure)

    def _measure(self, case: Case) -> dict[str, NDArray[np.float32]]:
        if not case.whole_cycle:
            return {"cycle": np.full(CLASSES, np.nan, dtype=np.float32)}
        with one_thread():
            logits: torch.Tensor = _network(self.path)(clip_of(case))
            return {"cycle": logits[0].numpy()}


def clip_of(case: Case) -> torch.Tensor:
    """The mid-ventricular slice as ``1 3 16 224 224`` in [-1, 1], the cycle at even times, the slice as it lies."""
    chosen = slices_at(case.label[case.ed], [0.5])[0]
    even = torch.from_numpy(evenly(case.intensity[..., chosen], FRAMES))  # T X Y
    large = F.interpolate(even[:, None], (SIDE_PX, SIDE_PX), mode="bilinear", align_corners=False)  # T 1 X Y
    return large.permute(1, 0, 3, 2).expand(3, -1, -1, -1)[None]


def _check(path: Path, found: dict[str, tuple[int, ...]]) -> None:
    with torch.device("meta"):
        wanted = {name: tuple(t.shape) for name, t in I3D().state_dict().items()}
    optional = {name for name in wanted if name.endswith("num_batches_tracked")}
    lacking = sorted(wanted.keys() - found.keys() - optional)
    strange = sorted(found.keys() - wanted.keys())
    other = sorted(n for n in (wanted.keys() & found.keys()) - optional if wanted[n] != found[n])
    for what, names in (("lacks", lacking), ("has the unknown", strange), ("has another shape of", other)):
        if names:
            raise WeightsError(
                f"{path} is not I3D for Kinetics 400: it {what} {names[0]} ({len(names)} in all)",
                hint="expected the tensors of the PyTorch port: Conv3d_1a_7x7.conv3d.weight ... logits.conv3d.bias",
            )


@lru_cache(maxsize=1)
def _network(path: Path) -> I3D:
    """Loaded in the process that uses it, once."""
    network = I3D()
    network.load_state_dict({name: t.float() for name, t in read_tensors(path).items()}, strict=False)
    return network.eval().requires_grad_(False)
