"""The analytic beating heart: example data without patients, with exactly known volumes, the same on every machine."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cinesynth.data.phantom.anatomy import GROUPS, Heart, draw_patient, make_beat
from cinesynth.data.phantom.scanner import VENDORS, place_stack, receive, render_thorax, signals
from cinesynth.data.phantom.scene import paint_heart
from cinesynth.data.sources import Source, source_of
from cinesynth.errors import InputError
from cinesynth.types import Diagnosis, Study, full_coverage

PHANTOM = "phantom"
"""Dataset name of the analytic hearts, which are not patients."""


class PhantomStudy(NamedTuple):
    """A study together with its true volumes."""

    study: Study
    volumes_ml: NDArray[np.float64]  # T 3: RV, MYO and LV at every frame, exact
    heart: Heart


def read_phantoms(count: int, *, frames: int | None = None) -> Source:
    """A source of the phantoms with seeds 0 to ``count - 1``; five consecutive seeds have the five diagnoses.

    ``frames`` per cycle default to the phantom's own 20-30. `InputError` if ``count`` is below 1.
    """
    if count < 1:
        raise InputError(f"{count} phantoms", hint=f"ask for a multiple of {len(GROUPS)}, one of each diagnosis")
    return source_of({f"phantom{seed:05d}": seed for seed in range(count)}, partial(_read_phantom, frames=frames))


def _read_phantom(seed: int, frames: int | None) -> Study:
    return phantom_study(seed, frames=frames).study


def make_phantom_heart(
    seed: int,
    *,
    diagnosis: Diagnosis | None = None,
    frames: int | None = None,
    lv_edv_ml: float | None = None,
    ef_percent: float | None = None,
) -> Heart:
    """The heart of `phantom_study` without images."""
    rng = np.random.default_rng([seed, 0])
    group = list(GROUPS)[seed % len(GROUPS)] if diagnosis is None else diagnosis
    patient = draw_patient(rng, group, lv_edv_ml, ef_percent)
    drawn = int(rng.integers(20, 31))  # drawn in any case, so that the heart does not depend on ``frames``
    count = drawn if frames is None else frames
    if count < 6:
        raise InputError(f"{count} frames are too few for a heart beat", hint="give at least 6 frames")
    return Heart(rng, patient, make_beat(count, patient.heart_rate, rng.uniform(0.15, 0.28)))


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
    """One phantom subject, fully determined by the arguments.

    Consecutive seeds run through the five diagnoses, then through the four vendors. ``frames`` defaults to 20-30,
    ``spacing_mm`` (in plane) and ``field_mm`` (field of view, both sides) to the vendor's values, LV volumes to draws
    from ACDC's statistics. Turning off ``noise`` or ``shifts`` (breath-hold misalignment of slices) changes nothing
    else. All frames are stored and labelled; ED is frame 0. `InputError` on impossible requests.
    """
    if seed < 0:
        raise InputError(f"seed {seed} is negative", hint="seeds start at 0")
    heart = make_phantom_heart(seed, diagnosis=diagnosis, frames=frames, lv_edv_ml=lv_edv_ml, ef_percent=ef_percent)
    vendor = list(VENDORS)[seed // len(GROUPS) % len(VENDORS)] if vendor is None else vendor
    if vendor not in VENDORS:
        raise InputError(f"unknown vendor {vendor!r}", hint=f"one of {', '.join(VENDORS)}")
    scanner = VENDORS[vendor]
    # Planning, thorax, heart and noise use separate random streams.
    planning, background, texture, noises = (np.random.default_rng([seed, stream]) for stream in (1, 2, 3, 4))
    sampling = place_stack(planning, heart, scanner, spacing_mm=spacing_mm, field_mm=field_mm, shifts=shifts)
    signal = signals(field_t=scanner.field_t, flip_deg=scanner.flip_deg, tr_ms=scanner.tr_ms)
    thorax = render_thorax(background, sampling, signal, heart.apex)
    paint, label = paint_heart(texture, heart, sampling, signal, thorax)
    if label[:, [0, -1]].any() or label[:, :, [0, -1]].any():
        width, height = (n * sampling.spacing_mm[0] for n in sampling.shape)
        found = f"a field of view of {width:.0f} x {height:.0f} mm cuts the heart"
        raise InputError(found, hint="give a larger field_mm")
    image = receive(noises, paint, sampling, scanner, noise=noise)
    count = len(image)
    study = Study(
        subject=f"phantom{seed:05d}",
        dataset=PHANTOM,
        vendor=scanner.name,
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
    return PhantomStudy(study, heart.volumes_ml, heart)
