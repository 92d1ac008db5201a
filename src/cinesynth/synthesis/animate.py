"""A real heart at ED set in motion: the anatomy is the patient's, the cycle is the model's.

The image is encoded where the codec sees the heart, and takes the place of a drawn anatomy; EDV and slices are measured
on it, and the motion is drawn, steered and judged as for any case. What comes out is on the patient's own grid.

Every frame is decoded, the first too, so that all of them are of one make: a real frame 0 before decoded ones would
flicker once a beat. The record says how far frame 0 is from the real image. Where the grid of the weights does not
reach, the real image stands still in every frame, and over `SEAM_MM` within its border both are mixed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cinesynth.data.geometry import Placement
from cinesynth.data.intensity import IntensityScale
from cinesynth.errors import DataError, InputError
from cinesynth.physiology import EDV_RANGE_ML
from cinesynth.synthesis.annotate import check_seen, locate
from cinesynth.synthesis.patient import Patient
from cinesynth.synthesis.pipeline import CinePipeline
from cinesynth.synthesis.rejection import rejection_sample
from cinesynth.synthesis.request import Request
from cinesynth.synthesis.sampler import Plan
from cinesynth.types import Cine, ClinicalPrior, FloatArray, Label, LabelArray, volumes_ml
from cinesynth.weights.registry import check_supported

SEAM_MM = 8.0
"""Reach of the mixture of decoded and real image within the border of the grid of the weights."""
ANY_EDV_ML = 100.0
"""Of a heart whose EF is checked before it is seen."""


@dataclass(frozen=True)
class Wish:
    """How a patient's heart is to move. `InputError` where no heart could, or two wishes contradict each other."""

    request: Request
    """Diagnosis, ESV, vendor, seed and settings; EDV and slices are the patient's and not given."""
    ef_percent: float | None = None
    """Instead of an ESV."""
    variation: float = 0.0
    """Noise level, 0 to 1, from which the anatomy is drawn anew under its own EDV: 0 is the patient's, 1 another's."""
    frame: int | None = None
    """ED, counted from 0, where the image has more frames than one."""

    def __post_init__(self) -> None:
        prior = self.request.prior
        if prior.lv_edv_ml is not None or prior.slices is not None or self.request.anatomy is not None:
            raise InputError("an EDV, slices or an anatomy were given", hint="those of the patient are measured")
        if self.ef_percent is not None:
            alone = prior.lv_esv_ml is None
            (replace(prior, lv_edv_ml=ANY_EDV_ML) if alone else prior).with_ef(self.ef_percent)
        if not 0.0 <= self.variation <= 1.0:
            raise InputError(
                f"variation {self.variation:g} is outside 0-1", hint="0 keeps the anatomy, 0.3 to 0.6 varies it"
            )

    def frame_of(self, frames: int) -> int:
        """The frame to encode, of so many; `InputError` where it is none of them, or several and none is named."""
        if self.frame is None and frames > 1:
            raise InputError(
                f"the image has {frames} frames, and none was named as ED",
                hint=f"give --frame 0 to {frames - 1}; `cinesynth annotate` finds ED",
            )
        frame = self.frame or 0
        if not 0 <= frame < frames:
            raise InputError(
                f"frame {frame} is outside 0-{frames - 1}: the image has {frames}", hint="frames count from 0"
            )
        return frame

    def measured(self, edv_ml: float, slices: int) -> Request:
        """The request for a heart with this EDV; `InputError` where the ESV does not fit it."""
        prior = replace(self.request.prior, lv_edv_ml=edv_ml, slices=slices)
        return replace(self.request, prior=prior if self.ef_percent is None else prior.with_ef(self.ef_percent))


@torch.inference_mode()
def animate(pipe: CinePipeline, patient: Patient, wish: Wish) -> Cine:
    """The patient's heart in motion: base first, on the patient's grid, in the scanner's numbers; frame 0 is ED.

    A variation is not held against the screens of ``pipe``: it is said to come from a patient anyway. `DataError` where
    the image does not fit the grid of the weights, does not vary, or shows no heart; `InputError` as of `Wish`.
    """
    study = patient.study
    frame = wish.frame_of(len(study.image))
    check_supported(wish.request.prior, pipe.condition_set)
    placement = locate(pipe.bundle.codec, study, frame)
    scale = IntensityScale.of(study.image)
    image = scale.apply(placement.image_to_grid(study.image))[frame]
    plan = pipe.plan(replace(wish.request, prior=ClinicalPrior(slices=placement.slices)))
    latent = pipe.sampler.encode(image[..., placement.slice_mask], plan)
    seen = volumes_ml(pipe.sampler.decode(latent, plan)[1], Label.LV, pipe.sampler.voxel_ml)
    _check_edv(seen)
    plan = _timed(pipe.plan(wish.measured(round(float(seen[0]), 3), placement.slices)), patient)
    tries = plan.request.max_attempts if wish.variation > 0.0 else 1
    anatomies = rejection_sample(
        tries, lambda attempt: pipe.sampler.anatomy(plan, attempt, start=latent, variation=wish.variation)
    )
    cine = pipe.add_motion(plan, *anatomies)
    home = _at_home(cine, placement, scale, study.image[frame])
    return replace(home, affine=study.affine, provenance=_record(cine, home, patient, wish, frame, placement, scale))


