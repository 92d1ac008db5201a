"""Labels against anatomy, against each other, and against their images: rules that no labelled heart breaks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import scipy

from cinesynth import physiology
from cinesynth.data.flag import Flag
from cinesynth.data.label_on_image import blood_above_myocardium
from cinesynth.data.label_shape import bounding_box, enclosed_shares, slices_with
from cinesynth.types import STRUCTURES, BoolArray, Label, Study, voxel_counts

Numbers = Mapping[int, Label]

MIN_BLOOD_LEAD = 0.03
"""By how much more blood must be brighter than myocardium with labels turned than as they are, where they lead by .01
and more but for one subject, whose labels fit in no way."""
MIN_BLOOD_ABOVE, CHANCE_ABOVE = 0.75, 0.6
"""How often blood is brighter than myocardium where labels fit (.73 and more in all sets but for that subject), and
below which they lie elsewhere."""
MIN_ENCLOSED_BY_OTHER = 0.9
"""Mean enclosed fraction from which one structure is the LV of another."""


def label_flags(study: Study, numbers: Numbers | None = None) -> Iterator[Flag]:
    """What is wrong with the labels at ED and ES; ``numbers`` is their meaning in the files, for the hint."""
    yield from _volumes(study)
    yield from _gaps(study)
    found = list(_labels(study, numbers))
    yield from found or _on_image(study)


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
    elif ed != es and edv_ml == esv_ml > 0 and np.array_equal(*study.label[[ed, es]]):
        yield Flag(
            "phases",
            "stops",
            f"ED and ES have the same labels, voxel by voxel: an LV of {edv_ml:.3g} mL that does not beat",
            "one of the two label files is a copy of the other: take the right one",
        )


def _gaps(study: Study) -> Iterator[Flag]:
    """Slices without LV between others that have it: they were not annotated, and the volume lacks them."""
    for phase, index in (("ED", study.ed_index), ("ES", study.es_index)):
        frame = int(np.flatnonzero(study.frame_index == index)[0])
        has_lv = slices_with(study.label[frame] == Label.LV)  # Z
        within = np.flatnonzero(has_lv)
        inside = np.arange(len(has_lv))[within[0] : within[-1]] if len(within) else within
        covered = study.coverage[frame, :, STRUCTURES.index(Label.LV)]
        if missing := [int(z) for z in inside if covered[z] and not has_lv[z]]:
            yield Flag(
                "volume",
                "stops",
                f"{len(missing)} slices at {phase} have no LV between others that have it: its volume lacks them",
                "label these slices, too; where they were not annotated, write into a layout: empty_slices: unknown",
            )
            return


def _on_image(study: Study) -> Iterator[Flag]:
    """Labels that another tool saved with other axes than the image, or that are those of other images."""
    if (blood := blood_above_myocardium(study, enough=1.0 - MIN_BLOOD_LEAD)) is None:
        return
    text = f"blood is brighter than myocardium in {100 * blood.as_is:.0f} % of the labelled voxels"
    if blood.turned > blood.as_is + MIN_BLOOD_LEAD and blood.turned >= MIN_BLOOD_ABOVE:
        yield Flag(
            "alignment",
            "stops",
            f"the labels do not lie on their images: {text}, and in {100 * blood.turned:.0f} % with {blood.turn}",
            "save the labels in the voxel order of the images; a tool may have exchanged or reversed their axes",
        )
    elif blood.as_is < CHANCE_ABOVE:
        yield Flag(
            "alignment",
            "stops" if blood.frames > 1 else "look",
            f"the labels do not lie on their images: {text}, expected {100 * CHANCE_ABOVE:.0f} % and more",
            "check whether labels and images are of the same person and frame",
        )


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
