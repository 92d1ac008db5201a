"""`fvd-i3d`: features of whole cycles by I3D weights that the user provides, for FVD (Unterthiner et al., 2018)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from cinesynth.errors import WeightsError
from cinesynth.evaluation.cases import Case
from cinesynth.evaluation.features.randconv import evenly, one_thread
from cinesynth.evaluation.measure import Measurer
from cinesynth.io.files import file_sha256
from cinesynth.memorisation.thumbnails import slices_at
from cinesynth.weights.folder import read_tensors


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
            raise WeightsError(f"{path} is missing", hint="pass the I3D weights as a safetensors file")
        try:
            with safe_open(path, framework="pt") as file:
                found = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise WeightsError(
                f"{path} is not a complete safetensors file: {error}",
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


def clip_of(case: Case, frames: int = 16, side_px: int = 224) -> torch.Tensor:
    """The mid-ventricular slice in [-1, 1] as ``1 3 16 224 224``: the cycle at even times, in the slice's own plane."""
    chosen = slices_at(case.label[case.ed], [0.5])[0]
    even = torch.from_numpy(evenly(case.intensity[..., chosen], frames))  # T X Y
    large = F.interpolate(even[:, None], (side_px, side_px), mode="bilinear", align_corners=False)  # T 1 X Y
    return large.permute(1, 0, 3, 2).expand(3, -1, -1, -1)[None]


def _check(path: Path, found: dict[str, tuple[int, ...]]) -> None:
    with torch.device("meta"):
        expected = {name: tuple(t.shape) for name, t in I3D().state_dict().items()}
    optional = {name for name in expected if name.endswith("num_batches_tracked")}
    lacking = sorted(expected.keys() - found.keys() - optional)
    strange = sorted(found.keys() - expected.keys())
    other = sorted(n for n in (expected.keys() & found.keys()) - optional if expected[n] != found[n])
    for problem, names in (("lacks", lacking), ("has the unknown tensor", strange), ("has another shape for", other)):
        if names:
            raise WeightsError(
                f"{path} is not I3D for Kinetics 400: it {problem} {names[0]} ({len(names)} in all)",
                hint="expected the tensors of the PyTorch port: Conv3d_1a_7x7.conv3d.weight ... logits.conv3d.bias",
            )


@lru_cache(maxsize=1)
def _network(path: Path) -> I3D:
    """Loaded once in each process that uses it."""
    network = I3D()
    network.load_state_dict({name: t.float() for name, t in read_tensors(path).items()}, strict=False)
    return network.eval().requires_grad_(False)


# --- The network -----------------------------------------------------------------------------------------------------


INCEPTIONS = {
    "Mixed_3b": (192, (64, 96, 128, 16, 32, 32)),
    "Mixed_3c": (256, (128, 128, 192, 32, 96, 64)),
    "Mixed_4b": (480, (192, 96, 208, 16, 48, 64)),
    "Mixed_4c": (512, (160, 112, 224, 24, 64, 64)),
    "Mixed_4d": (512, (128, 128, 256, 24, 64, 64)),
    "Mixed_4e": (512, (112, 144, 288, 32, 64, 64)),
    "Mixed_4f": (528, (256, 160, 320, 32, 128, 128)),
    "Mixed_5b": (832, (256, 160, 320, 32, 128, 128)),
    "Mixed_5c": (832, (384, 192, 384, 48, 128, 128)),
}
"""Channels in, and out of the branches: 1x1; 1x1 and 3x3; 1x1 and 3x3; pooled 1x1."""
POOLS = {
    "Conv3d_1a_7x7": ((1, 3, 3), (1, 2, 2)),
    "Conv3d_2c_3x3": ((1, 3, 3), (1, 2, 2)),
    "Mixed_3c": ((3, 3, 3), (2, 2, 2)),
    "Mixed_4f": ((2, 2, 2), (2, 2, 2)),
}
"""Kernel and stride of the pooling behind a layer."""
CLASSES = 400
Size = tuple[int, int, int]


def same(x: Tensor, kernel: Size, stride: Size) -> Tensor:
    """``... A B C`` padded with 0 so that each axis comes out as ``ceil(size / stride)``; odd voxels go behind."""
    padding: list[int] = []
    for size, k, s in zip(reversed(x.shape[-3:]), reversed(kernel), reversed(stride), strict=True):
        total = max((-(-size // s) - 1) * s + k - size, 0)
        padding += [total // 2, total - total // 2]
    return F.pad(x, padding)


def pool(x: Tensor, kernel: Size, stride: Size) -> Tensor:
    """Maximum pooling; padding with 0 changes nothing behind a ReLU."""
    return F.max_pool3d(same(x, kernel, stride), kernel, stride)


class ConvUnit(nn.Module):
    """Convolution, batch normalisation, ReLU."""

    def __init__(self, into: int, out: int, kernel: Size = (1, 1, 1), stride: Size = (1, 1, 1)) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride
        self.conv3d = nn.Conv3d(into, out, kernel, stride, bias=False)
        self.bn = nn.BatchNorm3d(out, eps=0.001, momentum=0.01)

    def forward(self, x: Tensor) -> Tensor:
        """``B C T Y X``."""
        return F.relu(self.bn(self.conv3d(same(x, self.kernel, self.stride))))


class Inception(nn.Module):
    """Four branches side by side."""

    def __init__(self, into: int, out: tuple[int, ...]) -> None:
        super().__init__()
        self.b0 = ConvUnit(into, out[0])
        self.b1a, self.b1b = ConvUnit(into, out[1]), ConvUnit(out[1], out[2], (3, 3, 3))
        self.b2a, self.b2b = ConvUnit(into, out[3]), ConvUnit(out[3], out[4], (3, 3, 3))
        self.b3b = ConvUnit(into, out[5])

    def forward(self, x: Tensor) -> Tensor:
        """``B C T Y X``."""
        pooled = self.b3b(pool(x, (3, 3, 3), (1, 1, 1)))
        return torch.cat([self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), pooled], dim=1)


class Logits(nn.Module):
    """The last layer, under the name that its weights have."""

    def __init__(self) -> None:
        super().__init__()
        self.conv3d = nn.Conv3d(1024, CLASSES, 1)

    def forward(self, x: Tensor) -> Tensor:
        """``B C T Y X``."""
        out: Tensor = self.conv3d(x)
        return out


class I3D(nn.Module):
    """``B 3 T Y X`` in [-1, 1], at least 9 frames of 224 x 224, to the ``B 400`` logits averaged over time."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv3d_1a_7x7 = ConvUnit(3, 64, (7, 7, 7), (2, 2, 2))
        self.Conv3d_2b_1x1 = ConvUnit(64, 64)
        self.Conv3d_2c_3x3 = ConvUnit(64, 192, (3, 3, 3))
        for name, (into, out) in INCEPTIONS.items():
            self.add_module(name, Inception(into, out))
        self.logits = Logits()

    def forward(self, x: Tensor) -> Tensor:
        """The logits of the Kinetics classes."""
        for name, layer in self.named_children():
            if name != "logits":
                x = pool(layer(x), *POOLS[name]) if name in POOLS else layer(x)
        logits: Tensor = self.logits(F.avg_pool3d(x, (2, 7, 7), stride=1))
        return logits.mean(dim=(2, 3, 4))