def _check_edv(lv_ml: FloatArray) -> None:
    check_seen(lv_ml)
    low, high = EDV_RANGE_ML
    if not low <= lv_ml[0] <= high:
        raise DataError(
            f"the model sees an LV of {lv_ml[0]:.0f} mL at ED, expected {low:g}-{high:g} mL",
            hint="give the ED frame of a short-axis cine; `cinesynth annotate` shows what the model sees",
        )


def _timed(plan: Plan, patient: Patient) -> Plan:
    """``plan`` with the length of the patient's own beat, where the image has a whole one and says how long it is."""
    step_ms, frames = patient.study.frame_time_ms, len(patient.study.image)
    if step_ms is None or frames == 1:
        return plan
    return replace(plan, frame_time_ms=round(step_ms * frames / plan.request.frames, 2))


def _at_home(cine: Cine, placement: Placement, scale: IntensityScale, real: NDArray[Any]) -> Cine:
    """``cine`` of acquired slices on the grid of the weights, on the grid of the ``real`` image ``X Y Z``."""
    decoded = placement.image_to_native(scale.invert(_padded(cine.image, placement, -1.0)))
    label: LabelArray = placement.label_to_native(_padded(cine.label, placement, Label.BACKGROUND))
    share = _decoded_share(placement)
    image = np.where(share > 0.0, share * decoded + (1.0 - share) * real, real).astype(np.float32)
    return replace(cine, image=image, label=label)


def _padded(volumes: NDArray[Any], placement: Placement, fill: float) -> NDArray[Any]:
    """``T X Y Z`` of acquired slices with the other slices of the grid."""
    result = np.full((*volumes.shape[:3], placement.grid.size[2]), fill, dtype=volumes.dtype)
    result[..., placement.slice_mask] = volumes
    return result


def _decoded_share(placement: Placement) -> FloatArray:
    """How much of each native voxel ``X Y Z`` is decoded: 1 on the grid, 0 from its border on, a ramp between them."""
    size, spacing = placement.grid.size, placement.grid.spacing_mm
    x, y = (
        np.minimum(np.arange(n), np.arange(n)[::-1]) * s / SEAM_MM for n, s in zip(size[:2], spacing[:2], strict=True)
    )
    ramp = np.minimum(np.minimum.outer(x, y), 1.0).astype(np.float32)
    share: FloatArray = placement.image_to_native(np.repeat(ramp[None, ..., None], size[2], axis=3))[0]
    return share


def _record(
    cine: Cine, home: Cine, patient: Patient, wish: Wish, frame: int, placement: Placement, scale: IntensityScale
) -> dict[str, object]:
    real = patient.study.image[frame].astype(np.float32)
    inside = _decoded_share(placement) >= 1.0
    error = (home.image[0] - real)[inside]
    window = scale.high - scale.low
    clipped = np.clip(home.image[0], scale.low, scale.high) - np.clip(real, scale.low, scale.high)
    mse = float(np.square(clipped[inside]).mean())
    known = patient.study.frame_time_ms is not None and len(patient.study.image) > 1
    return {
        **{key: value for key, value in cine.provenance.items() if key != "screen"},  # none was asked
        "slices_from": "image",
        "lv_edv_from": "the mask that the weights see in the image",
        "frame_time_from": "image" if known else "empirical prior",
        "derived_from": {
            **patient.to_json(),
            "frame": frame,
            "variation": wish.variation,
            "ef_percent": wish.ef_percent,
            "placement": placement.to_json(),
            "intensity": {"low": scale.low, "high": scale.high},
        },
        "frame_0": {
            "psnr_db": round(10.0 * math.log10(window**2 / max(mse, 1e-12)), 2),
            "mae": round(float(np.abs(error).mean()), 3),
            "of": "decoded voxels beside the real image; the window of intensities is the peak, mae is in its numbers",
        },
    }
