"""What no cine of a heart shows: a study that does is refused before it is stored, unless a person accepts it.

Every rule holds with a margin for all subjects of ACDC, M&Ms, Sunnybrook and Najman, and for phantoms. Voxel sizes that
are wrong, slices taken for frames, and labels by each other's numbers do not keep them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from cinesynth import physiology
from cinesynth.data.dataset_table import GENERATED
from cinesynth.data.flag import Flag
from cinesynth.data.label_plausibility import Numbers, label_flags
from cinesynth.data.similarity import correlation, interleaved_lead, neighbours, repeats_by_half, shrunk
from cinesynth.errors import DataError, InputError
from cinesynth.types import Study

MIN_NEXT_FRAME = 0.86
"""Correlation of neighbouring frames of a cycle at low resolution; .97 and more in whole cycles, .81 and less where
half of the slices stand in every second frame."""
MIN_DENSE_FRAMES = 8
"""Frames from which neighbours are that similar."""
MIN_ANY_FRAME = 0.65
"""The same for ED and ES, or a few frames; .84 and more, .61 with the slices of one reversed."""
MIN_TURNED_LEAD = 0.02
"""By how much a frame must fit better with an axis reversed to be stored so. As they are, ED and ES lead by .13 and
more."""
MIN_TIME_LEAD = 0.1
"""By how much slices must resemble each other more than frames do, first and last too, to be frames. Frames lead by .24
and more."""
MIN_TIME_CORRELATION = 0.9
"""The same correlation of slices, where there are not enough frames to compare with; .76 and less."""
MIN_INTERLEAVED_LEAD = 0.03
"""By how much another order of slices must make neighbours more alike; theirs leads by .06 and more in all sets, and is
.01 behind in a phantom."""
MIN_TWO_BEATS = 16
"""Frames from which two beats are looked for."""
MIN_REPEATED = 0.5
"""What half of the frames later has changed back of the change in a quarter; negative in all whole cycles."""

MAX_LABEL, MAX_LABELS = 10, 6
"""Largest number in label files, and how many different ones; a frame of the sets at hand holds 160 and more."""


def implausible(study: Study, numbers: Numbers | None = None) -> Iterator[Flag]:
    """The rules that ``study`` breaks; accepted ones have the grade ``note``.

    ``numbers`` is the meaning of the numbers in label files, where a layout states it, for the hint. Generated hearts
    break none: they have rules of acceptance of their own.
    """
    if study.dataset == GENERATED:
        return
    accepted = {match[1] for note in study.notes if (match := re.match(r"accepted ([a-z-]+): ", note))}
    found = (flag for rule in _RULES for flag in rule(study))
    for flag in (*found, *label_flags(study, numbers)):
        yield flag._replace(grade="note") if flag.name in accepted else flag


def admitted(study: Study, accept: Collection[str] = (), numbers: Numbers | None = None) -> Study:
    """``study`` with a note on each flag that was accepted; `DataError` if it has another one that stops it."""
    stops = [flag for flag in implausible(study, numbers) if flag.grade == "stops"]
    if refused := [flag for flag in stops if flag.name not in accept]:
        names = " ".join(f"--accept {name}" for name in dict.fromkeys(flag.name for flag in refused))
        hints = dict.fromkeys(flag.hint for flag in refused)
        raise DataError(
            f"{study.dataset} {study.subject}: {'; '.join(flag.text for flag in refused)}",
            hint=f"{'; '.join(hints)}. If it is right, ingest it with {names}",
        )
    return replace(study, notes=(*study.notes, *(f"accepted {flag.name}: {flag.text}" for flag in stops)))


def check_accepted(names: Collection[str]) -> None:
    """`InputError` unless all ``names`` are flags that stop a study."""
    if unknown := sorted(set(names) - set(STOPPING)):
        raise InputError(f"no flag is named {unknown[0]!r}", hint=f"--accept takes {', '.join(STOPPING)}")


# --- Geometry --------------------------------------------------------------------------------------------------------


def _field_of_view(study: Study) -> Iterator[Flag]:
    edges = tuple(float(n * step) for n, step in zip(study.image.shape[1:], study.spacing_mm, strict=True))
    (low, high), (thin, thick) = physiology.FIELD_OF_VIEW_MM, physiology.STACK_MM
    hint = "check the voxel size in the header; a layout can state the true one: spacing_mm: [x, y, z]"
    if not low <= min(edges[:2]) <= max(edges[:2]) <= high:
        text = f"the images are {edges[0]:.3g} x {edges[1]:.3g} mm large, expected {low:g}-{high:g} mm"
        yield Flag("field-of-view", "stops", text, hint)
    slices = study.image.shape[3]
    if slices >= physiology.SLICE_RANGE[0] and not thin <= edges[2] <= thick:
        text = f"the {slices} slices cover {edges[2]:.3g} mm, expected {thin:g}-{thick:g} mm"
        yield Flag("field-of-view", "stops", text, hint)


def _slices(study: Study) -> Iterator[Flag]:
    low, high = physiology.SLICE_RANGE
    slices = study.image.shape[3]
    text = f"{slices} slices, expected {low} to {high} to cover a heart"
    if slices > high:
        hint = "check which axis holds the slices, and leave out those beyond the heart"
        yield Flag("slices", "stops", text, hint)
    elif slices < low:
        yield Flag("slices", "look", text)


def _frames(study: Study) -> Iterator[Flag]:
    high = physiology.FRAMES_IN_CYCLE_RANGE[1]
    if study.frames_in_cycle > high:
        yield Flag(
            "frames",
            "stops",
            f"a cycle of {study.frames_in_cycle} frames, expected at most {high}",
            "store a single heartbeat; check that the numbers in file names count frames and are no times",
        )


def _copies(study: Study) -> Iterator[Flag]:
    """A frame that is stored again: often the first one at the end, which closes a cycle for players."""
    frames = study.image
    if len(frames) < max(study.frames_in_cycle, MIN_DENSE_FRAMES):
        return
    plain = [not np.ptp(frame) for frame in frames]  # nothing is known of these
    repeated = [t for t in range(len(frames)) if not plain[t] and np.array_equal(frames[t], frames[t - 1])]
    if repeated:
        first, other = repeated[0], (repeated[0] - 1) % len(frames)
        yield Flag(
            "frames",
            "stops",
            f"frame {other} is a copy of frame {first} (from 0): the cycle is shorter than its {len(frames)} frames",
            "leave the copy out, and check the frame time",
        )


def _no_image(study: Study) -> Iterator[Flag]:
    """Labels in the place of images."""
    first = study.image[0]
    if 0 <= first.min() < first.max() <= MAX_LABEL and len(values := np.unique(first[::2, ::2])) <= MAX_LABELS:
        held = ", ".join(f"{value:g}" for value in values)
        yield Flag(
            "image",
            "stops",
            f"the image holds the numbers {held} only, as label files do",
            "give the image, not its labels; in a layout, make the pattern of the images more specific",
        )


def _appearance(study: Study) -> Iterator[Flag]:
    """What frames and slices look like beside each other."""
    small = shrunk(study.image)  # T X Y Z
    found = list(_order(study, small))
    yield from found or (*_slice_order(small), *_beats(study, small))


def _order(study: Study, small: NDArray[np.float64]) -> Iterator[Flag]:
    """Slices in the place of frames, and frames that do not show the same slices."""
    frames, slices = len(small), small.shape[3]
    along_time, along_slices = neighbours(small, 0), neighbours(small, 3)
    looks_like_time = along_slices.min() >= along_time.min() + MIN_TIME_LEAD
    if frames < 4:  # too few to compare with; labels show that slices are slices
        comparable = slices > 3 and small.any(axis=(1, 2)).all() and not study.label.any()
        looks_like_time = along_slices.min() >= MIN_TIME_CORRELATION and comparable
    if looks_like_time:
        yield Flag(
            "axes",
            "stops",
            f"the {slices} slices resemble each other as frames do, the first and the last too",
            "give a stack of slices with time as the fourth axis (x, y, z, time), not one slice over time",
        )
        return
    worst = int(along_time.argmin())
    this, following = small[[worst]], small[[(worst + 1) % frames]]
    turned = {"z": following[..., ::-1], "y": following[:, :, ::-1], "x": following[:, ::-1]}
    better = {axis: float(correlation(this, other, 0)[0]) for axis, other in turned.items()}
    axis, lowest = max(better, key=lambda axis: better[axis]), float(along_time[worst])
    least = MIN_NEXT_FRAME if frames >= MIN_DENSE_FRAMES else MIN_ANY_FRAME
    if lowest < least or better[axis] > lowest + MIN_TURNED_LEAD:
        first, second = (int(study.frame_index[t % frames]) for t in (worst, worst + 1))
        text = f"frames {first} and {second} do not show the same slices (correlation {lowest:.2f}, expected {least:g}"
        text += f" and more; with {axis} reversed {better[axis]:.2f})"
        yield Flag(
            "frame-order",
            "stops",
            text,
            "check the order of slices and frames, and that all frames are of one stack in one orientation: converters "
            "may put half of the slices into every second frame",
        )


def _slice_order(small: NDArray[np.float64]) -> Iterator[Flag]:
    """Slices in the order in which a scanner acquires them, not in that of space."""
    if (lead := interleaved_lead(small)) > MIN_INTERLEAVED_LEAD:
        yield Flag(
            "slice-order",
            "stops",
            f"the slices seem to be interleaved (0, 2, 4, ..., 1, 3, ...): neighbours would resemble each other more "
            f"(correlation {lead:.2f} higher) in another order",
            "sort the slices by their position; a converter may have kept the order of acquisition",
        )


def _beats(study: Study, small: NDArray[np.float64]) -> Iterator[Flag]:
    """Two heartbeats that are stored as one cycle."""
    frames = len(study.image)
    if frames < MIN_TWO_BEATS or frames < study.frames_in_cycle:
        return
    if repeats_by_half(small) > MIN_REPEATED:
        yield Flag(
            "frames",
            "stops",
            f"the {frames} frames show two heartbeats: the second half repeats the first",
            f"store a single heartbeat, such as the first {frames // 2} frames",
        )


_RULES: tuple[Callable[[Study], Iterator[Flag]], ...] = (
    _field_of_view,
    _slices,
    _frames,
    _no_image,
    _copies,
    _appearance,
)

STOPPING = (
    *("field-of-view", "image", "slices", "frames", "axes", "frame-order", "slice-order"),
    *("volume", "phases", "labels", "alignment"),
)
"""Flags that stop a study, unless they are accepted."""
