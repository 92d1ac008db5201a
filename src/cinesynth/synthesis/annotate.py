"""Masks of a real cine by the codec of a weights folder, and what they are good for: which frames are ED and ES.

`annotate` makes them for a person to look at, `PhaseFinder` for two frame numbers. A mask of a model is a
guess. It never becomes a label of a study: a codec would be taught its own mistakes, and volumes would be its own
(docs/decisions/0012).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage

from cinesynth.data.geometry import Grid, Placement, place, slices_on_grid
from cinesynth.data.intensity import IntensityScale
from cinesynth.errors import DataError
from cinesynth.models.codec import Codec
from cinesynth.physiology import MAX_DETECTED_ES_SHARE, MIN_DETECTED_EDV_ML
from cinesynth.synthesis.patient import Patient
from cinesynth.synthesis.provenance import model_record
from cinesynth.types import BoolArray, FloatArray, Label, LabelArray, Study, volumes_ml
from cinesynth.weights.folder import Bundle, bundle_sha256, find_bundle

LOOKS, NEAR_ENOUGH = 4, 3
"""Times that `locate` looks at most, and the voxels in the plane that it lets a heart lie beside the middle."""


@dataclass(frozen=True, eq=False)
class Masks:
    """Masks of every stored frame of a study on the grid of the weights; ``placement`` leads back to its own grid."""

    placement: Placement
    label: LabelArray  # T X Y Z

    @property
    def native(self) -> LabelArray:
        """The masks on the study's own grid, ``T X Y Z``; background where the grid of the weights does not reach."""
        return self.placement.label_to_native(self.label)

    @property
    def lv_ml(self) -> FloatArray:
        """Volume of the LV in each stored frame, mL, shape ``T``."""
        return volumes_ml(self.label, Label.LV, self.placement.grid.voxel_ml)


def check_seen(lv_ml: FloatArray) -> None:
    """`DataError` where the LV is in no frame of a curve (mL, ``T``) as large as a heart's."""
    if not lv_ml.max() >= MIN_DETECTED_EDV_ML:
        raise DataError(
            f"the model sees an LV of {lv_ml.max():.0f} mL at most, and takes {MIN_DETECTED_EDV_ML:.0f} mL for a heart",
            hint="give a short-axis cine with the heart in it, and say by --slice-order which slice is the base",
        )


def beat_of(lv_ml: FloatArray) -> tuple[int, int]:
    """Frames of ED and ES, where the LV of a curve (mL, ``T``) is largest and smallest.

    `DataError` where it is no heart's or hardly moves.
    """
    check_seen(lv_ml)
    ed, es = int(lv_ml.argmax()), int(lv_ml.argmin())
    if not lv_ml[es] <= MAX_DETECTED_ES_SHARE * lv_ml[ed]:
        raise DataError(
            f"the LV that the model sees hardly moves, from {lv_ml[es]:.0f} to {lv_ml[ed]:.0f} mL",
            hint="give the whole cycle of a heart that beats",
        )
    return ed, es


def segment(codec: Codec, study: Study, placement: Placement | None = None) -> Masks:
    """What ``codec`` sees in each stored frame of ``study``, one at a time; `place` places it, or ``placement``.

    `DataError` if the study does not fit the codec's grid, or its image does not vary.
    """
    placement = placement or place(study, Grid.from_config(codec.grid))
    frames = IntensityScale.of(study.image).apply(placement.image_to_grid(study.image))
    return Masks(placement, np.stack([_mask(codec, frame, placement.slice_mask) for frame in frames]))


def locate(codec: Codec, study: Study, frame: int = 0) -> Placement:
    """Put the heart that ``codec`` sees in a stored ``frame`` at the middle of its grid.

    The look begins where `place` puts a study, which without labels may be the middle of the image, and goes after the
    largest thing that it sees until that stays. `DataError` as for `segment`.
    """
    grid = Grid.from_config(codec.grid)
    slices = slices_on_grid(study, grid.spacing_mm[2])
    if slices > grid.size[2]:
        raise DataError(
            f"{study.subject} has {slices} slices of {grid.spacing_mm[2]:g} mm, and these weights hold {grid.size[2]}",
            hint="leave out slices beyond the heart, or give weights of a deeper grid (`cinesynth weights list`)",
        )
    placement = place(study, grid)
    scale = IntensityScale.of(study.image)
    for _ in range(LOOKS):
        image = scale.apply(placement.image_to_grid(study.image))[frame]
        moved = _centred(placement, _mask(codec, image, placement.slice_mask))
        if np.abs(np.subtract(moved.offset, placement.offset)).max() <= NEAR_ENOUGH:
            break
        placement = moved
    return placement


