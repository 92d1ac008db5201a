"""`radiomic`: shape, first-order and texture features of ED and ES, from the masks and the images under them.

A heart whose ED or ES is not wholly annotated has none (NaN). A structure that is annotated, but absent, has the
features of nothing (0): a generated heart without a ventricle is a defect to be seen, not a gap to be left out.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cinesynth.evaluation.cases import Case
from cinesynth.evaluation.features import grey, shape
from cinesynth.evaluation.measure import Measurer
from cinesynth.types import STRUCTURES

NAMES = (
    *(f"{s.name}_{name}" for s in STRUCTURES for name in shape.NAMES),
    *shape.WALL_NAMES,
    *(f"{region}_{name}" for region in (*(s.name for s in STRUCTURES), "ring") for name in grey.STATISTICS),
    *grey.EDGE_NAMES,
    *(f"texture_{name}" for name in grey.TEXTURE_NAMES),
)
"""The features of one frame, in order."""


def frame_features(case: Case, frame: int) -> NDArray[np.float64]:
    """`NAMES` of one frame; NaN where a structure was not annotated in some slice."""
    if not case.coverage[frame].all():
        return np.full(len(NAMES), np.nan)
    image, label = case.intensity[frame], case.label[frame]
    regions = [label == structure for structure in STRUCTURES]
    around = grey.ring(label, case.spacing_mm)
    return np.concatenate(
        [
            *(shape.shape_of(region, case.spacing_mm) for region in regions),
            shape.wall_of(label, case.spacing_mm),
            *(grey.first_order(image[region]) for region in (*regions, around)),
            grey.contrast(image, label, case.spacing_mm),
            grey.texture(image, label, case.spacing_mm),
        ]
    )


def _measure(case: Case) -> dict[str, NDArray[np.float64]]:
    return {"frames": np.stack([frame_features(case, t) for t in (case.ed, case.es)])}


def radiomic() -> Measurer:
    """``frames``: ``2 F``, ED and ES."""
    return Measurer("radiomic", "1", _measure)
