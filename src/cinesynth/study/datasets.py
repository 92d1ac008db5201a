"""The datasets that a study makes of one: what a generator may learn from, and what segmenters learn from.

Both are dataset folders like any other, made whole or not at all; their names end in a digest of what is in them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from cinesynth.cases.export_items import new_folder
from cinesynth.cases.reading import case_terms, read_case
from cinesynth.cases.schema import GENERATED, SIDECAR, from_stored, to_stored
from cinesynth.data.dataset_table import DatasetTable, SubjectRow, describe, is_dataset
from cinesynth.data.geometry import Grid, place, slices_on_grid
from cinesynth.data.intensity import IntensityScale
from cinesynth.data.packed import load_study
from cinesynth.data.phantom import PHANTOM, read_phantoms
from cinesynth.data.store import study_file, write_study
from cinesynth.data.terms import DATASET, Terms, about_dataset, terms_of
from cinesynth.errors import OutputError
from cinesynth.io.files import file_sha256, make_folder, write_json
from cinesynth.io.progress import ProgressCallback, no_progress
from cinesynth.study.spec import FIELD, GeneratorSpec
from cinesynth.study.subjects import People
from cinesynth.types import Diagnosis, FloatArray, Study

HELD_BACK = 5
"""Of so many labelled people one chooses the generator's checkpoints."""
DIGITS = 10

Part = tuple[str, str, Callable[[], Study]]
"""Name, split, and how it is read."""


