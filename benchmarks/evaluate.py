"""How long `cinesynth evaluate` takes, cold and from its cache.

    python benchmarks/evaluate.py --cases 50 --frames 30 --work /tmp/evaluate-benchmark

Makes a dataset of subjects and a cohort, both of phantoms, on 192 x 192 voxels of 1 mm with slices of 10 mm (not timed,
and done once for each --work), then times two runs of the same evaluation. The target: 10 minutes cold for 50 cases of
30 frames on two cores, under one minute from the cache.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from cinesynth.cases.cohort import write_cohort_table
from cinesynth.cases.writing import save_case
from cinesynth.data.dataset_table import TABLE_FILE, DatasetTable
from cinesynth.data.geometry import Grid, place
from cinesynth.data.ingest import ingest
from cinesynth.data.normalisation import IntensityScale
from cinesynth.data.phantom import phantom_study
from cinesynth.evaluation.evaluate import evaluate
from cinesynth.synthesis.cohort import case_name
from cinesynth.types import Cine, ClinicalPrior, Label, Study, volumes_ml

GRID = Grid((192, 192, 16), (1.0, 1.0, 10.0))
"""Holds every phantom; a case keeps `SLICES` of it."""
SUBJECTS = 73
"""56 train, 17 held out, as in the public part of ACDC; every eighth is a whole cycle, the others are ED and ES."""
WHOLE_EVERY = 8
SLICES = 10
PROVENANCE = {
    "request": {},
    "weights": {"sha256": "phantoms"},
    "acceptance": {"accepted": True, "anatomy": {"attempts": 1}, "motion": {"attempts": 1}},
}


def subjects(count: int, frames: int) -> Iterator[Study]:
    """Phantoms under names of their own; most keep only ED and ES."""
    for number in range(count):
        study = replace(phantom_study(1000 + number, frames=frames).study, subject=f"p{number:03d}", dataset="subjects")
        if number % WHOLE_EVERY:
            keep = np.flatnonzero(np.isin(study.frame_index, (study.ed_index, study.es_index)))
            parts = {name: getattr(study, name)[keep] for name in ("image", "label", "coverage", "frame_index")}
            study = replace(study, **parts)
        yield study


def as_cine(study: Study, seed: int) -> Cine:
    """A phantom on the grid, with exactly `SLICES` slices, as if it had been generated."""
    placement = place(study, GRID)
    image = IntensityScale.of(study.image).apply(placement.image_to_grid(study.image))
    label = placement.label_to_grid(study.label)
    first = (GRID.size[2] - SLICES) // 2
    image, label = (volume[..., first : first + SLICES] for volume in (image, label))
    edv, esv = (float(v) for v in volumes_ml(label, Label.LV, GRID.voxel_ml)[[study.ed_index, study.es_index]])
    return Cine(
        image=image,
        label=label,
        affine=np.diag([*GRID.spacing_mm, 1.0]),
        frame_time_ms=study.frame_time_ms or 30.0,
        ed_index=study.ed_index,
        es_index=study.es_index,
        prior=ClinicalPrior(study.diagnosis, edv, esv, SLICES),
        seed=seed,
        provenance=PROVENANCE,
    )


def make(work: Path, count: int, cases: int, frames: int) -> tuple[Path, Path]:
    """The dataset and the cohort; those of a former run are kept."""
    real, made = work / f"subjects-{count}x{frames}", work / f"cohort-{cases}x{frames}"
    if not (real / TABLE_FILE).exists():
        ingest(list(subjects(count, frames)), real, fractions=(0.77, 0.0, 0.23))
    for number in range(cases):
        if not (made / case_name(number)).exists():
            cine = as_cine(phantom_study(5000 + number, frames=frames).study, number)
            save_case(cine, made / case_name(number), pictures=False)
            print(f"case {number + 1} of {cases}", flush=True)
    write_cohort_table(made, [made / case_name(number) for number in range(cases)])
    return real, made


def timed(real: Path, made: Path, out: Path, workers: int | None) -> float:
    """Seconds of one evaluation."""
    begun = time.perf_counter()
    evaluate(real, made, out, workers=workers)
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=50)
    parser.add_argument("--frames", type=int, default=30)
    parser.add_argument("--subjects", type=int, default=SUBJECTS)
    parser.add_argument("--workers", type=int, default=None)
    parser.add_argument("--work", type=Path, required=True, help="folder for phantoms and reports")
    arguments = parser.parse_args()
    real, made = make(arguments.work, arguments.subjects, arguments.cases, arguments.frames)
    out = arguments.work / "report"
    shutil.rmtree(out, ignore_errors=True)
    prepared = len(list((real / "grids").glob("*.h5"))) if (real / "grids").exists() else 0
    cold, warm = (timed(real, made, out, arguments.workers) for _ in range(2))
    result = {
        "cases": arguments.cases,
        "frames": arguments.frames,
        "grid": f"{GRID.size[0]} x {GRID.size[1]} x {SLICES}",
        "subjects": len(DatasetTable.read(real)),
        "grid_was_prepared": bool(prepared),
        "cold_s": round(cold, 1),
        "cached_s": round(warm, 1),
        "cores": os.cpu_count(),
        "workers": arguments.workers,
        "machine": platform.platform(),
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
