"""From labelled subjects to the dataset that segmenters learn from: generator dataset, generator, cohort, segmenters'
dataset.

Every result is a folder whose name ends in a digest of its inputs; it is complete or absent.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cinesynth.cases.export_items import new_folder
from cinesynth.cases.reading import case_terms, read_case
from cinesynth.cases.schema import SIDECAR, from_stored, to_stored
from cinesynth.config import dump_config
from cinesynth.data.dataset_table import GENERATED, TABLE_FILE, DatasetTable, SubjectRow, describe
from cinesynth.data.geometry import Grid, place, slices_on_grid
from cinesynth.data.normalisation import IntensityScale
from cinesynth.data.packed import load_study
from cinesynth.data.phantom import PHANTOM, read_phantoms
from cinesynth.data.store import study_file, write_study
from cinesynth.data.terms import DATASET, Terms, about_dataset, terms_of
from cinesynth.errors import DataError, InputError, OutputError
from cinesynth.io.files import file_sha256, make_folder, write_json
from cinesynth.io.reproducibility import case_seed
from cinesynth.io.tasks import ProgressCallback, no_progress
from cinesynth.study.plan import Subjects, digest
from cinesynth.study.spec import FIELD_FACTOR, CohortSpec, GeneratorSpec
from cinesynth.synthesis.cohort import draw_requests, generate_cohort
from cinesynth.synthesis.pipeline import CinePipeline
from cinesynth.training.run import train_all
from cinesynth.types import Diagnosis, FloatArray, Study
from cinesynth.weights.bundle import bundle_run
from cinesynth.weights.folder import INDEX, bundle_sha256, read_index
from cinesynth.weights.registry import find_bundle

VALIDATION_STEP = 5
"""One labelled subject in this many selects the generator's checkpoints instead of training it."""
MAX_COHORT_FACTOR = 4
"""Largest cohort, in multiples of the hearts needed; if even that has too few acceptable hearts, the study stops."""
BLEND_MM = 12.0
"""Width of the rim in which a pasted heart's field fades into the background, in mm."""
Studies = Iterator[tuple[str, Study]]
"""The split of each study in a new dataset, and the study, read when it is reached."""


# --- The generator and its cohort ------------------------------------------------------------------------------------


def generator_dataset(
    subjects: Subjects,
    labelled: Sequence[SubjectRow],
    spec: GeneratorSpec,
    stem: Path,
    progress: ProgressCallback = no_progress,
) -> Path:
    """Write the training dataset of a generator that may see the labels of ``labelled`` only; returns its folder.

    ``STEM-DIGEST`` holds these subjects, phantoms and, if ``spec.unlabelled``, the other subjects without labels.
    Every `VALIDATION_STEP`-th labelled subject (at least one) is for validation; the test split is empty.
    """
    known = {row.file for row in labelled}
    held = {row.file for row in labelled[VALIDATION_STEP - 1 :: VALIDATION_STEP]} or {labelled[-1].file}
    rows = [row for row in subjects.train if row.file in known or spec.unlabelled]

    def studies() -> Studies:
        for row in rows:
            study = load_study(subjects.data, row)
            split = "validation" if row.file in held else "train"
            yield split, study if row.file in known else without_labels(study)
        if spec.phantoms:
            phantoms = read_phantoms(spec.phantoms)
            yield from (("train", phantoms.read(name)) for name in phantoms.names)

    key = digest(subjects.data_hash, sorted(known), sorted(held), [row.file for row in rows], spec.phantoms)
    sources = [*(row.dataset for row in rows), *([PHANTOM] if spec.phantoms else [])]
    out, count = stem.with_name(f"{stem.name}-{key}"), len(rows) + spec.phantoms
    return _dataset(out, studies(), count, terms_of(subjects.data, sources), progress)


def without_labels(study: Study) -> Study:
    """``study`` without all that annotators and reports say: labels, diagnosis and volumes. ED and ES stay known."""
    return replace(
        study,
        label=np.zeros_like(study.label),
        coverage=np.zeros_like(study.coverage),
        diagnosis=Diagnosis.UNKNOWN,
        group="",
        reported_lv_edv_ml=None,
        reported_lv_esv_ml=None,
    )


