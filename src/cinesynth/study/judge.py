"""What a segmenter is worth on a person: Dice, HD95 and mean surface distance, in the scanner's voxels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from cinesynth.data.heart import label_bounds
from cinesynth.errors import DataError
from cinesynth.evaluation.overlap import dice, surface_distances_mm
from cinesynth.types import STRUCTURES, LabelArray, Study

METRICS = ("dice", "hd95_mm", "assd_mm")


def judged(study: Study) -> Study:
    """``study`` with those of its stored frames alone that people are judged at: ED and ES where they are annotated.

    `DataError` where neither is.
    """
    frames = study.labelled & np.isin(study.frame_index, (study.ed_index, study.es_index))
    if not frames.any():
        raise DataError(
            f"{study.dataset} {study.subject} is annotated neither at ED nor at ES", hint="leave it out of the tests"
        )
    kept = np.flatnonzero(np.isin(study.frame_index, (study.ed_index, study.es_index)))
    return replace(
        study,
        image=study.image[kept],
        label=study.label[kept],
        coverage=study.coverage[kept],
        frame_index=study.frame_index[kept],
    )


def scores(label: LabelArray, study: Study) -> dict[str, NDArray[np.float64]]:
    """Each of `METRICS` by structure (``S``), mean over the frames of a `judged` study; NaN where not annotated.

    A structure that is not found at all, or found where there is none, is as far off as the annotated stack is long
    from corner to corner: leaving it out would favour segmenters that find nothing.
    """
    found = np.full((len(METRICS), len(label), len(STRUCTURES)), np.nan)
    for t in range(len(label)):
        for i, structure in enumerate(STRUCTURES):
            covered = study.coverage[t, :, i]
            a, b = label[t][..., covered] == structure, study.label[t][..., covered] == structure
            if a.any() and b.any():
                found[:, t, i] = dice(a, b), *surface_distances_mm(a, b, study.spacing_mm)
            elif a.any() or b.any():
                found[:, t, i] = 0.0, *[_diagonal_mm(b.shape, study)] * 2
    known = np.isfinite(found)
    mean = np.where(known, found, 0.0).sum(axis=1) / np.where(known.any(axis=1), known.sum(axis=1), np.nan)
    return dict(zip(METRICS, mean, strict=True))


def _diagonal_mm(shape: tuple[int, ...], study: Study) -> float:
    """Of the box around everything that is annotated in the plane, and the ``shape``'s slices."""
    (left, right), (top, bottom) = label_bounds(study)
    x, y = right - left + 1, bottom - top + 1
    return float(np.linalg.norm(np.array([x, y, shape[2]]) * np.array(study.spacing_mm)))
