"""`likeness`: the thumbnails of a heart at ED, by which it is recognised."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from cinesynth.data.likeness.thumbnails import image_thumbnail, mask_thumbnail
from cinesynth.evaluation.cases import Case
from cinesynth.evaluation.measure import Measurer


def likeness_of(case: Case) -> Mapping[str, NDArray[np.float32]]:
    """``image`` and ``mask`` of ED, ``5 P P`` each: whole numbers 0-255, and labels; NaN where ED was not wholly
    annotated."""
    image, label = case.image[case.ed], case.label[case.ed]
    mask = mask_thumbnail(label, case.spacing_mm)
    whole = case.coverage[case.ed].all()
    return {
        "image": image_thumbnail(image, label, case.spacing_mm),
        "mask": mask if whole else np.full_like(mask, np.nan),
    }


def likeness() -> Measurer:
    """``image`` and ``mask``, ``5 P P``."""
    return Measurer("likeness", "1", likeness_of)
