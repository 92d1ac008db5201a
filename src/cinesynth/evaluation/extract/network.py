"""Networks inside of measurers: one thread each, and cycles of equal length."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cinesynth.types import FloatArray


@contextmanager
def one_thread() -> Iterator[None]:
    """No gradients, and a single thread: a forked worker must not wait for threads of its parent."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            yield
    finally:
        torch.set_num_threads(threads)


def evenly(cycle: FloatArray, frames: int) -> FloatArray:
    """A cycle ``T ...`` at ``frames`` even times, linear in time; after its last frame comes the first."""
    places = np.arange(frames) * len(cycle) / frames
    before = np.floor(places).astype(int)
    share = (places - before).astype(np.float32).reshape(-1, *[1] * (cycle.ndim - 1))
    return np.asarray(cycle[before] * (1 - share) + cycle[(before + 1) % len(cycle)] * share, dtype=np.float32)


def mean_and_sd(features: Tensor) -> NDArray[np.float32]:
    """Mean and standard deviation of each channel of ``C ...``: ``2C``."""
    flat = features.flatten(1)
    return np.concatenate([flat.mean(dim=1).numpy(), flat.std(dim=1, correction=0).numpy()])