def train_generator(spec: GeneratorSpec, dataset: Path, stem: Path, progress: ProgressCallback) -> Path:
    """Weights trained on ``dataset`` alone, resumed in ``STEM-DIGEST``; `InputError` if they start from patients."""
    config, initial = spec.config, None if spec.initial is None else find_bundle(spec.initial)
    if initial is not None and (known := sorted(set(read_index(initial)["datasets"]) - {PHANTOM})):
        raise InputError(
            f"the generator of a study cannot start from {spec.initial}, which was trained on {', '.join(known)}",
            hint="its labels would leak into the study; use weights trained on phantoms only, such as phantom",
        )
    start = [] if initial is None else [bundle_sha256(initial)]
    run = stem.with_name(f"{stem.name}-{digest(dataset.name, dump_config(config), *start)}")
    weights = run / f"weights-{digest(spec.sampling)}"
    if not (weights / INDEX).is_file():
        train_all(dataset, run, config, progress, initial=initial)
        bundle_run(run, dataset, weights, sampling=spec.sampling)
    return weights


def generate_hearts(spec: CohortSpec, weights: Path, stem: Path, needed: int, progress: ProgressCallback) -> list[Path]:
    """Folders of the first ``needed`` acceptable hearts of a cohort in ``STEM-DIGEST``, which grows until it has them.

    `DataError` if fewer than one heart in `MAX_COHORT_FACTOR` is acceptable.
    """
    # A first seed, so that a cohort with seeds of another version is not gone on with.
    key = digest(weights.parent.name, weights.name, spec.model_dump(mode="json"), case_seed(spec.seed, 0))
    out = stem.with_name(f"{stem.name}-{key}")
    pipe = CinePipeline.from_pretrained(weights)
    settings: dict[str, Any] = spec.model_dump(include={"frames", "match_volumes", "max_attempts"})
    count = needed
    while True:
        requests = draw_requests(pipe, count, seed=spec.seed, **settings)
        rows = generate_cohort(pipe, requests, out, pictures=False, progress=progress)
        good = [out / row["case"] for row in rows if row["accepted"] or not spec.accepted_only]
        if len(good) >= needed:
            return good[:needed]
        if count >= MAX_COHORT_FACTOR * needed:
            raise DataError(
                f"only {len(good)} of {count} generated hearts pass the anatomical rules, but {needed} are needed",
                hint="train the generator longer, ask for smaller ratios, or set cohort.accepted_only: false",
            )
        rate = max(len(good), 1) / count
        count = min(MAX_COHORT_FACTOR * needed, max(count + 1, math.ceil(needed / rate)))


# --- The segmenters' dataset -----------------------------------------------------------------------------------------


def segmenter_dataset(
    subjects: Subjects,
    labelled: Sequence[SubjectRow],
    cases: Sequence[Path],
    stem: Path,
    progress: ProgressCallback = no_progress,
    paste: bool = False,
) -> Path:
    """The dataset of the ``labelled`` subjects and the generated ``cases``, all in training, in ``STEM-DIGEST``.

    With ``paste``, hearts are pasted into the images of the labelled subjects, one subject after the other.
    """

    def studies() -> Studies:
        yield from (("train", load_study(subjects.data, row)) for row in labelled)
        for number, case in enumerate(cases):
            heart = read_case(case, case.name)
            if paste:
                heart = paste_heart(heart, load_study(subjects.data, labelled[number % len(labelled)]))
            yield "train", heart

    key = digest(
        subjects.data_hash,
        [row.file for row in labelled],
        [file_sha256(case / SIDECAR) for case in cases],
        *(["pasted"] if paste else []),
    )
    terms = terms_of(subjects.data, [row.dataset for row in labelled])
    terms |= {GENERATED: case_terms(cases[0])} if cases else {}
    out = stem.with_name(f"{stem.name}-{key}")
    return _dataset(out, studies(), len(labelled) + len(cases), terms, progress)


