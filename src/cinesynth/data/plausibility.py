"""What no cine of a heart shows: a study that does is refused before it is stored, unless a person accepts it.

Every rule holds with a margin for all subjects of ACDC, M&Ms, Sunnybrook and Najman, and for phantoms. Voxel sizes that
are wrong, slices taken for frames, and labels by each other's numbers do not keep them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from typing import Literal, NamedTuple

import numpy as np
import scipy
from numpy.typing import NDArray

from cinesynth import physiology
from cinesynth.data.label_shape import bounding_box, enclosed_shares
from cinesynth.errors import DataError, InputError
from cinesynth.types import STRUCTURES, BoolArray, Label, Study, voxel_counts

Grade = Literal["stops", "look", "note"]
"""Whether a flag refuses a study, asks a person to look at it, or only tells something."""
Numbers = Mapping[int, Label]

MIN_NEXT_FRAME = 0.9
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
MIN_ENCLOSED_BY_OTHER = 0.9
"""Mean enclosed fraction from which one structure is the LV of another."""


class Flag(NamedTuple):
    """Something about a study that its user should know."""

    name: str
    grade: Grade
    text: str
    hint: str = ""

    def __str__(self) -> str:
        return self.text


def implausible(study: Study, numbers: Numbers | None = None) -> Iterator[Flag]:
    """The rules that ``study`` breaks; accepted ones have the grade ``note``.

    ``numbers`` is the meaning of the numbers in label files, where a layout states it, for the hint.
    """
    accepted = {match[1] for note in study.notes if (match := re.match(r"accepted ([a-z-]+): ", note))}
    found = (flag for rule in _RULES for flag in rule(study))
    for flag in (*found, *_labels(study, numbers)):
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


def _order(study: Study) -> Iterator[Flag]:
    """Slices in the place of frames, and frames that do not show the same slices."""
    small = _shrunk(study.image)  # T X Y Z
    frames, slices = len(small), small.shape[3]
    along_time, along_slices = _neighbours(small, 0), _neighbours(small, 3)
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
    better = {axis: float(_correlation(this, other, 0)[0]) for axis, other in turned.items()}
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


def _shrunk(image: NDArray[np.generic], side: int = 32) -> NDArray[np.float64]:
    """``T X Y Z`` at about ``side`` pixels, each the sum of four, every slice with mean 0 and norm 1 (0 if uniform)."""
    step = max(1, min(image.shape[1:3]) // side)
    x, y = (size // step * step for size in image.shape[1:3])
    starts = sorted({0, step // 2})
    exact = np.float32 if image.dtype.itemsize <= 2 else np.float64
    with np.errstate(over="ignore", invalid="ignore"):  # values that squares cannot hold are not compared
        small = np.asarray(sum(image[:, i:x:step, j:y:step].astype(exact) for i in starts for j in starts))
        small = small - small.mean(axis=(1, 2), keepdims=True)
        norm = np.sqrt(np.square(small).sum(axis=(1, 2), keepdims=True))
        small = small / np.where(norm > 1e-6, norm, np.inf)
    return np.asarray(np.nan_to_num(small, nan=0.0, posinf=0.0, neginf=0.0), dtype=np.float64)


def _neighbours(small: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    """The correlation of each frame (``axis`` 0) or slice (3) with the next one; the last is followed by the first."""
    return _correlation(small, np.roll(small, -1, axis), axis)


def _correlation(one: NDArray[np.float64], other: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    """Correlation of two arrays of `_shrunk` along ``axis`` (0: frames, 3: slices), averaged over the other of the two.

    Uniform slices are not compared; 1 where there is nothing to compare.
    """
    correlation = np.einsum("txyz,txyz->tz", one, other)
    seen = one.any(axis=(1, 2)) & other.any(axis=(1, 2))  # T Z
    over = 1 if axis == 0 else 0
    counts = seen.sum(axis=over)
    sums = np.where(seen, correlation, 0.0).sum(axis=over)
    return np.asarray(np.where(counts > 0, sums / np.maximum(counts, 1), 1.0), dtype=np.float64)


# --- Labels against anatomy ------------------------------------------------------------------------------------------


def _volumes(study: Study) -> Iterator[Flag]:
    """An EDV that no heart has, and an ES larger than ED."""
    ed, es = (int(np.flatnonzero(study.frame_index == index)[0]) for index in (study.ed_index, study.es_index))
    covered = study.coverage[[ed, es], :, STRUCTURES.index(Label.LV)]  # ED and ES, Z
    both = covered.all(axis=0)
    label = study.label[[ed, es]]
    counts = voxel_counts(label if both.all() else label[..., both], Label.LV)
    edv_ml, esv_ml = (float(n) * study.voxel_ml for n in counts)
    low, high = physiology.ANY_EDV_ML
    if both.all() and edv_ml > 0 and not low <= max(edv_ml, esv_ml) <= high:
        yield Flag(
            "volume",
            "stops",
            f"the labelled LV has {max(edv_ml, esv_ml):.3g} mL, expected {low:g}-{high:g} mL",
            "check the voxel size in the header, and the meaning of the label numbers",
        )
    if ed != es and 0 < edv_ml < esv_ml:
        yield Flag(
            "phases",
            "stops",
            f"ED and ES are exchanged: the LV has {edv_ml:.3g} mL at ED (frame {study.ed_index}) and {esv_ml:.3g} mL "
            f"at ES (frame {study.es_index})",
            f"exchange the two where they are stated; in a layout that counts from 0: phases: {{ed: {study.es_index}, "
            f"es: {study.ed_index}}}, or exchange the files or columns of ED and ES",
        )


_RULES: tuple[Callable[[Study], Iterator[Flag]], ...] = (_field_of_view, _slices, _frames, _order, _volumes)


def _labels(study: Study, numbers: Numbers | None) -> Iterator[Flag]:
    """At ED, else at ES: the myocardium encloses the LV, and the RV lies beside it."""
    for index in (study.ed_index, study.es_index):
        frame = int(np.flatnonzero(study.frame_index == index)[0])
        if study.coverage[frame].any():
            heart = study.label[frame][bounding_box(study.label[frame])]
            masks = {structure: heart == structure for structure in STRUCTURES}
            masks = {structure: mask for structure, mask in masks.items() if mask.any()}
            if len(masks) > 1:
                yield from _anatomy(masks, study.spacing_mm, numbers)
                return


def _anatomy(
    masks: Mapping[Label, BoolArray], spacing_mm: tuple[float, ...], numbers: Numbers | None
) -> Iterator[Flag]:
    """``masks`` are those of the structures (``X Y Z``) that one frame has."""
    enclosed = None
    if {Label.MYO, Label.LV} <= set(masks):
        enclosed = _mean_enclosed(masks[Label.LV], masks[Label.MYO])
    if enclosed is None or enclosed < physiology.MIN_MEAN_ENCLOSED:
        pairs = [(outer, inner) for outer in masks for inner in masks if outer != inner]
        shares = {(outer, inner): _mean_enclosed(masks[inner], masks[outer]) for outer, inner in pairs}
        myo, lv = max(shares, key=lambda pair: shares[pair])
        if shares[myo, lv] >= MIN_ENCLOSED_BY_OTHER:
            rest = next(structure for structure in STRUCTURES if structure not in (myo, lv))
            yield _exchanged({Label.RV: rest, Label.MYO: myo, Label.LV: lv}, numbers)
            return
    if enclosed is not None and enclosed < physiology.MIN_MEAN_ENCLOSED:
        yield Flag(
            "labels",
            "stops",
            f"the myocardium touches {100 * enclosed:.0f} % of the outline of the LV, expected "
            f"{100 * physiology.MIN_MEAN_ENCLOSED:.0f} % and more",
            "check the meaning of the label numbers, and whether labels were moved or resampled",
        )
    if {Label.RV, Label.MYO} <= set(masks):
        away = scipy.ndimage.distance_transform_edt(~np.asarray(masks[Label.MYO].any(axis=2)), sampling=spacing_mm[:2])
        if (distance := float(away[masks[Label.RV].any(axis=2)].min())) > physiology.MAX_RV_DISTANCE_MM:
            text = f"the RV lies {distance:.0f} mm from the myocardium, expected beside it"
            yield Flag("labels", "stops", text, "check the meaning of the label numbers")


def _mean_enclosed(inner: BoolArray, outer: BoolArray) -> float:
    """Mean fraction of the outline of ``inner`` that touches ``outer``, between base and apex if there are slices."""
    shares = enclosed_shares(inner, outer)
    return float(np.mean(shares[1:-1] or shares))


def _exchanged(named: Mapping[Label, Label], numbers: Numbers | None) -> Flag:
    """The flag for labels by each other's numbers; ``named`` is what each structure is called."""
    wrong = [f"what is called {called.name} is {true.name}" for true, called in named.items() if true != called]
    if numbers:
        given = {called: [n for n, structure in numbers.items() if structure == called] for called in STRUCTURES}
        stated = {true: given[called] for true, called in named.items() if given[called]}
        line = ", ".join(f"{true.name}: {n[0] if len(n) == 1 else n}" for true, n in stated.items())
        hint = f"write into the layout: labels: {{{line}}}"
    else:
        hint = "exchange the numbers in the label files, or describe them in a layout: labels: {RV: ., MYO: ., LV: .}"
    return Flag(
        "labels", "stops", f"labels have each other's numbers: {', '.join(wrong)} (myocardium encloses LV)", hint
    )


STOPPING = ("field-of-view", "slices", "frames", "axes", "frame-order", "volume", "phases", "labels")
"""Flags that stop a study, unless they are accepted."""
