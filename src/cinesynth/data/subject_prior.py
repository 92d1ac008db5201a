"""What is known of a subject, as a clinical prior: measured on masks, and without implausible values."""

from __future__ import annotations

from typing import NamedTuple

from cinesynth.data.packed import PackedDataset, Record
from cinesynth.physiology import EDV_RANGE_ML, ESV_SHARE_RANGE, MYO_G_PER_ML, MYO_MASS_RANGE_G
from cinesynth.types import STRUCTURES, UNKNOWN_VENDOR, ClinicalPrior, is_contiguous, volumes_ml


class Volumes(NamedTuple):
    """Volumes of one frame, millilitres; None where unknown."""

    rv: float | None = None
    myo: float | None = None
    lv: float | None = None


def labelled_prior(data: PackedDataset, index: int) -> ClinicalPrior:
    """Diagnosis, vendor, slices and all that the labels of a subject tell of volumes and mass.

    A structure's volume is known where it was annotated in a frame without a gap.
    """
    record = data.records[index]
    volumes = []
    for frame in (record.ed, record.es):
        label, covered = data.label(index, frame)[None], record.coverage[frame].T  # S Z
        known = [
            float(volumes_ml(label, s, data.grid.voxel_ml)[0]) if is_contiguous(c) else None
            for s, c in zip(STRUCTURES, covered, strict=True)
        ]
        volumes.append(Volumes(*known))
    return measured_prior(record, *volumes)


def measured_prior(record: Record, ed: Volumes, es: Volumes) -> ClinicalPrior:
    """The prior of a heart with these volumes at ED and ES. Implausible values become unknown: masks can be wrong."""
    mass_g = None if ed.myo is None else MYO_G_PER_ML * ed.myo
    return ClinicalPrior(
        record.diagnosis,
        *plausible_volumes(ed.lv, es.lv),
        record.slices,
        *plausible_volumes(ed.rv, es.rv),
        mass_g if mass_g is not None and MYO_MASS_RANGE_G[0] <= mass_g <= MYO_MASS_RANGE_G[1] else None,
        vendor_of_record(record),
    )


def plausible_volumes(edv_ml: float | None, esv_ml: float | None) -> tuple[float | None, float | None]:
    """EDV and ESV of a ventricle, None where they are outside what human hearts have."""
    if edv_ml is None or not EDV_RANGE_ML[0] <= edv_ml <= EDV_RANGE_ML[1]:
        return None, None
    least, most = ESV_SHARE_RANGE
    fits = esv_ml is not None and least * edv_ml <= esv_ml <= most * edv_ml
    return edv_ml, esv_ml if fits else None


def vendor_of_record(record: Record) -> str | None:
    """The vendor of a subject's scanner, None where the source does not name it."""
    vendor = record.vendor.strip()
    return None if vendor.casefold() in ("", UNKNOWN_VENDOR) else vendor
