"""What a heart has, as masks show it: volumes, and the clinical prior that they make."""

from __future__ import annotations

import math
from typing import NamedTuple

from torch import Tensor

from cinesynth.data.packed import Record
from cinesynth.data.vocabulary import UNKNOWN_VENDOR
from cinesynth.models.codec import Codec
from cinesynth.types import EDV_RANGE_ML, ESV_SHARE_RANGE, MASS_RANGE_G, MYO_G_PER_ML, ClinicalPrior, Label


class Volumes(NamedTuple):
    """Volumes of one frame, millilitres; None where nothing tells them."""

    rv: float | None = None
    myo: float | None = None
    lv: float | None = None


def decoded_volumes(codec: Codec, latent: Tensor, ones: Tensor) -> Volumes:
    """Volumes of the masks of one latent ``C x y z``, whose slices are all acquired (``ones``, ``1 z``)."""
    label = codec.labels(codec.decode(latent[None], ones).logits, ones)
    voxel_ml = math.prod(codec.grid.spacing_mm) / 1000.0
    rv, myo, lv = (float((label == structure).sum()) * voxel_ml for structure in (Label.RV, Label.MYO, Label.LV))
    return Volumes(rv, myo, lv)


def measured_prior(record: Record, ed: Volumes, es: Volumes) -> ClinicalPrior:
    """The prior of a heart of these volumes at ED and ES: what no heart has is unknown, not a number."""
    return ClinicalPrior(
        record.diagnosis,
        *possible_volumes(ed.lv, es.lv),
        record.slices,
        *possible_volumes(ed.rv, es.rv),
        possible_mass(ed.myo),
        vendor_of_record(record),
    )


def possible_volumes(edv_ml: float | None, esv_ml: float | None) -> tuple[float | None, float | None]:
    """EDV and ESV of a ventricle, each None where no heart has it."""
    if edv_ml is None or not EDV_RANGE_ML[0] <= edv_ml <= EDV_RANGE_ML[1]:
        return None, None
    least, most = ESV_SHARE_RANGE
    fits = esv_ml is not None and least * edv_ml <= esv_ml <= most * edv_ml
    return edv_ml, esv_ml if fits else None


def possible_mass(myo_ml: float | None) -> float | None:
    """Mass in grams of so much myocardium, None where no heart has it."""
    if myo_ml is None or not MASS_RANGE_G[0] <= MYO_G_PER_ML * myo_ml <= MASS_RANGE_G[1]:
        return None
    return MYO_G_PER_ML * myo_ml


def vendor_of_record(record: Record) -> str | None:
    """The vendor of a subject's scanner, None where its source does not tell."""
    vendor = record.vendor.strip()
    return None if vendor.casefold() in ("", UNKNOWN_VENDOR) else vendor
