"""The slice of a case that is shown and compared."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cinesynth.data.likeness.view import centre_of, slices_at, window
from cinesynth.evaluation.cases import Case


def middle_slice(case: Case, *, pixels: int, pixel_mm: float) -> NDArray[np.float32]:
    """The mid-ventricular ED slice, ``pixels pixels`` in [-1, 1], centred on the left ventricle."""
    label = case.label[case.ed]
    chosen = slices_at(label, [0.5])
    image = case.intensity[case.ed][..., chosen]
    return window(image, centre_of(label), case.spacing_mm, pixels=pixels, pixel_mm=pixel_mm, fill=-1.0)[..., 0]
