"""Features of whole images by networks: `randconv3d-seed0`, and `fvd-i3d` by weights that the user provides.

`randconv3d-seed0` is a small random 3D network, the same on every machine; it needs no weights file. Random
convolutions with pooled statistics tell texture, edges and their arrangement apart without training (Saxe et al., 2011;
Ustyuzhaninov et al., 2017). The weights come from the bits of the counter-based generator Philox (Salmon et al., 2011)
by integer division alone, so they do not depend on a library's version of a normal distribution.

`fvd-i3d` are the logits of I3D for whole cycles, for FVD (Unterthiner et al., 2018).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from cinesynth.data.normalisation import from_uint8
from cinesynth.errors import WeightsError
from cinesynth.evaluation.cases import Case
from cinesynth.evaluation.measure import Measurer
from cinesynth.io.files import file_sha256
from cinesynth.memorisation.thumbnails import slices_at
from cinesynth.models.threads import one_thread
from cinesynth.types import FloatArray
from cinesynth.weights.folder import read_tensors


def evenly(cycle: FloatArray, frames: int) -> FloatArray:
    """A cycle ``T ...`` at ``frames`` even times, linear in time; its last frame is followed by the first."""
    places = np.arange(frames) * len(cycle) / frames
    before = np.floor(places).astype(int)
    share = (places - before).astype(np.float32).reshape(-1, *[1] * (cycle.ndim - 1))
    return np.asarray(cycle[before] * (1 - share) + cycle[(before + 1) % len(cycle)] * share, dtype=np.float32)


def mean_and_sd(features: Tensor) -> NDArray[np.float32]:
    """Mean and standard deviation of each channel of ``C ...``: ``2C``."""
    flat = features.flatten(1)
    mean = flat.mean(dim=1, keepdim=True)
    sd = (flat - mean).square_().mean(dim=1).sqrt_()  # `Tensor.std` takes seven times as long on a CPU
    return np.concatenate([mean[:, 0].numpy(), sd.numpy()])


# --- A random network ------------------------------------------------------------------------------------------------


CHANNELS = (1, 16, 32, 64)


@lru_cache(maxsize=1)
def random_weights() -> tuple[NDArray[np.float32], ...]:
    """The kernels ``out in 3 3 3`` of each layer: uniform with He's variance, 2 over the number of inputs."""
    bits, kernels = np.random.Philox(key=0), []
    for into, out in pairwise(CHANNELS):
        shape = (out, into, 3, 3, 3)
        unit = (bits.random_raw(int(np.prod(shape))) >> np.uint64(11)) / 2.0**53  # [0, 1), exact
        values = (2.0 * unit - 1.0) * np.sqrt(6.0 / (into * 27))
        kernels.append(np.asarray(values, dtype=np.float32).reshape(shape))
    return tuple(kernels)


def _pooled(volume: NDArray[np.float32], cyclic: bool = False) -> NDArray[np.float32]:
    """Mean and SD of each layer's channels for ``A B C``; the network halves B and C at each layer.

    With ``cyclic``, A wraps around; other edges are repeated. On a CPU, 3D convolutions of this size are up to three
    times as fast as 2D ones whose channels hold the three planes of the kernel.
    """
    x, found = torch.from_numpy(np.ascontiguousarray(volume))[:, None], []  # A 1 B C
    here = torch.arange(len(x))
    before, after = ((here + step) % len(x) if cyclic else (here + step).clamp(0, len(x) - 1) for step in (-1, 1))
    for kernel in map(torch.from_numpy, random_weights()):
        x = F.pad(x, (1, 1, 1, 1), mode="replicate")
        if x.shape[1] == 1:
            x = F.conv2d(torch.cat([x[before], x, x[after]], dim=1), kernel[:, 0], stride=2)
        else:
            planes = F.conv2d(x, kernel.permute(2, 0, 1, 3, 4).flatten(0, 1), stride=2)  # A, 3 out, B/2, C/2
            low, middle, high = planes.chunk(3, dim=1)
            x = low[before].add_(middle).add_(high[after])
        x = F.leaky_relu_(x, 0.1)
        found.append(mean_and_sd(x.transpose(0, 1)))
    return np.concatenate(found)


