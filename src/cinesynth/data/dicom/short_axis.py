"""Finds the short-axis cine among the images of one examination, by geometry and time, never by file name."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

from cinesynth.data.dicom.bodies import Body, bodies
from cinesynth.data.dicom.files import SkippedImages
from cinesynth.data.dicom.grid import COMPLETE, SAME_PLACE_MM, longest_run
from cinesynth.data.dicom.header import DicomFrame
from cinesynth.data.dicom.stack import WHOLE, Plane, Slice, Stack, parallel, places_of, plane_of, together
from cinesynth.data.dicom.takes import MIN_CINE_FRAMES, Phases, Take, grouped, in_time, takes_of
from cinesynth.data.nifti import SLICE_STEP_MM
from cinesynth.errors import DataError
from cinesynth.physiology import SLICE_RANGE

ALONG_BODY = math.cos(math.radians(15.0))  # beyond it, a normal belongs to a transverse or similar stack
SAME_VIEW = math.cos(math.radians(30.0))  # of the normals of two stacks that both are the short axis of a heart
BLENDED = 1.25  # images of a slice, relative to the other slices, that make an uneven row two takes
SHORT = re.compile(r"(?<![a-z])(sax|sa|short[ _-]*ax\w*|kurzachse|kurze[ _-]achse)(?![a-z])")
LONG = re.compile(r"(?<![a-z])([234] ?-?_?(ch|kammer|chamber)\w*|lax|la|long[ _-]*ax\w*|hla|vla|lvot|rvot)(?![a-z])")
OTHER_PERSON = "of another person, by name, birth date or sex"
OTHER_POSITION = "in another frame of reference: of another person, or after this one was repositioned"
REMOVE_ONE_TAKE = "it was acquired twice, and series, time and folder of the two are the same: remove one of them"

Reader = Callable[[list[DicomFrame]], list[Take]]


class ShortAxis(NamedTuple):
    """The short-axis cine of an examination."""

    slices: tuple[Phases, ...]  # Z T
    skipped: tuple[SkippedImages, ...]
    twins: tuple[tuple[DicomFrame, DicomFrame], ...]  # two images of one slice and phase, the first of which is used
    borrowed: frozenset[DicomFrame]  # images of slices that were not acquired with the others, perhaps of another body


class _View(NamedTuple):
    """A plane of one body, and its images that are in no take."""

    plane: Plane
    body: Body
    left: list[SkippedImages]


def short_axis(frames: list[DicomFrame], stills: bool = False) -> ShortAxis:
    """The short-axis cine among the images of one examination, and the images that were skipped.

    The plane with the most parallel slices is the short axis, unless series descriptions tell otherwise; transverse
    stacks are the last choice. Of several stacks in it the most complete counts, then the latest; slices that were
    repeated alone, or that it lacks, are taken from others, but never from another frame of reference. Slices with a
    different number of phases use the image nearest in the cycle. With ``stills``, a stack of one image per slice is
    accepted if there is no cine. `DataError` if there is none, a slice is missing, or takes cannot be told apart.
    """
    # Anonymised files may share identifiers, so place and time of copies must agree, too.
    groups = grouped(frames, lambda f: (f.uid, f.number, f.position, f.orientation, f.trigger_ms, f.phase, f.instance))
    views = _views([group[0] for group in groups.values()], stills)
    skipped = _skip((frame for group in groups.values() for frame in group[1:]), "a copy of another file")
    skipped += [images for view in views for images in view.left]
    home = max((v for v in views if v.plane.stacks), key=lambda v: max(map(_rank, v.plane.stacks)), default=None)
    if home is None:
        raise _no_cine(skipped + [images for view in views for images in _others(view)])
    best = max(home.plane.stacks, key=_rank)
    skipped += [images for view in views for images in _others(view, home, best)]
    _check_halves(best, home, views)
    _check_blends(best)
    complete, left = _of_one_cycle(best)
    whole, shifted = _even(complete)
    used = {frame for phases in whole for frame in phases}
    # A copy or two of an image are harmless; where most images have one, they may be another take.
    doubled = [s.take for s in best.slices if 2 * len(s.take.twins) >= len(s.take.frames)]
    twins = tuple(pair for take in doubled for pair in take.twins if pair[0] in used)
    own = {id(s) for s in best.own} if not home.body.frame_of_reference else {id(s) for s in best.slices}
    borrowed = frozenset(frame for s in best.slices if id(s) not in own for frame in s.take.frames)
    return ShortAxis(whole, (*skipped, *left, *shifted), twins, borrowed)


def bodies_with_a_short_axis(frames: list[DicomFrame], stills: bool = False) -> list[Body]:
    """Those that have a stack which could be the short axis, in the order of time; one, if halves of one may be two."""
    stacks = [(v, max(v.plane.stacks, key=_rank)) for v in _views(frames, stills) if v.plane.stacks]
    if not stacks:
        return []
    home, best = max(stacks, key=lambda each: _rank(each[1]))
    alike = [(view, stack) for view, stack in stacks if _same_view(stack, best)]
    if any(_halves(best, home, view) for view, _ in alike):
        return [home.body]
    ordered = sorted(alike, key=lambda each: min(s.take.begun for s in each[1].slices))
    return list(dict.fromkeys(view.body for view, _ in ordered))


def _same_view(one: Stack, best: Stack) -> bool:
    """Whether a stack is as good a short axis as the best one."""
    turned = abs(float(one.first.normal @ best.first.normal)) < SAME_VIEW
    return bool(one.run.slices) and not turned and _rank(one)[:2] == _rank(best)[:2]


def _skip(frames: Iterable[DicomFrame], reason: str) -> list[SkippedImages]:
    """``frames`` as one `SkippedImages`; an empty list if there are none."""
    names = tuple(str(frame) for frame in frames)
    return [SkippedImages(names, reason)] if names else []


def _no_cine(skipped: list[SkippedImages]) -> DataError:
    counts: Counter[str] = Counter()
    for images in skipped:
        counts[images.reason] += len(images.names)
    reasons = "; ".join(f"{count} images: {reason}" for reason, count in counts.most_common(4)) or "no images"
    hint = f"a short-axis cine has at least {SLICE_RANGE[0]} parallel slices"
    return DataError(f"no short-axis cine: {reasons}", hint=hint)


# --- Planes ----------------------------------------------------------------------------------------------------------


def _views(frames: list[DicomFrame], stills: bool) -> list[_View]:
    views = _read(frames, takes_of, f"fewer than {MIN_CINE_FRAMES} phases: no cine")
    if stills and not any(view.plane.stacks for view in views):
        views = _read(frames, _stills, "several images of a slice, too few for a cine")
    return views


def _read(frames: list[DicomFrame], read: Reader, why_not: str) -> list[_View]:
    """Each plane of each body, with the takes that ``read`` finds among the images of a place."""
    views: list[_View] = []
    for body, own in bodies(frames).items():
        for images in together(own, parallel):
            places = places_of(images)
            takes = [read(place) for place in places]
            left: list[SkippedImages] = []
            for place, found in zip(places, takes, strict=True):
                used = {f for take in found for f in (*take.frames, *(twin for _, twin in take.twins))}
                rest = [f for f in place if f not in used]
                left += _skip(rest, "another series of the same slice" if found else why_not)
            views.append(_View(plane_of(takes), body, left))
    return views


def _stills(place: list[DicomFrame]) -> list[Take]:
    """The images of a place from which series has one, each as a take."""
    series = grouped(place, lambda frame: frame.series).values()
    return [in_time(one) for one in series] if all(len(one) == 1 for one in series) else []


# --- The best stack --------------------------------------------------------------------------------------------------


def _rank(stack: Stack) -> tuple[int, bool, bool, bool, int, int, tuple[str, int, int, int]]:
    """Sort key, the short axis last: by description, direction, completeness, and time of acquisition."""
    first = stack.first
    name = first.description.lower()
    named = int(bool(SHORT.search(name))) - int(bool(LONG.search(name)))
    oblique = float(np.abs(first.normal).max()) < ALONG_BODY
    covered = float(np.median([s.take.covered for s in stack.slices])) >= WHOLE
    latest = max(s.take.begun[:-1] for s in stack.slices)
    return named, oblique, first.original, covered, stack.run.slices, len(stack.own), latest


def _others(view: _View, home: _View | None = None, best: Stack | None = None) -> list[SkippedImages]:
    """The takes of a plane that are not in the ``best`` stack, which lies in ``home``, and its images not used."""
    used = {id(s) for s in best.slices} if best else set()
    places = {s.place for s in best.slices} if best and view is home else set()
    size = {id(s): len(stack.own) for stack in view.plane.stacks for s in stack.own}
    few = f"{view.plane.places} parallel slice{'s' * (view.plane.places > 1)}: a long-axis view or a scout"
    skipped: list[SkippedImages] = []
    for s in view.plane.slices:
        skipped += _skip((twin for _, twin in s.take.twins), "another image of the same slice and time")
        if id(s) in used:
            continue
        if home and best and view.body != home.body and (size or _is_like(s, best)):
            reason = OTHER_POSITION if view.body.person == home.body.person else OTHER_PERSON
        elif s.place in places:
            reason = "another series of the same slice"
        elif view is home and id(s) not in size:
            reason = "a slice between or beyond those of the stack"
        else:
            reason = f"another stack of {size.get(id(s), view.plane.places)} slices" if size else few
        skipped += _skip(s.take.frames, reason)
    return skipped


def _check_halves(best: Stack, home: _View, views: list[_View]) -> None:
    """`DataError` if slices in another frame of reference continue ``best``: the two may be halves of one stack."""
    for view in views:
        if beyond := _halves(best, home, view):
            raise DataError(
                f"slices in two frames of reference: {len(best.slices)}, and {beyond} beyond them",
                hint="they are of two people, or of one who was repositioned, and cannot be put together: "
                "keep the images of one FrameOfReferenceUID if they are a complete stack, otherwise none",
            )


def _halves(best: Stack, home: _View, view: _View) -> int:
    """Number of slices of ``view`` beyond the ends of ``best``, if they are most of its slices and of one person."""
    if view.body == home.body or view.body.person != home.body.person:
        return 0
    low, high = best.slices[0].along_mm, best.slices[-1].along_mm
    at = {s.place: float(best.first.normal @ s.take.first.position) for s in view.plane.slices if _is_like(s, best)}
    beyond = sum(not low - SAME_PLACE_MM < mm < high + SAME_PLACE_MM for mm in at.values())
    return beyond if beyond > 1 and 2 * beyond > len(at) else 0


def _is_like(s: Slice, stack: Stack) -> bool:
    return parallel(s.take.first, stack.first)


def _check_blends(best: Stack) -> None:
    """`DataError` if a slice has far more images than others at uneven times: two takes that nothing tells apart."""
    for s in best.slices:
        count = len(s.take.frames)
        if count > BLENDED * best.phases and not s.take.regular:
            raise DataError(
                f"the slice of {s.take.first} has {count} images at uneven times, others have {best.phases}",
                hint=REMOVE_ONE_TAKE,
            )


def _of_one_cycle(stack: Stack) -> tuple[list[Phases], list[SkippedImages]]:
    """All slices with the most common number of phases; slices with less than half of it are skipped."""
    count = stack.phases
    takes = [s.take for s in stack.slices]
    beat = float(np.median([take.beat for take in takes if len(take.frames) == count]))
    complete: list[Phases] = []
    skipped: list[SkippedImages] = []
    for take in takes:
        if len(take.frames) == count:
            complete.append(take.frames)
        elif len(take.frames) >= count / 2:  # each phase is the nearest image in the cycle
            wanted = np.arange(count) * take.beat / beat
            complete.append(tuple(take.frames[i] for i in np.abs(wanted[:, None] - take.times).argmin(axis=1)))
        else:
            skipped += _skip(take.frames, f"{len(take.frames)} phases of {count}")
    return complete, skipped


def _even(slices: list[Phases]) -> tuple[tuple[Phases, ...], list[SkippedImages]]:
    """The longest evenly spaced run of slices; `DataError` if it lacks more than a quarter of them."""
    first = slices[0][0]
    run = longest_run(np.array([s[0].position for s in slices]), np.array(first.orientation).reshape(2, 3))
    shifted = [s for s, straight in zip(slices, run.in_line, strict=True) if not straight]
    straight = [s for s, in_line in zip(slices, run.in_line, strict=True) if in_line]
    kept = straight[run.start : run.stop]
    if run.missing or len(kept) < max(SLICE_RANGE[0], COMPLETE * len(straight)):
        steps = ", ".join(f"{mm:.1f}" for mm in run.steps_mm)
        raise DataError(
            f"the stack has gaps: its {len(straight)} slices lie {steps} mm apart",
            hint="copy all images of the short-axis stack, or remove the examination",
        )
    low, high = SLICE_STEP_MM
    if not low <= run.step_mm <= high:
        raise DataError(f"slices {run.step_mm:.1f} mm apart", hint=f"expected slices {low:g}-{high:g} mm apart")
    skipped = _skip((f for s in shifted for f in s), "shifted in the plane against the other slices")
    cut = (f for s in (*straight[: run.start], *straight[run.stop :]) for f in s)
    return tuple(kept), skipped + _skip(cut, "beyond a gap in the stack")
