"""The generator of each number of labelled people, and the hearts it makes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cinesynth.config import hashed_settings
from cinesynth.data.phantom import PHANTOM
from cinesynth.errors import DataError, InputError
from cinesynth.io.progress import ProgressCallback
from cinesynth.study.datasets import digest
from cinesynth.study.spec import CohortSpec, GeneratorSpec
from cinesynth.synthesis.cohort import draw_requests, generate_cohort
from cinesynth.synthesis.pipeline import CinePipeline
from cinesynth.training.run import train_all
from cinesynth.weights.build import bundle_run
from cinesynth.weights.folder import INDEX, bundle_sha256, find_bundle, read_index

LARGEST_COHORT = 4
"""Times the hearts that are needed: where fewer of so many pass the rules, the generator is no good."""


def train_generator(spec: GeneratorSpec, data: Path, beside: Path, report: ProgressCallback) -> Path:
    """The weights of a generator that learned from the dataset ``data`` alone; goes on where it was stopped.

    `InputError` where it would start from weights that know people.
    """
    config, initial = spec.config, None if spec.initial is None else find_bundle(spec.initial)
    if initial is not None and (known := sorted(set(read_index(initial)["datasets"]) - {PHANTOM})):
        raise InputError(
            f"generators of a study cannot start from {spec.initial}: it has learned from {', '.join(known)}",
            hint="labels of people would come in by it; phantom is of analytic hearts alone",
        )
    start = [] if initial is None else [bundle_sha256(initial)]
    run = beside.with_name(f"{beside.name}-{digest(data.name, hashed_settings(config), *start)}")
    weights = run / f"weights-{digest(spec.sampling)}"
    if not (weights / INDEX).is_file():
        train_all(data, run, config, report, initial=initial)
        bundle_run(run, data, weights, sampling=spec.sampling)
    return weights


def make_hearts(spec: CohortSpec, weights: Path, beside: Path, needed: int, report: ProgressCallback) -> list[Path]:
    """Folders of ``needed`` generated hearts, the first that are good enough; the others stay beside them.

    `DataError` where fewer than one in `LARGEST_COHORT` is.
    """
    out = beside.with_name(f"{beside.name}-{digest(weights.parent.name, weights.name, spec.model_dump(mode='json'))}")
    pipe = CinePipeline.from_pretrained(weights)
    settings: dict[str, Any] = {"frames": spec.frames, "match_volumes": spec.control, "max_attempts": spec.tries}
    count, good = needed, []
    while True:
        requests = draw_requests(pipe, count, seed=spec.seed, **settings)
        rows = generate_cohort(pipe, requests, out, pictures=False, progress=lambda _, *step: report("hearts", *step))
        good = [out / row["case"] for row in rows if row["accepted"] or not spec.accepted_only]
        if len(good) >= needed:
            return good[:needed]
        if count >= LARGEST_COHORT * needed:
            raise DataError(
                f"of {count} generated hearts {len(good)} pass the rules of anatomy, {needed} are needed",
                hint="train the generator longer, ask for smaller ratios, or set cohort.accepted_only: false",
            )
        rate = max(len(good), 1) / count
        count = min(LARGEST_COHORT * needed, max(count + 1, math.ceil(needed / rate)))


def needed_hearts(ratios: Sequence[float], labelled: int) -> int:
    """Hearts of the largest ratio to ``labelled`` people, rounded half up."""
    return hearts_of(max(ratios), labelled)


def hearts_of(ratio: float, labelled: int) -> int:
    """Hearts of a ratio to ``labelled`` people, rounded half up; at least one."""
    return max(1, math.floor(ratio * labelled + 0.5))
