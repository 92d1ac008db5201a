"""Animation of a real ED image: the anatomy is the patient's, the motion is sampled.

The codec encodes the image where it detects the heart, and this latent replaces a sampled anatomy. EDV and slices are
measured on it; the motion is sampled, matched to the requested ESV and judged as for any case. The result is on the
patient's own grid.

Every frame is decoded, the first too: a real frame 0 among decoded ones would flicker once per cycle. The record says
how much frame 0 differs from the real image. Outside the grid of the weights the real image is repeated in every frame,
and within 8 mm of the grid's border both are blended.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cinesynth.data.geometry import Placement
from cinesynth.data.normalisation import IntensityScale
from cinesynth.errors import DataError, InputError
from cinesynth.io.tasks import ProgressCallback, no_progress
from cinesynth.physiology import EDV_RANGE_ML
from cinesynth.synthesis.acceptance import rejection_sample
from cinesynth.synthesis.annotate import check_lv_detected, locate
from cinesynth.synthesis.patient import Patient
from cinesynth.synthesis.pipeline import CinePipeline
from cinesynth.synthesis.request import Request
from cinesynth.types import Cine, ClinicalPrior, FloatArray, Label, volumes_ml

SEAM_MM = 8.0
"""Width of the ramp between the decoded and the real image, inside the grid's border."""


@dataclass(frozen=True)
class AnimationRequest:
    """How a patient's heart is to move. Raises `InputError` if no heart can, or two values contradict each other."""

    request: Request
    """Diagnosis, ESV, vendor, seed and settings. EDV and slices are measured on the image and must not be given."""
    ef_percent: float | None = None  # an alternative to the ESV
    variation: float = 0.0
    """Noise level from which the anatomy is sampled again at its own EDV: 0 keeps it, 1 replaces it."""
    frame: int | None = None  # zero-based frame of ED; required if the image has several frames

    def __post_init__(self) -> None:
        prior = self.request.prior
        if prior.lv_edv_ml is not None or prior.slices is not None or self.request.anatomy is not None:
            raise InputError(
                "EDV, slices or the anatomy were requested, expected none of them: the real image determines them",
                hint="request the ESV, the EF or the diagnosis only",
            )
        if self.ef_percent is not None:
            # The EF is checked before the EDV is known; the range of EFs is the same at every EDV.
            (replace(prior, lv_edv_ml=100.0) if prior.lv_esv_ml is None else prior).with_ef(self.ef_percent)
        if not 0.0 <= self.variation <= 1.0:
            raise InputError(
                f"variation {self.variation:g} is outside 0-1", hint="0 keeps the anatomy, 0.3 to 0.6 varies it"
            )

    def frame_of(self, frames: int) -> int:
        """The frame to encode of ``frames``; `InputError` if it does not exist, or none of several was chosen."""
        if self.frame is None and frames > 1:
            raise InputError(
                f"the image has {frames} frames, and it is not known which one is ED",
                hint=f"give --frame 0 to {frames - 1}; `cinesynth annotate` detects ED",
            )
        frame = self.frame or 0
        if not 0 <= frame < frames:
            raise InputError(
                f"frame {frame} is outside 0-{frames - 1}: the image has {frames} frame(s)",
                hint="frames are counted from 0",
            )
        return frame

    def measured(self, edv_ml: float, slices: int) -> Request:
        """The request for a heart with this EDV; raises `InputError` if the ESV does not fit it."""
        prior = replace(self.request.prior, lv_edv_ml=edv_ml, slices=slices)
        return replace(self.request, prior=prior if self.ef_percent is None else prior.with_ef(self.ef_percent))