def digest(*parts: object) -> str:
    """Names what depends on ``parts``."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:DIGITS]


def regime(
    people: People,
    labelled: Sequence[SubjectRow],
    spec: GeneratorSpec,
    beside: Path,
    progress: ProgressCallback = no_progress,
) -> Path:
    """What the generator of ``labelled`` people learns from: them, the others of the group without labels if it is to
    see them, and as many analytic hearts as are asked for.

    One in `HELD_BACK` of the labelled is its validation; nobody is in its test split. What a study says of a heart
    without a segmentation, its diagnosis and reported volumes, is masked as well.
    """
    known = {row.file for row in labelled}
    held = {row.file for row in labelled[HELD_BACK - 1 :: HELD_BACK]} or {labelled[-1].file}
    rows = [row for row in people.train if row.file in known or spec.unlabelled]
    parts: list[Part] = []
    for row in rows:
        read = partial(load_study if row.file in known else _load_unlabelled, people.data, row)
        parts.append((row.subject, "validation" if row.file in held else "train", read))
    if spec.phantoms:
        phantoms = read_phantoms(spec.phantoms)
        parts += [(name, "train", partial(phantoms.read, name)) for name in phantoms.names]
    key = digest(people.data_hash, sorted(known), sorted(held), [row.file for row in rows], spec.phantoms)
    sources = [*_sources(rows), *([PHANTOM] if spec.phantoms else [])]
    return _made(beside.with_name(f"{beside.name}-{key}"), parts, terms_of(people.data, sources), progress)


def pool(
    people: People,
    labelled: Sequence[SubjectRow],
    cases: Sequence[Path],
    beside: Path,
    progress: ProgressCallback = no_progress,
    surroundings: bool = False,
) -> Path:
    """What segmenters learn from: ``labelled`` people and the generated ``cases``, all in training.

    With ``surroundings`` the hearts stand in those of the labelled people, by turns.
    """
    parts: list[Part] = [(row.subject, "train", partial(load_study, people.data, row)) for row in labelled]
    for number, case in enumerate(cases):
        around = labelled[number % len(labelled)] if surroundings else None
        parts.append((case.name, "train", partial(_load_heart, case, people.data, around)))
    key = digest(
        people.data_hash,
        [row.file for row in labelled],
        [file_sha256(case / SIDECAR) for case in cases],
        *(["surroundings"] if surroundings else []),
    )
    terms = terms_of(people.data, _sources(labelled)) | ({GENERATED: case_terms(cases[0])} if cases else {})
    return _made(beside.with_name(f"{beside.name}-{key}"), parts, terms, progress)


def without_labels(study: Study) -> Study:
    """The images of ``study``, and nothing that a reader said of them but which frames are ED and ES."""
    return replace(
        study,
        label=np.zeros_like(study.label),
        coverage=np.zeros_like(study.coverage),
        diagnosis=Diagnosis.UNKNOWN,
        group="",
        reported_lv_edv_ml=None,
        reported_lv_esv_ml=None,
    )


def _load_unlabelled(data: Path, row: SubjectRow) -> Study:
    return without_labels(load_study(data, row))


def _load_heart(case: Path, data: Path, around: SubjectRow | None) -> Study:
    heart = read_case(case, case.name)
    return heart if around is None else surrounded(heart, load_study(data, around))


def _sources(rows: Iterable[SubjectRow]) -> list[str]:
    return [row.dataset for row in rows]


def _made(out: Path, parts: Sequence[Part], terms: dict[str, Terms], progress: ProgressCallback) -> Path:
    """The dataset ``out``, written unless it is there; units that run at once may all want the same one."""
    try:
        if not is_dataset(out):
            _write(out, parts, terms, progress)
    except OutputError:
        if not is_dataset(out):  # no other unit was faster
            raise
    return out


def _write(out: Path, parts: Sequence[Part], terms: dict[str, Terms], progress: ProgressCallback) -> None:
    with new_folder(out) as folder:
        make_folder(folder / "studies")
        rows = []
        for number, (_, split, read) in enumerate(parts, start=1):
            study = read()
            file = study_file(study)
            rows.append(describe(study, split, file, write_study(folder / file, study)))
            progress("dataset", number, len(parts), {})
        write_json(folder / DATASET, about_dataset(terms))
        DatasetTable(tuple(rows)).write(folder)


# --- Generated hearts in the surroundings of people ------------------------------------------------------------------


RIM_MM = 12.0
"""Over so much the heart's field goes over into the person's."""
GAIN = (0.5, 2.0)
"""Least and most by which the heart's brightness follows the person's."""


def surrounded(heart: Study, person: Study) -> Study:
    """The generated ``heart`` in the middle of a field `FIELD` times as wide, where around it ``person`` is seen at ED.

    Slices of both are matched from base to apex, and the heart is made as bright as the person where they meet; the
    labels are the heart's. The person's own heart lies under the generated field, whose grid it fits.
    """
    width, height, slices = heart.image.shape[1:]
    pads = tuple(round((FIELD - 1.0) * n / 2) for n in (width, height))
    size = (width + 2 * pads[0], height + 2 * pads[1])
    around = _field(person, size, heart.spacing_mm, slices)
    spread = ((0, 0), (pads[0],) * 2, (pads[1],) * 2, (0, 0))
    inside = np.pad((from_stored(heart.image) + 1.0) / 2.0, spread, mode="edge")
    weight = _weight((width, height), pads, heart.spacing_mm)
    rim = (weight > 0.0) & (weight < 1.0)
    gain = float(np.clip(around[rim].mean() / max(float(inside[:, rim].mean()), 1e-3), *GAIN))
    image = weight[..., None] * np.clip(gain * inside, 0.0, 1.0) + (1.0 - weight[..., None]) * around
    affine = heart.affine.copy()
    affine[:3, 3] -= heart.affine[:3, 0] * pads[0] + heart.affine[:3, 1] * pads[1]
    stored = to_stored(np.asarray(2.0 * image - 1.0, dtype=np.float32))
    return replace(heart, image=stored, label=np.pad(heart.label, spread), affine=affine)


def _field(person: Study, size: tuple[int, int], spacing_mm: tuple[float, float, float], slices: int) -> FloatArray:
    """``person`` at ED about the heart, ``X Y Z`` in [0, 1], in as many ``slices`` as the heart has."""
    grid = Grid((*size, slices_on_grid(person, spacing_mm[2])), spacing_mm)
    ed = int(np.flatnonzero(person.frame_index == person.ed_index)[0])
    scale = IntensityScale.of(person.image)
    image = scale.apply(place(person, grid).image_to_grid(person.image[ed : ed + 1]))[0]
    nearest = np.rint(np.linspace(0, grid.size[2] - 1, slices)).astype(int)
    return np.asarray((image[..., nearest] + 1.0) / 2.0, dtype=np.float32)


def _weight(size: tuple[int, int], pads: tuple[int, ...], spacing_mm: tuple[float, float, float]) -> FloatArray:
    """1 inside the heart's field, 0 outside, and a smooth way down within its rim: ``X Y``."""
    x, y = (
        np.pad(np.clip((np.minimum(np.arange(n), np.arange(n)[::-1]) + 0.5) * step / RIM_MM, 0.0, 1.0), pad)
        for n, pad, step in zip(size, pads, spacing_mm, strict=False)
    )
    ramp = np.minimum(x[:, None], y[None])
    return np.asarray(0.5 - 0.5 * np.cos(np.pi * ramp), dtype=np.float32)