def _centred(placement: Placement, label: LabelArray) -> Placement:
    """``placement`` with the heart of a ``label`` (``X Y Z``) in the middle of the plane."""
    if not label.any():
        return placement
    x, y, _ = ndimage.center_of_mass(label > 0)
    (a, b), (width, height, _) = placement.offset, placement.grid.size
    return replace(placement, offset=(a + round(x - (width - 1) / 2), b + round(y - (height - 1) / 2)))


@torch.inference_mode()
def _mask(codec: Codec, frame: FloatArray, acquired: BoolArray) -> LabelArray:
    """The mask of an ``X Y Z`` image; background where nothing was acquired."""
    device = next((parameter.device for parameter in codec.parameters()), None)
    image, slices = torch.from_numpy(frame)[None, None].to(device), torch.from_numpy(acquired)[None].to(device)
    label: LabelArray = codec.labels(codec.decode(codec.encode(image, slices), slices).logits, slices)[0]
    return label


@dataclass(frozen=True)
class PhaseFinder:
    """ED and ES of studies that have them assumed, from the masks of a model. May be forked or sent to workers."""

    codec: Codec
    weights_sha256: str
    """Of the index of the weights folder, which names every byte in it."""

    @classmethod
    def load(cls, weights: Path | str | None = None) -> PhaseFinder:
        """With the codec of a weights folder, or of weights that ship by their name; `WeightsError` if one is wrong."""
        bundle = Bundle.load(find_bundle(weights))
        return cls(bundle.codec, bundle_sha256(bundle.folder))

    @property
    def recipe(self) -> str:
        """What this makes of a study, as `Source.amended` wants it."""
        return f"assumed ED and ES by the masks of weights {self.weights_sha256}"

    def __call__(self, study: Study) -> Study:
        """``study`` with ED and ES where the model's LV is largest and smallest, or with a note why not."""
        if study.phases_from != "assumed":
            return study
        try:
            with _one_thread():
                ed, es = beat_of(segment(self.codec, study).lv_ml)
        except DataError as error:
            return _noted(study, f"ED and ES stay assumed: {error.message}")
        study = _noted(study, f"ED and ES by the masks of weights {self.weights_sha256[:12]}")
        indices = study.frame_index
        return replace(study, ed_index=int(indices[ed]), es_index=int(indices[es]), phases_from="model")


@dataclass(frozen=True, eq=False)
class Annotation:
    """Masks of a patient's frames by a model, on the patient's own grid."""

    patient: Patient
    label: LabelArray  # T X Y Z, base first
    beat: tuple[int, int] | None
    """Frames of ED and ES; None where there is one frame, or the LV hardly moves."""
    provenance: dict[str, object]

    @property
    def order_in_doubt(self) -> bool:
        """Whether the masks are wider at what is taken for the apex, and nothing but habit says that it is."""
        frame = self.beat[0] if self.beat else 0
        return self.patient.seems_reversed(self.label[frame])


def annotate(bundle: Bundle, patient: Patient) -> Annotation:
    """Masks of every frame by the codec of ``bundle``; its other networks stay idle. Parts off the heart are left out.

    `DataError` where the image does not fit the grid of the weights, does not vary, or no heart is seen.
    """
    study = patient.study
    masks = segment(bundle.codec, study, locate(bundle.codec, study))
    label = masks.native
    lv_ml = volumes_ml(label, Label.LV, study.voxel_ml)
    check_seen(lv_ml)
    try:
        beat = beat_of(lv_ml) if len(label) > 1 else None
    except DataError:
        beat = None
    weights = {**bundle.info, "sha256": bundle_sha256(bundle.folder)}
    return Annotation(patient, label, beat, model_record(bundle.config, weights, torch.device("cpu")))


def _noted(study: Study, note: str) -> Study:
    return replace(study, notes=(*study.notes, note))


@contextmanager
def _one_thread() -> Iterator[None]:
    """Torch on one thread: a forked process cannot use the threads of its parent, and results must not differ."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
