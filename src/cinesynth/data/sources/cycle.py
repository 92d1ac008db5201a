"""The frames of one subject as sources put them together, before its study."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cinesynth.data.nifti import Volume
from cinesynth.errors import DataError
from cinesynth.types import STRUCTURES, BoolArray, Label, LabelArray


@dataclass(frozen=True)
class Cycle:
    """Stored frames on one grid."""

    grid: Volume
    """The file whose grid all frames share."""
    image: NDArray[Any]  # T X Y Z
    frame_index: NDArray[np.int64]  # T, zero-based
    frames_in_cycle: int

    @property
    def no_labels(self) -> LabelArray:
        """Zeros ``T X Y Z``."""
        return np.zeros(self.image.shape, dtype=np.uint8)

    @property
    def no_coverage(self) -> BoolArray:
        """``T Z S``, false."""
        return np.zeros((len(self.image), self.image.shape[3], len(STRUCTURES)), dtype=np.bool_)


def whole_cycle(volume: Volume) -> Cycle:
    """All frames of a file with time."""
    image = volume.frames
    return Cycle(volume, image, np.arange(len(image), dtype=np.int64), len(image))


def some_frames(volumes: Sequence[Volume], numbers: Sequence[int], frames_in_cycle: int) -> Cycle:
    """Frames from files of their own, at ``numbers`` of the cycle; `DataError` unless they share a grid."""
    first = volumes[0]
    for other in volumes[1:]:
        if other.data.shape != first.data.shape or not np.allclose(other.spacing_mm, first.spacing_mm, rtol=0.01):
            raise DataError(
                f"{other.path} has {other.data.shape} voxels of {other.spacing_mm} mm, "
                f"{first.path.name} has {first.data.shape} of {first.spacing_mm} mm",
                hint="frames of one subject must lie on one grid: take all from the same copy of the dataset",
            )
    image = np.stack([volume.data for volume in volumes])
    return Cycle(first, image, np.array(numbers, dtype=np.int64), frames_in_cycle)


def frames_with_labels(label: LabelArray) -> BoolArray:
    """Frames of ``T X Y Z`` that hold any label, ``T``: a heart is in all of them, so the others were not labelled."""
    return np.asarray(label.any(axis=(1, 2, 3)), dtype=np.bool_)


def check_phases(cycle: Cycle, ed_index: int, es_index: int) -> None:
    """`DataError` unless ED and ES are two of the stored frames."""
    stored = cycle.frame_index.tolist()
    if ed_index == es_index or not {ed_index, es_index} <= set(stored):
        raise DataError(
            f"{cycle.grid.path}: ED {ed_index} and ES {es_index} are not two of its frames "
            f"({min(stored)} to {max(stored)}, counted from 0)",
            hint="compare the frame numbers with the files, and what they count from",
        )


def phases_of_labels(cycle: Cycle, label: LabelArray) -> tuple[int, int]:
    """ED and ES as the frames with the largest and the smallest LV among those where it is labelled.

    `DataError` if fewer than two frames show the LV, or if all show one of the same size.
    """
    volumes = (label == Label.LV).sum(axis=(1, 2, 3))
    seen = np.flatnonzero(volumes)
    if len(np.unique(volumes[seen])) < 2:
        raise DataError(
            f"{cycle.grid.path}: ED and ES are not known, and {len(seen)} labelled frames cannot tell them",
            hint="name the frames of ED and ES, or label the LV in more frames",
        )
    ed, es = seen[volumes[seen].argmax()], seen[volumes[seen].argmin()]
    return int(cycle.frame_index[ed]), int(cycle.frame_index[es])
