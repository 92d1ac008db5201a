"""Defects that an evaluation must not miss, planted in good hearts."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from scipy import ndimage

from cinesynth.data.normalisation import to_uint8
from cinesynth.evaluation.cases import Case
from cinesynth.types import FloatArray


def _seen(change: Callable[[FloatArray], FloatArray]) -> Callable[[Case], Case]:
    return lambda case: replace(case, image=to_uint8(np.clip(change(case.intensity), -1, 1)))


def _noise(sd: float) -> Callable[[FloatArray], FloatArray]:
    return lambda x: x + sd * np.random.default_rng(0).standard_normal(x.shape).astype(np.float32)


noisy = _seen(_noise(0.1))
blurred = _seen(lambda x: ndimage.gaussian_filter(x, [0, 1, 1, 0]))
pale = _seen(lambda x: np.float32(0.6) * x)


def disguised(case: Case) -> Case:
    """A copy that hides: two pixels aside, darker, with less contrast, softer."""
    moved = replace(
        case, image=np.roll(case.image, (2, -2), axis=(1, 2)), label=np.roll(case.label, (2, -2), axis=(1, 2))
    )
    return _seen(lambda x: ndimage.gaussian_filter(np.float32(0.8) * x - np.float32(0.1), [0, 0.7, 0.7, 0]))(moved)
