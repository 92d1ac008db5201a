"""Reading cine MR from DICOM: find files, read headers, pick the short-axis stack among them, read its voxels."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cinesynth.data.dicom.evidence import alternating, of_another_body
from cinesynth.data.dicom.files import FileLocation, SkippedImages, find_files, opener
from cinesynth.data.dicom.header import DicomFrame, read_frames
from cinesynth.data.dicom.parsing import parse, parsing
from cinesynth.data.dicom.short_axis import REMOVE_ONE_TAKE, short_axis
from cinesynth.data.dicom.takes import Phases, grouped
from cinesynth.errors import DataError
from cinesynth.physiology import FRAME_TIME_RANGE_MS
from cinesynth.types import Affine

__all__ = ["DicomFrame", "FileLocation", "Scan", "SkippedImages", "find_files", "read_headers", "read_scan"]

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""DICOM coordinates point to the patient's left, back and head; NIfTI's to right, front and head."""


class Scan(NamedTuple):
    """A short-axis cine in the scanner's voxel order: X along rows, Y along columns, Z along their normal."""

    image: NDArray[np.generic]  # T X Y Z
    affine: Affine  # 4 4, voxel to millimetre, RAS+
    frames: tuple[Phases, ...]  # Z T: the header of each slice at each phase
    frame_time_ms: float | None
    skipped: tuple[SkippedImages, ...]


def read_headers(files: Iterable[FileLocation]) -> tuple[list[DicomFrame], list[SkippedImages]]:
    """Images in ``files``, in an order that does not depend on theirs, and files without an image placed in space."""
    frames: list[DicomFrame] = []
    reasons: dict[str, list[str]] = {}
    with opener() as open_file:
        for location in files:
            try:
                with parsing(), open_file(location) as file:
                    found, others = read_frames(location, file)
                frames += found
                for reason, names in others.items():
                    reasons.setdefault(reason, []).extend(names)
            except DataError as error:
                reasons.setdefault(error.message, []).append(str(location))
    frames.sort(key=lambda f: (f.series_number, f.series, f.instance, f.number, f.file))
    return frames, [SkippedImages(tuple(names), reason) for reason, names in reasons.items()]


def read_scan(frames: list[DicomFrame], stills: bool = False, examination: object = "") -> Scan:
    """The short-axis cine among ``frames`` of one examination.

    With ``stills``, a stack of one image per slice is accepted if there is no cine. Grey values are the stored ones;
    where headers scale the images differently, they are scaled, as float32. `DataError`, which begins with the name of
    the ``examination``, if there is no such cine, an image is damaged, the cine is black, or takes
    cannot be told apart.
    """
    try:
        scan, strangers = _read_once(frames, stills)
        left = _strangers(strangers)
        while strangers:  # without them, slices of the stack itself take their places
            scan, strangers = _read_once([frame for frame in frames if str(frame) not in left], stills)
            left |= _strangers(strangers)
    except DataError as error:
        where = f"{examination}: " if examination else ""
        raise DataError(f"{where}{error.message}", hint=error.hint) from error
    skipped = SkippedImages(tuple(left), "of another body than the slices around it, as the images show")
    return scan._replace(skipped=(*scan.skipped, skipped)) if left else scan


def _strangers(slices: list[Phases]) -> dict[str, None]:
    return dict.fromkeys(str(frame) for phases in slices for frame in phases)


def _read_once(frames: list[DicomFrame], stills: bool) -> tuple[Scan, list[Phases]]:
    """The scan, and those of its slices that were acquired with other ones and show another body."""
    slices, skipped, twins, borrowed = short_axis(frames, stills)
    planes = _read_pixels({frame for group in (*slices, *twins) for frame in group})
    _check_twins(planes, twins)
    # DICOM planes are rows by columns, that is Y X.
    image = np.stack([np.stack([planes[frame].T for frame in s]) for s in slices], axis=-1)  # T X Y Z
    if image.min() == image.max():
        raise DataError(f"{slices[0][0].file}: the cine is black", hint="remove the examination")
    for z in alternating(image):
        raise DataError(f"the images of the slice of {slices[z][0]} alternate between two takes", hint=REMOVE_ONE_TAKE)
    others = of_another_body(image, [not borrowed.isdisjoint(s) for s in slices])
    scan = Scan(image, _affine(slices), slices, _frame_time_ms(slices), skipped)
    return scan, [slices[z] for z in others]


def _check_twins(planes: dict[DicomFrame, NDArray[Any]], twins: tuple[tuple[DicomFrame, DicomFrame], ...]) -> None:
    """`DataError` if two images of one slice and phase differ in most phases, so that none is a copy of the other."""
    differ = [pair for pair in twins if not np.array_equal(planes[pair[0]], planes[pair[1]])]
    if differ and 2 * len(differ) >= len(twins):
        one, other = differ[0]
        raise DataError(
            f"{one} and {other} are different images of one slice and phase, and so are {len(differ) - 1} other pairs",
            hint="two takes, or two people, share all identifiers: put one of the two into another folder",
        )


def _read_pixels(frames: set[DicomFrame]) -> dict[DicomFrame, NDArray[Any]]:
    """Pixels ``rows columns`` of each frame; every file is decoded once."""
    scaled = len({frame.scale for frame in frames}) > 1
    result: dict[DicomFrame, NDArray[Any]] = {}
    with opener() as open_file:
        for location, wanted in sorted(grouped(frames, lambda frame: frame.file).items()):
            try:
                with parsing(), open_file(location) as file:
                    pixels = np.asarray(parse(file).pixel_array).reshape(-1, *wanted[0].shape)
            except DataError as error:
                raise DataError(f"{location} {error.message}", hint=error.hint) from error
            if max(frame.number for frame in wanted) >= len(pixels):
                raise DataError(
                    f"{location} contains {len(pixels)} images, fewer than its header says", hint="copy it again"
                )
            for frame in wanted:
                plane, (slope, intercept) = pixels[frame.number], frame.scale
                result[frame] = (plane * slope + intercept).astype(np.float32) if scaled else plane
    return result


def _affine(slices: tuple[Phases, ...]) -> Affine:
    """Voxel to millimetre in RAS+. The slice step runs from first to last corner: a sheared stack stays sheared."""
    first, last = slices[0][0], slices[-1][0]
    rows_mm, columns_mm = first.spacing_mm
    affine = np.eye(4)
    affine[:3, 0] = np.array(first.orientation[:3]) * columns_mm
    affine[:3, 1] = np.array(first.orientation[3:]) * rows_mm
    affine[:3, 2] = (np.array(last.position) - np.array(first.position)) / (len(slices) - 1)
    affine[:3, 3] = first.position
    return np.asarray(LPS_TO_RAS @ affine, dtype=np.float64)


def _frame_time_ms(slices: tuple[Phases, ...]) -> float | None:
    """Median over slices of the step between trigger times, otherwise of the RR interval over the number of phases."""
    steps: list[float] = []
    for s in slices:
        triggers = [frame.trigger_ms for frame in s if frame.trigger_ms is not None]
        if len(s) > 1 and len(triggers) == len(s):
            steps.append(float(np.median(np.diff(triggers))))
    beats = [s[0].interval_ms / len(s) for s in slices if s[0].interval_ms]
    low, high = FRAME_TIME_RANGE_MS
    medians = (float(np.median(values)) for values in (steps, beats) if values)
    return next((ms for ms in medians if low <= ms <= high), None)
