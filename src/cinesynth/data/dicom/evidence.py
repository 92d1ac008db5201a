"""What images themselves show where headers say too little."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cinesynth.data.dicom.takes import MIN_CINE_FRAMES
from cinesynth.data.duplicates import thumbnails

LEAST_ALIKE = 0.4  # correlation of a slice at an end with the next one: 99 % of slices have more
EVERY = 4  # pixels in each direction of which one is compared
ALTERNATING = 0.9  # difference to the image after the next, relative to that to the next; real cines have 1.2-1.6


def alternating(image: NDArray[Any]) -> list[int]:
    """Indices of the slices of ``image`` ``T X Y Z`` that alternate between two takes from phase to phase."""
    if len(image) < 2 * MIN_CINE_FRAMES:
        return []
    small = image[:, ::EVERY, ::EVERY].astype(np.float32)
    next_one, after_next = (np.abs(np.roll(small, -n, axis=0) - small).mean(axis=(0, 1, 2)) for n in (1, 2))
    return [int(z) for z in np.flatnonzero(after_next < ALTERNATING * next_one)]


def of_another_body(image: NDArray[Any], borrowed: Sequence[bool]) -> list[int]:
    """Indices of ``borrowed`` slices of ``image`` ``T X Y Z`` that do not show what the slices around them show.

    A slice is like its neighbours, more than these are like each other: of 1902 slices of 236 people all but 0.3 %, of
    slices put in the place of another person's 3 %.
    """
    own = [z for z, other in enumerate(borrowed) if not other]
    planes = thumbnails(image[0]).reshape(len(borrowed), -1)
    alike = planes @ planes.T
    found = []
    for z in np.flatnonzero(borrowed).tolist():
        around = [*[n for n in own if n < z][-1:], *[n for n in own if n > z][:1]]
        least = float(alike[tuple(around)]) if len(around) > 1 else LEAST_ALIKE
        if around and alike[z, around].mean() < least:
            found.append(z)
    return found
