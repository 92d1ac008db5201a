"""Which images may show one body in one position: people can share identifiers, and can be repositioned."""

from __future__ import annotations

import re
from typing import NamedTuple

from cinesynth.data.dicom.header import DicomFrame
from cinesynth.data.dicom.takes import grouped
from cinesynth.physiology import SLICE_RANGE


class Body(NamedTuple):
    """A person in one position; places of images are comparable within it alone."""

    frame_of_reference: str  # "" where it says nothing
    person: int  # by name, birth date and sex


def bodies(frames: list[DicomFrame]) -> dict[Body, list[DicomFrame]]:
    """The images of one examination by body."""
    reference = _frames_of_reference(frames)
    person = _people(frames)
    return grouped(frames, lambda f: Body(reference[f.frame_of_reference], person[f.person]))


def _frames_of_reference(frames: list[DicomFrame]) -> dict[str, str]:
    """Each FrameOfReferenceUID, or "" where it says nothing: some programs give one to each image or series."""
    places: dict[str, set[tuple[float, ...]]] = {}
    for frame in frames:
        places.setdefault(frame.frame_of_reference, set()).add((*frame.position, *frame.orientation))
    single = {uid for uid, at in places.items() if len(at) == 1}
    nothing = single if len(single) >= SLICE_RANGE[0] else set()
    return {uid: "" if uid in nothing else uid for uid in places}


def _people(frames: list[DicomFrame]) -> dict[tuple[str, ...], int]:
    """The number of the person whom each set of facts describes; facts that are missing contradict nothing."""
    known: list[tuple[str, ...]] = []
    result: dict[tuple[str, ...], int] = {}
    for facts in dict.fromkeys(frame.person for frame in frames):
        plain = tuple(re.sub(r"[\W_]+", " ", fact).strip().casefold() for fact in facts)
        number = next((n for n, one in enumerate(known) if _agree(one, plain)), len(known))
        if number == len(known):
            known.append(plain)
        known[number] = tuple(a or b for a, b in zip(known[number], plain, strict=True))
        result[facts] = number
    return result


def _agree(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    return all(a == b or not a or not b for a, b in zip(one, other, strict=True))
