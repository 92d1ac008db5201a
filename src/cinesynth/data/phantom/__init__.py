"""The analytic beating heart: embedded example data whose every volume is known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cinesynth.data.phantom.anatomy import Heart, make_heart
from cinesynth.data.phantom.patients import GROUPS, draw_patient, make_beat
from cinesynth.data.phantom.scanner import VENDORS, Sampling, Vendor, place_stack, receive, signals, vendor_named
from cinesynth.data.phantom.scene import paint_heart
from cinesynth.data.phantom.shape import rasterize_labels
from cinesynth.data.phantom.thorax import render_thorax
from cinesynth.errors import InputError
from cinesynth.types import Diagnosis, LabelArray, Study, full_coverage

__all__ = ["PHANTOM", "PhantomStudy", "phantom_study", "rasterize_labels"]


# --- `phantom_study` -------------------------------------------------------------------------------------------------


MIN_FRAMES = 6
PHANTOM = "phantom"
"""Dataset of the analytic hearts: patients, they are not."""


@dataclass(frozen=True)
class PhantomStudy:
    """A study and what a real one never tells: the true volumes."""

    study: Study
    volumes_ml: NDArray[np.float64]
    """RV, MYO and LV at every frame, shape ``T 3``, analytic."""
    heart: Heart


def make_phantom_heart(
    seed: int,
    *,
    diagnosis: Diagnosis | None = None,
    frames: int | None = None,
    lv_edv_ml: float | None = None,
    ef_percent: float | None = None,
) -> Heart:
    """The heart of `phantom_study`, without its images."""
    rng = np.random.default_rng([seed, 0])
    group = list(GROUPS)[seed % len(GROUPS)] if diagnosis is None else diagnosis
    patient = draw_patient(rng, group, lv_edv_ml, ef_percent)
    drawn = int(rng.integers(20, 31))
    count = drawn if frames is None else frames
    if count < MIN_FRAMES:
        raise InputError(f"{count} frames cannot hold a beat", hint=f"give at least {MIN_FRAMES}")
    return make_heart(rng, patient, make_beat(count, patient.heart_rate, rng.uniform(0.15, 0.28)))


def phantom_study(
    seed: int,
    *,
    diagnosis: Diagnosis | None = None,
    vendor: str | None = None,
    frames: int | None = None,
    spacing_mm: float | None = None,
    field_mm: float | None = None,
    lv_edv_ml: float | None = None,
    ef_percent: float | None = None,
    noise: bool = True,
    shifts: bool = True,
) -> PhantomStudy:
    """One subject, the same for the same arguments.

    Consecutive seeds run through the five diagnoses, then through the four vendors. ``frames`` defaults to 20-30,
    ``spacing_mm`` (in plane) and ``field_mm`` (both sides) to the vendor's, LV volumes to draws from the ACDC
    statistics. ``noise`` and ``shifts`` (breath-hold misalignment of slices) can be left out without changing
    anything else. All frames are stored and labelled; ED is frame 0. Raises `InputError` on impossible requests.
    """
    if seed < 0:
        raise InputError(f"seed {seed} is negative", hint="give a seed of 0 or more")
    heart = make_phantom_heart(seed, diagnosis=diagnosis, frames=frames, lv_edv_ml=lv_edv_ml, ef_percent=ef_percent)
    scanner = vendor_named(list(VENDORS)[seed // len(GROUPS) % len(VENDORS)] if vendor is None else vendor)
    planning = np.random.default_rng([seed, 1])
    sampling = place_stack(planning, heart, scanner, spacing_mm=spacing_mm, field_mm=field_mm, shifts=shifts)
    image, label = _scan(seed, heart, scanner, sampling, noise)
    return PhantomStudy(_study(seed, heart, scanner, sampling, image, label), heart.volumes_ml, heart)


def _scan(
    seed: int, heart: Heart, vendor: Vendor, sampling: Sampling, noise: bool
) -> tuple[NDArray[np.int16], LabelArray]:
    """Image and label ``T X Y Z``. Anatomy, texture and noise draw from streams of their own."""
    signal = signals(field_t=vendor.field_t, flip_deg=vendor.flip_deg, tr_ms=vendor.tr_ms)
    thorax = render_thorax(np.random.default_rng([seed, 2]), sampling, signal, heart.apex)
    paint, label = paint_heart(np.random.default_rng([seed, 3]), heart, sampling, signal, thorax)
    if label[:, [0, -1]].any() or label[:, :, [0, -1]].any():
        width, height = (n * sampling.spacing_mm[0] for n in sampling.shape)
        raise InputError(f"a field of {width:.0f} x {height:.0f} mm cuts the heart", hint="give a larger field_mm")
    return receive(np.random.default_rng([seed, 4]), paint, sampling, vendor, noise=noise), label


def _study(
    seed: int, heart: Heart, vendor: Vendor, sampling: Sampling, image: NDArray[np.int16], label: LabelArray
) -> Study:
    count = len(image)
    return Study(
        subject=f"phantom{seed:05d}",
        dataset=PHANTOM,
        vendor=vendor.name,
        diagnosis=heart.patient.diagnosis,
        image=image,
        label=label,
        coverage=full_coverage(np.ones(count, dtype=np.bool_), image.shape[3]),
        frame_index=np.arange(count, dtype=np.int64),
        frames_in_cycle=count,
        ed_index=0,
        es_index=heart.beat.es_index,
        affine=np.diag([*sampling.spacing_mm, 1.0]),
        frame_time_ms=heart.beat.frame_time_ms,
    )
