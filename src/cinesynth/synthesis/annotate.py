"""Masks of a real cine, predicted by the codec of a weights folder, and ED and ES detected from them.

`annotate` predicts masks to look at, `PhaseFinder` only two frame numbers. Predicted masks never become labels of a
study: the codec would be trained on its own errors, and its own volumes would count as measured
(docs/decisions/0012).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import scipy
import torch

from cinesynth.data.geometry import Grid, Placement, place, slices_on_grid
from cinesynth.data.normalisation import IntensityScale
from cinesynth.errors import DataError
from cinesynth.io.tasks import ProgressCallback, no_progress
from cinesynth.models.codec import Codec
from cinesynth.models.threads import on_all_cores, one_thread
from cinesynth.physiology import MAX_DETECTED_ES_SHARE, MIN_DETECTED_EDV_ML
from cinesynth.synthesis.patient import Annotation, Patient
from cinesynth.synthesis.pipeline import model_record
from cinesynth.types import BoolArray, FloatArray, Label, LabelArray, Study, volumes_ml
from cinesynth.weights.folder import Bundle, bundle_sha256
from cinesynth.weights.registry import find_bundle


def check_lv_detected(lv_ml: FloatArray) -> None:
    """Raise `DataError` unless a curve of LV volumes (mL, ``T``) reaches that of a heart."""
    if not lv_ml.max() >= MIN_DETECTED_EDV_ML:
        raise DataError(
            f"no heart was detected: the largest LV has {lv_ml.max():.0f} mL, "
            f"expected at least {MIN_DETECTED_EDV_ML:.0f} mL",
            hint="give a short-axis cine of the heart, and say which slice is the base with --slice-order",
        )


def detect_ed_es(lv_ml: FloatArray) -> tuple[int, int]:
    """Frames of ED and ES: the largest and the smallest LV of a curve (mL, ``T``).

    Raises `DataError` if no heart was detected, or the LV hardly changes its volume.
    """
    check_lv_detected(lv_ml)
    ed, es = int(lv_ml.argmax()), int(lv_ml.argmin())
    if not lv_ml[es] <= MAX_DETECTED_ES_SHARE * lv_ml[ed]:
        raise DataError(
            f"the detected LV hardly changes its volume, from {lv_ml[ed]:.0f} to {lv_ml[es]:.0f} mL",
            hint="give a whole cardiac cycle",
        )
    return ed, es


def segment(
    codec: Codec,
    study: Study,
    placement: Placement,
    on_frame: Callable[[int, int], None] = lambda done, total: None,
) -> LabelArray:
    """Predict the masks of the stored frames of ``study`` on the codec's grid, ``T X Y Z``, one frame at a time.

    Labels are not used. ``on_frame`` is called with the frames done and in all. Raises `DataError` if the image has a
    single value.
    """
    frames = IntensityScale.of(study.image).apply(placement.image_to_grid(study.image))  # T X Y Z
    label = []
    for mask in on_all_cores(lambda frame: _mask(codec, frame, placement.slice_mask), frames, _device(codec)):
        label.append(mask)
        on_frame(len(label), len(frames))
    return np.stack(label)


def locate(codec: Codec, study: Study, frame: int = 0) -> Placement:
    """Put the heart that ``codec`` detects in a stored ``frame`` at the centre of its grid.

    Without labels, `place` may start at the centre of the image. From there the grid follows the detected heart until
    it stays. Raises `DataError` if the study does not fit the codec's grid, or its image has a single value.
    """
    grid = Grid.from_config(codec.grid)
    slices = slices_on_grid(study, grid.spacing_mm[2])
    if slices > grid.size[2]:
        raise DataError(
            f"{study.subject} has {slices} slices of {grid.spacing_mm[2]:g} mm, and the grid of the weights holds "
            f"{grid.size[2]}",
            hint="leave out slices beyond the heart, or use weights with a deeper grid (`cinesynth weights list`)",
        )
    placement = place(study, grid)
    scale = IntensityScale.of(study.image)
    # A heart at the edge of the grid is detected in part. Four rounds suffice to centre it within three voxels.
    for _ in range(4):
        label = _mask(codec, scale.apply(placement.image_to_grid(study.image))[frame], placement.slice_mask)
        if not label.any():
            break
        centre = scipy.ndimage.center_of_mass(label > 0)[:2]
        x, y = (round(at - (size - 1) / 2) for at, size in zip(centre, grid.size, strict=False))
        if max(abs(x), abs(y)) <= 3:
            break
        placement = replace(placement, offset=(placement.offset[0] + x, placement.offset[1] + y))
    return placement


def _device(codec: Codec) -> torch.device:
    return next((parameter.device for parameter in codec.parameters()), torch.device("cpu"))


@torch.inference_mode()
def _mask(codec: Codec, frame: FloatArray, acquired: BoolArray) -> LabelArray:
    """The mask of an ``X Y Z`` image in [-1, 1]; background in slices that were not acquired."""
    device = _device(codec)
    image = torch.from_numpy(frame)[None, None].to(device)  # 1 1 X Y Z
    slices = torch.from_numpy(acquired)[None].to(device)  # 1 Z
    label: LabelArray = codec.labels(codec.decode(codec.encode(image, slices), slices).logits, slices)[0]
    return label


@dataclass(frozen=True)
class PhaseFinder:
    """Detects ED and ES of studies where they are only assumed. Worker processes may fork it or receive a copy."""

    codec: Codec
    weights_sha256: str  # SHA-256 of the index of the weights folder, which lists the hash of every file in it

    @classmethod
    def load(cls, weights: Path | str | None = None) -> PhaseFinder:
        """Load the codec of a weights folder, or of shipped weights by name; raises `WeightsError` if it is damaged."""
        bundle = Bundle.load(find_bundle(weights), precision="fp32")  # datasets do not depend on the machine
        return cls(bundle.codec, bundle_sha256(bundle.folder))

    @property
    def version(self) -> str:
        """What this does to a study, for the identity of a mapped source; with other weights it is another text."""
        return f"assumed ED and ES by the masks of weights {self.weights_sha256}"

    def __call__(self, study: Study) -> Study:
        """``study`` with the detected ED and ES, or with a note that says why they stay assumed."""
        if study.phases_from != "assumed":
            return study
        try:
            with one_thread():  # a forked process cannot use its parent's threads, and results must not differ
                placement = place(study, Grid.from_config(self.codec.grid))
                label = segment(self.codec, study, placement)
            ed, es = detect_ed_es(volumes_ml(label, Label.LV, placement.grid.voxel_ml))
        except DataError as error:
            return replace(study, notes=(*study.notes, f"ED and ES stay assumed: {error.message}"))
        ed, es = (int(study.frame_index[frame]) for frame in (ed, es))  # frames of the cycle: not all may be stored
        notes = (*study.notes, f"ED and ES by the masks of weights {self.weights_sha256[:12]}")
        return replace(study, ed_index=ed, es_index=es, phases_from="model", notes=notes)


def annotate(bundle: Bundle, patient: Patient, callback: ProgressCallback = no_progress) -> Annotation:
    """Predict the masks of every frame with the codec of ``bundle``; parts that are not connected to the heart go.

    ``callback`` is called after each frame, as ``callback("annotate", frames done, frames in all, {})``. Raises
    `DataError` if the image does not fit the grid of the weights, has a single value, or shows no heart.
    """
    study = patient.study
    placement = locate(bundle.codec, study)
    masks = segment(bundle.codec, study, placement, lambda done, total: callback("annotate", done, total, {}))
    label = placement.label_to_native(masks)  # background outside the grid of the weights
    lv_ml = volumes_ml(label, Label.LV, study.voxel_ml)
    check_lv_detected(lv_ml)
    try:
        ed_es = detect_ed_es(lv_ml) if len(label) > 1 else None
    except DataError:  # the masks are worth having even if nothing moves
        ed_es = None
    return Annotation(patient, label, ed_es, model_record(bundle, bundle_sha256(bundle.folder), torch.device("cpu")))
