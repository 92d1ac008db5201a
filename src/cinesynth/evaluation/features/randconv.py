"""`randconv3d-seed0`: a small random 3D network, the same on every machine; its features need no weights file.

Random convolutions with pooled statistics tell texture, edges and their arrangement apart without training (Saxe et
al., 2011; Ustyuzhaninov et al., 2017). The weights come from the bits of the counter-based generator Philox
(Salmon et al., 2011) by integer division alone, so they do not depend on a library's version of a normal distribution.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from cinesynth.evaluation.cases import Case
from cinesynth.evaluation.measure import Measurer
from cinesynth.memorisation.thumbnails import slices_at
from cinesynth.types import FloatArray

CHANNELS = (1, 16, 32, 64)
NAME = "randconv3d-seed0"


@lru_cache(maxsize=1)
def weights() -> tuple[NDArray[np.float32], ...]:
    """The kernels ``out in 3 3 3`` of each layer: uniform with He's variance, 2 over the number of inputs."""
    bits = np.random.Philox(key=0)
    return tuple(_kernel(bits, out, into) for into, out in pairwise(CHANNELS))


def _kernel(bits: np.random.Philox, out: int, into: int) -> NDArray[np.float32]:
    shape = (out, into, 3, 3, 3)
    unit = (bits.random_raw(int(np.prod(shape))) >> np.uint64(11)) / 2.0**53  # [0, 1), exact
    values = (2.0 * unit - 1.0) * np.sqrt(6.0 / (into * 27))
    return np.asarray(values, dtype=np.float32).reshape(shape)


def layers(volume: Tensor, stride: tuple[int, int, int], cyclic: bool = False) -> Iterator[Tensor]:
    """The output of each layer for ``1 1 A B C``; with ``cyclic``, A wraps around, else edges are repeated."""
    x = volume
    for kernel in weights():
        x = F.pad(x, (1, 1, 1, 1, 0, 0), mode="replicate")
        x = F.pad(x, (0, 0, 0, 0, 1, 1), mode="circular" if cyclic else "replicate")
        x = F.leaky_relu(F.conv3d(x, torch.from_numpy(kernel), stride=stride), 0.1)
        yield x


def _pooled(volume: NDArray[np.float32], stride: tuple[int, int, int], cyclic: bool = False) -> NDArray[np.float32]:
    seen = layers(torch.from_numpy(volume)[None, None], stride, cyclic)
    return np.concatenate([mean_and_sd(x[0]) for x in seen])


def _frame(case: Case, frame: int) -> NDArray[np.float32]:
    """Features of one frame, ``Z X Y`` for the network; it halves the plane at each layer."""
    return _pooled(np.ascontiguousarray(np.moveaxis(case.intensity[frame], -1, 0)), (1, 2, 2))


def _cycle(case: Case, frames: int = 16, heights: tuple[float, ...] = (0.25, 0.5, 0.75)) -> NDArray[np.float32]:
    """Features of ``T X Y`` over a whole cycle at even times, mean of the slices at three heights in the ventricle.

    NaN without a whole cycle.
    """
    if not case.whole_cycle:
        return np.full(2 * sum(CHANNELS[1:]), np.nan, dtype=np.float32)
    chosen = slices_at(case.label[case.ed], heights)
    even = evenly(case.intensity[..., chosen], frames)  # T X Y Z
    planes = [_pooled(np.ascontiguousarray(even[..., z]), (1, 2, 2), cyclic=True) for z in range(even.shape[-1])]
    return np.asarray(np.mean(planes, axis=0), dtype=np.float32)


def _measure(case: Case) -> dict[str, NDArray[np.float32]]:
    with one_thread():
        return {"frames": np.stack([_frame(case, t) for t in (case.ed, case.es)]), "cycle": _cycle(case)}


def randconv3d() -> Measurer:
    """``frames``: ``2 F`` of ED and ES; ``cycle``: ``F`` of space and time, NaN without a whole cycle."""
    return Measurer(NAME, "1", _measure)


# --- Networks inside of measurers ------------------------------------------------------------------------------------


@contextmanager
def one_thread() -> Iterator[None]:
    """No gradients, and a single thread: a forked worker would wait for its parent's threads forever."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            yield
    finally:
        torch.set_num_threads(threads)


def evenly(cycle: FloatArray, frames: int) -> FloatArray:
    """A cycle ``T ...`` at ``frames`` even times, linear in time; its last frame is followed by the first."""
    places = np.arange(frames) * len(cycle) / frames
    before = np.floor(places).astype(int)
    share = (places - before).astype(np.float32).reshape(-1, *[1] * (cycle.ndim - 1))
    return np.asarray(cycle[before] * (1 - share) + cycle[(before + 1) % len(cycle)] * share, dtype=np.float32)


def mean_and_sd(features: Tensor) -> NDArray[np.float32]:
    """Mean and standard deviation of each channel of ``C ...``: ``2C``."""
    flat = features.flatten(1)
    return np.concatenate([flat.mean(dim=1).numpy(), flat.std(dim=1, correction=0).numpy()])
