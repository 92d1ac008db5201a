"""Reading cine MR from DICOM: files, headers, the short-axis stack among them, and its voxels."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cinesynth.data.dicom.files import Aside, Entry, Open, as_notes, find_entries, opener
from cinesynth.data.dicom.group import short_axis
from cinesynth.data.dicom.header import Frame, parse, parsing, read_frames
from cinesynth.data.dicom.series import grouped
from cinesynth.errors import DataError
from cinesynth.types import Affine

__all__ = ["Aside", "Entry", "Frame", "Scan", "as_notes", "find_entries", "read_headers", "read_scan"]


# --- The voxels of a short-axis cine ---------------------------------------------------------------------------------


LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
FRAME_TIME_MS = (10.0, 150.0)
"""Frame times that a cine can have."""


@dataclass(frozen=True)
class Scan:
    """A short-axis cine in the scanner's voxel order: X along rows, Y along columns, Z along their normal."""

    image: NDArray[np.generic]  # T X Y Z
    affine: Affine  # 4 4, voxel to millimetre, RAS+
    frames: tuple[tuple[Frame, ...], ...]  # Z T: the image behind each slice of each phase
    frame_time_ms: float | None
    aside: tuple[Aside, ...]


def read_headers(entries: Iterable[Entry]) -> tuple[list[Frame], list[Aside]]:
    """The images in ``entries`` in a lasting order, and the files that hold none that can be placed."""
    frames: list[Frame] = []
    reasons: dict[str, list[str]] = {}
    with opener() as open_entry:
        for entry in entries:
            try:
                with parsing(), open_entry(entry) as file:
                    frames += read_frames(entry, file)
            except DataError as error:
                reasons.setdefault(error.message, []).append(str(entry))
    frames.sort(key=lambda f: (f.series_number, f.series, f.instance, f.number, f.entry))
    return frames, [Aside(tuple(names), reason) for reason, names in reasons.items()]


def read_scan(frames: list[Frame], stills: bool = False) -> Scan:
    """The short-axis cine among ``frames`` of one examination; with ``stills``, a stack without time where none is.

    Grey values are the stored ones; where the header scales images differently they are scaled, as float32.
    `DataError` if there is no such cine, an image is damaged, or the cine is black.
    """
    stack = short_axis(frames, stills)
    planes = _read_pixels({frame for s in stack.slices for frame in s})
    image = np.stack([np.stack([planes[frame].T for frame in s]) for s in stack.slices], axis=-1)  # T X Y Z
    if image.min() == image.max():
        raise DataError(f"{stack.slices[0][0].entry}: the cine is black", hint="leave the examination out")
    return Scan(image, _affine(stack.slices), stack.slices, _frame_time_ms(stack.slices), stack.aside)


def _read_pixels(frames: set[Frame]) -> dict[Frame, NDArray[Any]]:
    """Rows and columns of each frame; every file is decoded once."""
    scaled = len({frame.scale for frame in frames}) > 1
    result: dict[Frame, NDArray[Any]] = {}
    with opener() as open_entry:
        for entry, wanted in sorted(grouped(frames, lambda frame: frame.entry).items()):
            pixels = _decode(entry, open_entry, wanted[0].shape)
            if max(frame.number for frame in wanted) >= len(pixels):
                raise DataError(f"{entry} holds {len(pixels)} images, fewer than it says", hint="copy it again")
            for frame in wanted:
                plane, (slope, intercept) = pixels[frame.number], frame.scale
                result[frame] = (plane * slope + intercept).astype(np.float32) if scaled else plane
    return result


def _decode(entry: Entry, open_entry: Open, shape: tuple[int, int]) -> NDArray[Any]:
    """All images of a file, ``N rows columns``."""
    try:
        with parsing(), open_entry(entry) as file:
            return np.asarray(parse(file).pixel_array).reshape(-1, *shape)
    except DataError as error:
        raise DataError(f"{entry} {error.message}", hint=error.hint) from error


def _affine(slices: tuple[tuple[Frame, ...], ...]) -> Affine:
    """Voxel to millimetre in RAS+; the slice step is that between the ends, so a sheared stack stays sheared."""
    first, last = slices[0][0], slices[-1][0]
    rows_mm, columns_mm = first.spacing_mm
    affine = np.eye(4)
    affine[:3, 0] = np.array(first.orientation[:3]) * columns_mm
    affine[:3, 1] = np.array(first.orientation[3:]) * rows_mm
    affine[:3, 2] = (np.array(last.position) - np.array(first.position)) / (len(slices) - 1)
    affine[:3, 3] = first.position
    return np.asarray(LPS_TO_RAS @ affine, dtype=np.float64)


def _frame_time_ms(slices: tuple[tuple[Frame, ...], ...]) -> float | None:
    """Median over slices of the step between trigger times, else of the beat over its phases."""
    triggers = [[frame.trigger_ms for frame in s] for s in slices]
    steps = [
        float(np.median(np.diff([t for t in s if t is not None]))) for s in triggers if len(s) > 1 and None not in s
    ]
    beats = [s[0].interval_ms / len(s) for s in slices if s[0].interval_ms]
    low, high = FRAME_TIME_MS
    for values in (steps, beats):
        if values and low <= float(np.median(values)) <= high:
            return float(np.median(values))
    return None
