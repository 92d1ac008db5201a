"""The frames of one subject as sources put them together, before its study, and which of them are ED and ES."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cinesynth.data.nifti import Volume
from cinesynth.data.phase import default_es_index
from cinesynth.data.vocabulary import UNKNOWN_VENDOR
from cinesynth.errors import DataError
from cinesynth.types import STRUCTURES, Affine, BoolArray, Diagnosis, Label, LabelArray, PhasesFrom, Study


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


class EdEs(NamedTuple):
    """ED and ES of a cycle (zero-based), and who says so."""

    ed_index: int
    es_index: int
    phases_from: PhasesFrom


def choose_phases(cycle: Cycle, label: LabelArray, declared: tuple[int, int] | None) -> EdEs:
    """ED and ES by the one rule of all sources: ``declared`` by metadata, else told by ``label``, else assumed.

    `DataError` if the declared ones are not two of the stored frames, or if nothing is known of frames that are no
    whole cycle.
    """
    if declared:
        check_phases(cycle, *declared)
        return EdEs(*declared, "metadata")
    if told := phases_of_labels(label):
        ed, es = (int(cycle.frame_index[t]) for t in told)
        return EdEs(ed, es, "labels")
    frames = cycle.frames_in_cycle
    if frames < 2 or cycle.frame_index.tolist() != list(range(frames)):
        raise DataError(
            f"{cycle.grid.path}: ED and ES are not known, and {len(cycle.frame_index)} frames of {frames} are no cycle",
            hint="name the frames of ED and ES, label the LV in more frames, or give all frames of the cycle",
        )
    return assumed_phases(frames)


def assumed_phases(frames: int) -> EdEs:
    """ED and ES of a whole cycle that says nothing of them: acquisition starts at the R wave, which is ED.

    One frame alone is ED.
    """
    return EdEs(0, default_es_index(frames) if frames > 1 else 0, "assumed")


def labelled_study(
    cycle: Cycle,
    label: LabelArray,
    coverage: BoolArray,
    phases: EdEs,
    *,
    subject: str,
    dataset: str,
    vendor: str,
    diagnosis: Diagnosis,
    group: str,
    reported_ml: tuple[float | None, float | None] = (None, None),
) -> Study:
    """``cycle`` with what its source tells of it; ``reported_ml`` are the LV's EDV and ESV as it states them."""
    return Study(
        subject=subject,
        dataset=dataset,
        vendor=vendor,
        diagnosis=diagnosis,
        image=cycle.image,
        label=label,
        coverage=coverage,
        frame_index=cycle.frame_index,
        frames_in_cycle=cycle.frames_in_cycle,
        ed_index=phases.ed_index,
        es_index=phases.es_index,
        affine=cycle.grid.affine,
        frame_time_ms=cycle.grid.frame_time_ms,
        group=group,
        phases_from=phases.phases_from,
        reported_lv_edv_ml=reported_ml[0],
        reported_lv_esv_ml=reported_ml[1],
    )


def unlabelled_study(
    image: NDArray[Any],
    affine: Affine,
    *,
    subject: str,
    dataset: str,
    vendor: str = UNKNOWN_VENDOR,
    frame_time_ms: float | None = None,
    notes: tuple[str, ...] = (),
) -> Study:
    """All frames of a cycle (or ED alone), ``T X Y Z`` in the voxel order of the source, of which nothing is told."""
    count, _, _, slices = image.shape
    phases = assumed_phases(count)
    return Study(
        subject=subject,
        dataset=dataset,
        vendor=vendor,
        diagnosis=Diagnosis.UNKNOWN,
        image=image,
        label=np.zeros(image.shape, dtype=np.uint8),
        coverage=np.zeros((count, slices, len(STRUCTURES)), dtype=np.bool_),
        frame_index=np.arange(count, dtype=np.int64),
        frames_in_cycle=count,
        ed_index=phases.ed_index,
        es_index=phases.es_index,
        affine=affine,
        frame_time_ms=frame_time_ms,
        phases_from=phases.phases_from,
        notes=notes,
    )


def phases_of_labels(label: LabelArray) -> tuple[int, int] | None:
    """Positions in ``T X Y Z`` of ED and ES: the largest and the smallest LV of the frames where all of it is labelled.

    A frame with the LV in less than half as many slices as another one is a fragment. None if the frames do not
    differ, or are fewer than two.
    """
    lv = label == Label.LV
    slices = lv.any(axis=(1, 2)).sum(axis=1)  # T
    whole = np.flatnonzero((slices > 0) & (2 * slices >= slices.max()))
    volumes = lv[whole].sum(axis=(1, 2, 3))
    if len(np.unique(volumes)) < 2:
        return None
    return int(whole[volumes.argmax()]), int(whole[volumes.argmin()])
