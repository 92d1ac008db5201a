"""`likeness`: a heart as a small stack of slices, to be recognised again after noise, blur, brightness and shifts."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from cinesynth.evaluation.cases import Case
from cinesynth.evaluation.extract.view import centre_of, slices_at, window
from cinesynth.evaluation.measure import Measurer

HEIGHTS = (0.1, 0.3, 0.5, 0.7, 0.9)
"""Heights of the left ventricle at which slices are kept."""
PIXELS, PIXEL_MM = 44, 3.0
"""A window of 132 mm around the left ventricle."""
BLUR_MM = 3.0
"""Finer detail is not what makes a person, and noise is there."""


def likeness_of(case: Case) -> Mapping[str, NDArray[np.float32]]:
    """``image`` and ``mask`` of ED, ``5 P P`` each: whole numbers 0-255, and labels; NaN where ED was not wholly
    annotated."""
    label = case.label[case.ed]
    chosen, centre = slices_at(label, HEIGHTS), centre_of(label)
    image = window(
        case.image[case.ed][..., chosen], centre, case.spacing_mm, pixels=PIXELS, pixel_mm=PIXEL_MM, blur_mm=BLUR_MM
    )
    mask = window(label[..., chosen], centre, case.spacing_mm, pixels=PIXELS, pixel_mm=PIXEL_MM, order=0)
    mask = mask if case.coverage[case.ed].all() and label.any() else np.full_like(mask, np.nan)
    return {"image": np.moveaxis(np.rint(image), -1, 0), "mask": np.moveaxis(mask, -1, 0)}


def likeness() -> Measurer:
    """``image`` and ``mask``, ``5 P P``."""
    return Measurer("likeness", "1", likeness_of)