def _measure_random(case: Case) -> dict[str, NDArray[np.float32]]:
    cycle = np.full(2 * sum(CHANNELS[1:]), np.nan, dtype=np.float32)
    with one_thread(), torch.inference_mode():
        if case.whole_cycle:  # T X Y at 16 even times, mean of the slices at three heights in the ventricle
            even = evenly(from_uint8(case.image[..., slices_at(case.label[case.ed], (0.25, 0.5, 0.75))]), 16)  # T X Y Z
            planes = [_pooled(even[..., z], cyclic=True) for z in range(even.shape[-1])]
            cycle = np.asarray(np.mean(planes, axis=0), dtype=np.float32)
        pair = [_pooled(np.moveaxis(from_uint8(case.image[t]), -1, 0)) for t in (case.ed, case.es)]  # Z X Y
        return {"frames": np.stack(pair), "cycle": cycle}


RANDCONV3D = Measurer("randconv3d-seed0", "1", _measure_random)
"""``frames``: ``2 F`` of ED and ES; ``cycle``: ``F`` of space and time, NaN without a whole cycle."""


# --- I3D -------------------------------------------------------------------------------------------------------------


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
            hint = "convert the state dict of I3D with safetensors.torch.save_file; pickles are not opened"
            raise WeightsError(f"{path} is not a complete safetensors file: {error}", hint=hint) from None
        with torch.device("meta"):
            expected = {name: tuple(t.shape) for name, t in I3D().state_dict().items()}
        optional = {name for name in expected if name.endswith("num_batches_tracked")}
        problems = {
            "lacks": expected.keys() - found.keys() - optional,
            "has the unknown tensor": found.keys() - expected.keys(),
            "has another shape for": {
                n for n in (expected.keys() & found.keys()) - optional if expected[n] != found[n]
            },
        }
        for problem, names in problems.items():
            if names:
                raise WeightsError(
                    f"{path} is not I3D for Kinetics 400: it {problem} {min(names)} ({len(names)} in all)",
                    hint="expected the tensors of the PyTorch port: Conv3d_1a_7x7.conv3d.weight ... logits.conv3d.bias",
                )
        return cls(path, file_sha256(path))

    def measurer(self) -> Measurer:
        """``cycle``: the 400 logits of the mid-ventricular slice over the cycle; NaN without a whole cycle."""
        return Measurer("fvd-i3d", f"1 {self.sha256}", self._measure)

    def _measure(self, case: Case) -> dict[str, NDArray[np.float32]]:
        with one_thread(), torch.inference_mode():
            empty = torch.full((1, CLASSES), torch.nan)
            logits: Tensor = _i3d(self.path)(clip_of(case)) if case.whole_cycle else empty
            return {"cycle": logits[0].numpy()}


def clip_of(case: Case, frames: int = 16, side_px: int = 224) -> torch.Tensor:
    """The mid-ventricular slice in [-1, 1] as ``1 3 16 224 224``: the cycle at even times, in the slice's own plane."""
    chosen = slices_at(case.label[case.ed], [0.5])[0]
    even = torch.from_numpy(evenly(from_uint8(case.image[..., chosen]), frames))  # T X Y
    large = F.interpolate(even[:, None], (side_px, side_px), mode="bilinear", align_corners=False)  # T 1 X Y
    return large.permute(1, 0, 3, 2).expand(3, -1, -1, -1)[None]


@lru_cache(maxsize=1)
def _i3d(path: Path) -> I3D:
    network = I3D()
    network.load_state_dict({name: t.float() for name, t in read_tensors(path).items()}, strict=False)
    return network.eval().requires_grad_(False)


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


class I3D(nn.Module):
    """``B 3 T Y X`` in [-1, 1], at least 9 frames of 224 x 224, to the ``B 400`` logits averaged over time."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv3d_1a_7x7 = ConvUnit(3, 64, (7, 7, 7), (2, 2, 2))
        self.Conv3d_2b_1x1 = ConvUnit(64, 64)
        self.Conv3d_2c_3x3 = ConvUnit(64, 192, (3, 3, 3))
        for name, (into, out) in INCEPTIONS.items():
            self.add_module(name, Inception(into, out))
        self.logits = nn.ModuleDict({"conv3d": nn.Conv3d(1024, CLASSES, 1)})  # the name that its weights have

    def forward(self, x: Tensor) -> Tensor:
        """The logits of the Kinetics classes."""
        for name, layer in self.named_children():
            if name != "logits":
                x = pool(layer(x), *POOLS[name]) if name in POOLS else layer(x)
        logits: Tensor = self.logits["conv3d"](F.avg_pool3d(x, (2, 7, 7), stride=1))
        return logits.mean(dim=(2, 3, 4))