@torch.inference_mode()
def animate(
    pipe: CinePipeline, patient: Patient, wanted: AnimationRequest, callback: ProgressCallback = no_progress
) -> Cine:
    """Animate the patient's heart: a cine, base first, on the patient's grid and in the scanner's intensities.

    Frame 0 is ED. Variations are not checked by duplicate filters: they are declared to derive from the patient.
    ``callback`` is called after each network call, as in `CinePipeline.generate`. Raises `DataError` if the image does
    not fit the grid of the weights, has a single value, or shows no heart, and `InputError` if the request does not fit
    the image or the weights.
    """
    study = patient.study
    frame = wanted.frame_of(len(study.image))
    pipe.planner.check(wanted.request.prior)
    placement = locate(pipe.bundle.codec, study, frame)
    scale = IntensityScale.of(study.image)
    image = scale.apply(placement.image_to_grid(study.image))[frame]  # X Y Z
    # A first plan for the number of slices; the EDV is known once the latent is decoded.
    plan = pipe.plan(replace(wanted.request, prior=ClinicalPrior(slices=placement.slices)), complete=False)
    latent = pipe.sampler.encode(image[..., placement.slice_mask], plan)  # 1 C x y z
    edv_ml = _checked_edv(volumes_ml(pipe.sampler.decode(latent, plan, [0])[1], Label.LV, pipe.sampler.voxel_ml))
    plan = pipe.plan(wanted.measured(round(edv_ml, 3), placement.slices), complete=False)
    has_cycle = study.frame_time_ms is not None and len(study.image) > 1
    if study.frame_time_ms is not None and has_cycle:
        # The patient's own cycle length, over the requested number of frames.
        frame_time_ms = study.frame_time_ms * len(study.image) / plan.request.frames
        plan = replace(plan, frame_time_ms=round(frame_time_ms, 2))
    progress = pipe.sampler.progress(plan, callback)
    sample = partial(pipe.sampler.anatomy, plan, start=latent, variation=wanted.variation, progress=progress)
    # Without a variation every attempt would give the same anatomy, which is the patient's and stays so.
    match = partial(pipe.sampler.matched, plan, progress=progress)
    varied = rejection_sample(plan.request.max_attempts, sample, match) if wanted.variation else None
    cine = pipe.add_motion(plan, *(varied or rejection_sample(1, sample)), progress)
    real: FloatArray = study.image[frame].astype(np.float32)
    on_source = _on_source_grid(cine, placement, scale, study.image[frame])
    record = {
        # No duplicate filter was applied.
        **{key: value for key, value in cine.provenance.items() if key != "duplicate_filters"},
        "slices_from": "image",
        "lv_edv_from": "segmentation of the image",
        "frame_time_from": "image" if has_cycle else "empirical prior",
        "derived_from": {
            **patient.to_json(),
            "frame": frame,
            "variation": wanted.variation,
            "ef_percent": wanted.ef_percent,
            "placement": placement.to_json(),
            "intensity": {"low": scale.low, "high": scale.high},
        },
        "frame_0": _reconstruction(on_source.image[0], real, placement, scale),
    }
    return replace(on_source, affine=study.affine, provenance=record)


def _checked_edv(lv_ml: FloatArray) -> float:
    check_lv_detected(lv_ml)
    low, high = EDV_RANGE_ML
    if not low <= lv_ml[0] <= high:
        raise DataError(
            f"the detected LV has {lv_ml[0]:.0f} mL at ED, expected {low:g}-{high:g} mL",
            hint="give the ED frame of a short-axis cine; `cinesynth annotate` shows the detected masks",
        )
    return float(lv_ml[0])


def _on_source_grid(cine: Cine, placement: Placement, scale: IntensityScale, real: NDArray[Any]) -> Cine:
    """``cine``, acquired slices on the grid of the weights, mapped to the grid of the ``real`` image ``X Y Z``."""
    image, label = (  # T X Y Z each, with slices of black background where none was acquired
        np.full((*volumes.shape[:3], placement.grid.size[2]), fill, dtype=volumes.dtype)
        for volumes, fill in ((cine.image, -1.0), (cine.label, Label.BACKGROUND))
    )
    image[..., placement.slice_mask], label[..., placement.slice_mask] = cine.image, cine.label
    decoded = placement.image_to_native(scale.invert(image))  # T X Y Z, native
    share = _decoded_share(placement)
    # Where nothing is decoded, the real voxels are kept bit for bit.
    blended = np.where(share > 0.0, share * decoded + (1.0 - share) * real, real).astype(np.float32)  # T X Y Z
    return replace(cine, image=blended, label=placement.label_to_native(label))


def _decoded_share(placement: Placement) -> FloatArray:
    """Weight of the decoded image in each native voxel ``X Y Z``: 1 on the grid, 0 outside, a ramp at the border."""
    size, spacing = placement.grid.size, placement.grid.spacing_mm
    x, y = (np.minimum(np.arange(size[i]), np.arange(size[i])[::-1]) * spacing[i] / SEAM_MM for i in (0, 1))
    # The ramp of a voxel is that of the nearer border.
    ramp = np.minimum(np.minimum.outer(x, y), 1.0).astype(np.float32)  # X Y
    share: FloatArray = placement.image_to_native(np.repeat(ramp[None, ..., None], size[2], axis=3))[0]
    return share


def _reconstruction(
    decoded: FloatArray, real: FloatArray, placement: Placement, scale: IntensityScale
) -> dict[str, object]:
    """How well frame 0 reproduces the real image (``X Y Z`` each), over voxels that are decoded without blending."""
    inside = _decoded_share(placement) >= 1.0
    error = (decoded - real)[inside]
    window = scale.high - scale.low
    clipped = np.clip(decoded, scale.low, scale.high) - np.clip(real, scale.low, scale.high)
    mse = float(np.square(clipped[inside]).mean())
    return {
        "psnr_db": round(10.0 * math.log10(window**2 / max(mse, 1e-12)), 2),
        "mae": round(float(np.abs(error).mean()), 3),
        "of": "decoded voxels; the PSNR's peak is the intensity window, the MAE is in the image's intensities",
    }