def _dataset(out: Path, studies: Studies, count: int, terms: dict[str, Terms], progress: ProgressCallback) -> Path:
    """The dataset ``out`` of ``count`` studies, written unless it exists; several processes may try at once."""
    if (out / TABLE_FILE).is_file():
        return out
    try:
        with new_folder(out) as folder:
            make_folder(folder / "studies")
            rows = []
            for number, (split, study) in enumerate(studies, start=1):
                file = study_file(study)
                rows.append(describe(study, split, file, write_study(folder / file, study)))
                progress("dataset", number, count, {})
            write_json(folder / DATASET, about_dataset(terms))
            DatasetTable(tuple(rows)).write(folder)
    except OutputError:
        if not (out / TABLE_FILE).is_file():  # otherwise another process was faster
            raise
    return out


# --- Hearts pasted on a real background ------------------------------------------------------------------------------


def paste_heart(heart: Study, subject: Study) -> Study:
    """The generated ``heart`` in the centre of a field `FIELD_FACTOR` times as wide, surrounded by ``subject`` at ED.

    Slices are matched from base to apex, and the heart's brightness to the subject's where the two meet. The labels
    are the heart's; the subject's own heart lies under the generated field.
    """
    width, height, slices = heart.image.shape[1:]
    pads = tuple(round((FIELD_FACTOR - 1.0) * n / 2) for n in (width, height))
    size = (width + 2 * pads[0], height + 2 * pads[1])
    background = _background(subject, size, heart.spacing_mm, slices)
    padding = ((0, 0), (pads[0],) * 2, (pads[1],) * 2, (0, 0))
    inside = np.pad((from_stored(heart.image) + 1.0) / 2.0, padding, mode="edge")  # T X Y Z in [0, 1]
    weight = _blend_weight((width, height), pads, heart.spacing_mm)
    rim = (weight > 0.0) & (weight < 1.0)
    gain = float(np.clip(background[rim].mean() / max(float(inside[:, rim].mean()), 1e-3), 0.5, 2.0))
    image = weight[..., None] * np.clip(gain * inside, 0.0, 1.0) + (1.0 - weight[..., None]) * background
    affine = heart.affine.copy()
    affine[:3, 3] -= heart.affine[:3, 0] * pads[0] + heart.affine[:3, 1] * pads[1]  # the heart stays where it is
    stored = to_stored(np.asarray(2.0 * image - 1.0, dtype=np.float32))
    return replace(heart, image=stored, label=np.pad(heart.label, padding), affine=affine)


def _background(
    subject: Study, size: tuple[int, int], spacing_mm: tuple[float, float, float], slices: int
) -> FloatArray:
    """``subject`` at ED, centred on its heart, as ``X Y Z`` in [0, 1] with the heart's number of ``slices``."""
    grid = Grid((*size, slices_on_grid(subject, spacing_mm[2])), spacing_mm)
    ed = int(np.flatnonzero(subject.frame_index == subject.ed_index)[0])
    scale = IntensityScale.of(subject.image)
    image = scale.apply(place(subject, grid).image_to_grid(subject.image[ed : ed + 1]))[0]
    nearest = np.rint(np.linspace(0, grid.size[2] - 1, slices)).astype(int)
    return np.asarray((image[..., nearest] + 1.0) / 2.0, dtype=np.float32)


def _blend_weight(size: tuple[int, int], pads: tuple[int, ...], spacing_mm: tuple[float, float, float]) -> FloatArray:
    """Weight of the heart, ``X Y``: 1 inside its field, 0 outside, a raised cosine over `BLEND_MM` at the rim."""
    x, y = (
        np.pad(np.clip((np.minimum(np.arange(n), np.arange(n)[::-1]) + 0.5) * step / BLEND_MM, 0.0, 1.0), pad)
        for n, pad, step in zip(size, pads, spacing_mm, strict=False)
    )
    ramp = np.minimum(x[:, None], y[None])
    return np.asarray(0.5 - 0.5 * np.cos(np.pi * ramp), dtype=np.float32)
