"""MS-SSIM of pairs of hearts: whether a set of them is varied."""

from __future__ import annotations

from functools import cached_property
from itertools import combinations

import numpy as np
import torch
from monai.metrics.regression import MultiScaleSSIMMetric
from numpy.typing import NDArray

from cinesynth.evaluation.distances import Indices
from cinesynth.evaluation.extract.network import one_thread
from cinesynth.types import FloatArray

KERNEL_PX, SIGMA_PX = 7, 1.5
WEIGHTS = (0.0710, 0.4530, 0.4760)
"""The first three of Wang's five scales, of sum 1: 64 pixels have no room for the others."""
BATCH = 256


def ms_ssim(a: FloatArray, b: FloatArray) -> NDArray[np.float64]:
    """MS-SSIM (Wang et al., 2003) of each of ``N`` pairs of ``X Y`` images in [-1, 1], at three scales: ``N``."""
    metric = MultiScaleSSIMMetric(2, data_range=2.0, kernel_size=KERNEL_PX, kernel_sigma=SIGMA_PX, weights=WEIGHTS)
    parts = []
    with one_thread():
        for start in range(0, len(a), BATCH):
            pair = (torch.from_numpy(x[start : start + BATCH])[:, None] for x in (a, b))
            parts.append(metric(*pair).flatten().double().numpy())
    return np.asarray(np.nan_to_num(np.concatenate(parts)), dtype=np.float64)


class Pairs:
    """MS-SSIM of all pairs of ``images`` (``N X Y``) within each of the sets of places ``among``."""

    def __init__(self, images: FloatArray, among: tuple[Indices, ...]) -> None:
        self.images, self.among = images, among

    @cached_property
    def table(self) -> NDArray[np.float64]:
        """``N N``, NaN where it was not asked for."""
        table = np.full((len(self.images), len(self.images)), np.nan)
        for places in self.among:
            first, second = np.array(list(combinations(places, 2))).T
            table[first, second] = table[second, first] = ms_ssim(self.images[first], self.images[second])
        return table

    def mean(self, places: Indices) -> float:
        """Mean over the pairs of a group."""
        square = self.table[np.ix_(places, places)]
        return float(square[np.triu_indices(len(places), k=1)].mean())
