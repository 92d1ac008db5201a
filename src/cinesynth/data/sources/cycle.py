"""Shared by readers: frames on one grid, which of them are ED and ES, labels of single frames, and the study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cinesynth.data.nifti import OUR_NUMBERS, Numbers, Volume, read_label
from cinesynth.data.normalisation import default_es_index
from cinesynth.data.terms import diagnosis_of
from cinesynth.errors import DataError
from cinesynth.physiology import FRAME_TIME_RANGE_MS
from cinesynth.types import STRUCTURES, UNKNOWN_VENDOR, BoolArray, Label, LabelArray, PhasesFrom, Study, full_coverage

SAME_FRAME = 0.05
"""Largest mean difference between copies of a frame, in standard deviations; rounding to bytes takes less than 0.01."""
MAX_STEP_DEVIATION = 0.3
"""Of a step between trigger times from the usual one: whole milliseconds of short steps are rounded."""
EdEs = tuple[int, int, PhasesFrom]
"""Zero-based ED and ES of a cycle, and how they are known."""


class Cycle(NamedTuple):
    """The stored frames of one subject, all on one grid."""

    grid: Volume  # the file whose grid all frames share
    image: NDArray[Any]  # T X Y Z
    frame_index: NDArray[np.int64]  # T, zero-based
    frames_in_cycle: int

    @property
    def no_labels(self) -> LabelArray:
        """Zeros ``T X Y Z``."""
        return np.zeros(self.image.shape, dtype=np.uint8)


def whole_cycle(volume: Volume) -> Cycle:
    """The cycle of a 4D file that holds all its frames."""
    image = volume.frames
    return Cycle(volume, image, np.arange(len(image), dtype=np.int64), len(image))


def some_frames(volumes: Sequence[Volume], numbers: Sequence[int], frames_in_cycle: int) -> Cycle:
    """Single-frame files at the zero-based ``numbers`` of the cycle; `DataError` unless they share a grid.

    The others are brought to the voxel order of the first, where their headers say that it differs.
    """
    first = volumes[0]
    volumes = [first, *(other.onto(first, "frame") for other in volumes[1:])]
    for other in volumes[1:]:
        if other.data.shape != first.data.shape or not np.allclose(other.spacing_mm, first.spacing_mm, rtol=0.01):
            raise DataError(
                f"{other.path} has {other.data.shape} voxels of {other.spacing_mm} mm, "
                f"{first.path.name} has {first.data.shape} of {first.spacing_mm} mm",
                hint="all frames of a subject must lie on one grid: take them from the same copy of the dataset",
            )
    image = np.stack([volume.data for volume in volumes])
    return Cycle(first, image, np.array(numbers, dtype=np.int64), frames_in_cycle)


def check_numbers(subject: str, index: Sequence[int], counts_from: int) -> None:
    """`DataError` unless the zero-based numbers of files are those of all frames of a cycle."""
    missing = sorted(set(range(len(index))) - set(index))
    if not missing:
        return
    numbers = [number + counts_from for number in index]
    found = f"{subject}: {len(index)} files have the frame numbers {_listed(numbers)}"
    if index == list(range(1 - 2 * counts_from, len(index) + 1 - 2 * counts_from)):
        raise DataError(found, hint=f"the layout says counts_from: {counts_from}: write counts_from: {1 - counts_from}")
    steps = np.diff(numbers)
    if len(steps) > 1 and steps.min() > 1 and steps.max() < 2 * steps.min():
        hint = (
            "if these are trigger times in ms, write {time_ms} in place of {frame}; else number the frames one by one"
        )
        raise DataError(found, hint=hint)
    raise DataError(
        f"{found}, expected those of a whole cycle",
        hint="add the missing frames, or say how many the whole cycle has: phases: {ed: ..., es: ..., frames: ...}",
    )


def frame_time_of(subject: str, times_ms: Sequence[float]) -> float | None:
    """The time between frames with these trigger times, ascending, ms; `DataError` unless they are those of a cine."""
    steps = np.diff(times_ms)
    if not len(steps):
        return None
    step, (low, high) = float(np.median(steps)), FRAME_TIME_RANGE_MS
    if not low <= step <= high or np.abs(steps - step).max() > MAX_STEP_DEVIATION * step:
        raise DataError(
            f"{subject}: the trigger times in the names are {_listed(times_ms)} ms, expected equal steps of "
            f"{low:g}-{high:g} ms",
            hint="copy all frames, each once; if the numbers are not ms, number the files one by one and use {frame}",
        )
    return (times_ms[-1] - times_ms[0]) / len(steps)


def _listed(numbers: Sequence[float]) -> str:
    """The first few numbers, and the last."""
    first = [f"{number:g}" for number in numbers]
    return ", ".join(first if len(first) < 6 else (*first[:4], "...", first[-1]))


def labels_of_frames(
    cycle: Cycle, paths: Mapping[int, Path], numbers: Numbers = OUR_NUMBERS, grid: Volume | None = None
) -> LabelArray:
    """Labels ``T X Y Z`` from one file for each zero-based frame in ``paths``; other frames stay 0.

    Labels must lie on ``grid`` (by default the grid of the cycle). `DataError` names a file without an LV cavity.
    """
    label = cycle.no_labels
    for index, path in paths.items():
        frame = read_label(path, grid or cycle.grid, numbers)
        if not (frame == Label.LV).any():
            lv = next(number for number, structure in numbers.items() if structure == Label.LV)
            raise DataError(f"{path} has no LV cavity (label {lv})", hint="the label is empty or wrong: copy it again")
        label[cycle.frame_index == index] = frame
    return label


def check_phases(cycle: Cycle, ed_index: int, es_index: int) -> None:
    """`DataError` unless ED and ES are two of the stored frames."""
    stored = cycle.frame_index.tolist()
    if ed_index == es_index or not {ed_index, es_index} <= set(stored):
        raise DataError(
            f"{cycle.grid.path}: ED {ed_index} and ES {es_index} are not two of its frames "
            f"({min(stored)} to {max(stored)}, counted from 0)",
            hint="check the frame numbers, and whether they count from 0 or 1",
        )


def frame_of(phase: Volume, cycle: Cycle, hint: str) -> int:
    """The zero-based frame of ``cycle`` that a file of one phase is a copy of; `DataError` with ``hint`` if none is."""
    phase = phase.onto(cycle.grid, "frame")
    if phase.data.shape != cycle.image.shape[1:]:
        raise DataError(
            f"{cycle.grid.path} has {cycle.image.shape[1:]} voxels, {phase.path.name} has {phase.data.shape}", hint=hint
        )
    wanted = _standardised(phase.data)
    differences = [np.abs(_standardised(frame) - wanted).mean() for frame in cycle.image]
    nearest = int(np.argmin(differences))
    if differences[nearest] > SAME_FRAME:
        raise DataError(f"{phase.path} is not a frame of {cycle.grid.path.name}", hint=hint)
    return int(cycle.frame_index[nearest])


def _standardised(frame: NDArray[Any]) -> NDArray[np.float32]:
    """Mean 0 and standard deviation 1: copies of a frame may be scaled otherwise in their files."""
    values = frame.astype(np.float32)
    return np.asarray((values - values.mean()) / max(float(values.std()), 1e-9), dtype=np.float32)


def choose_phases(cycle: Cycle, label: LabelArray, declared: tuple[int, int] | None) -> EdEs:
    """ED and ES by the rule that all readers follow: from metadata (``declared``), else from ``label``, else assumed.

    `DataError` if the declared frames are not two of the stored ones, or if ED and ES would have to be assumed in
    frames that are not a whole cycle.
    """
    if declared:
        check_phases(cycle, *declared)
        return *declared, "metadata"
    if found := phases_of_labels(label):
        ed, es = (int(cycle.frame_index[t]) for t in found)
        return ed, es, "labels"
    frames = cycle.frames_in_cycle
    if frames < 2 or cycle.frame_index.tolist() != list(range(frames)):
        raise DataError(
            f"{cycle.grid.path}: ED and ES are not given, and cannot be assumed: {len(cycle.frame_index)} of "
            f"{frames} frames are there",
            hint="name the ED and ES frames, label the LV in more frames, or provide all frames of the cycle",
        )
    return assumed_phases(frames)


def assumed_phases(frames: int) -> EdEs:
    """ED and ES of a whole cycle without labels or metadata; a single frame is ED.

    Acquisition starts at the R wave, which is ED; ES follows at the usual fraction of the cycle.
    """
    return 0, default_es_index(frames) if frames > 1 else 0, "assumed"


def labelled_study(
    cycle: Cycle, label: LabelArray, phases: EdEs, coverage: BoolArray | None = None, **facts: Any
) -> Study:
    """The study of a cycle in the source's voxel order; ``facts`` are further fields of `Study`.

    By default ``coverage`` says that every structure was annotated in each frame that holds a label: each shows a
    heart, so empty means unlabelled. What was done to the files is noted.
    """
    ed_index, es_index, phases_from = phases
    notes = tuple(dict.fromkeys((*facts.pop("notes", ()), *cycle.grid.notes)))
    if coverage is None:
        coverage = full_coverage(np.asarray(label.any(axis=(1, 2, 3))), label.shape[3])
    return unlabelled_study(
        cycle.image,
        cycle.grid.affine,
        label=label,
        coverage=coverage,
        frame_index=cycle.frame_index,
        frames_in_cycle=cycle.frames_in_cycle,
        ed_index=ed_index,
        es_index=es_index,
        phases_from=phases_from,
        frame_time_ms=cycle.grid.frame_time_ms,
        notes=notes,
        **facts,
    )


def unlabelled_study(image: NDArray[Any], affine: NDArray[np.float64], **facts: Any) -> Study:
    """The study of ``image``, ``T X Y Z`` in the source's voxel order; ``facts`` are further fields of `Study`.

    What they do not say: a whole cycle (or ED alone) of an unknown vendor, with the diagnosis that the ``group`` names,
    without labels; phases are assumed.
    """
    count, _, _, slices = image.shape
    ed_index, es_index, phases_from = assumed_phases(count)
    unknown: dict[str, Any] = {
        "vendor": UNKNOWN_VENDOR,
        "diagnosis": diagnosis_of(facts.get("group", "")),
        "label": np.zeros(image.shape, dtype=np.uint8),
        "coverage": np.zeros((count, slices, len(STRUCTURES)), dtype=np.bool_),
        "frame_index": np.arange(count, dtype=np.int64),
        "frames_in_cycle": count,
        "ed_index": ed_index,
        "es_index": es_index,
        "phases_from": phases_from,
    }
    return Study(image=image, affine=affine, **unknown | facts)


def phases_of_labels(label: LabelArray) -> tuple[int, int] | None:
    """Positions in ``T X Y Z`` of the largest (ED) and smallest (ES) LV among the completely labelled frames.

    A frame with the LV in less than half as many slices as another frame counts as incomplete. None if fewer than two
    frames remain, or all have the same volume.
    """
    lv = label == Label.LV
    slices = lv.any(axis=(1, 2)).sum(axis=1)  # T
    whole = np.flatnonzero((slices > 0) & (2 * slices >= slices.max()))
    volumes = lv[whole].sum(axis=(1, 2, 3))
    if len(np.unique(volumes)) < 2:
        return None
    return int(whole[volumes.argmax()]), int(whole[volumes.argmin()])
