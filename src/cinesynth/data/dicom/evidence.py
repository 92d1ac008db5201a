"""What images themselves show where headers say too little."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cinesynth.data.dicom.takes import MIN_CINE_FRAMES

EVERY = 4  # pixels in each direction of which one is compared
ALTERNATING = 0.9  # difference to the image after the next, relative to that to the next; real cines have 1.2-1.6


def alternating(image: NDArray[Any]) -> list[int]:
    """Indices of the slices of ``image`` ``T X Y Z`` that alternate between two takes from phase to phase."""
    if len(image) < 2 * MIN_CINE_FRAMES:
        return []
    small = image[:, ::EVERY, ::EVERY].astype(np.float32)
    next_one, after_next = (np.abs(np.roll(small, -n, axis=0) - small).mean(axis=(0, 1, 2)) for n in (1, 2))
    return [int(z) for z in np.flatnonzero(after_next < ALTERNATING * next_one)]
