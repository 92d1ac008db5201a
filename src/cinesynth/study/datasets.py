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

from cinesynth.atomic import make_folder, write_json
from cinesynth.data import Progress
from cinesynth.data.export.case import DATASET as GENERATED
from cinesynth.data.export.case import SIDECAR, case_terms, read_case
from cinesynth.data.export.folder import new_folder
from cinesynth.data.manifest import MANIFEST, Manifest, Row, describe
from cinesynth.data.packed import load_study
from cinesynth.data.phantom import PHANTOM
from cinesynth.data.sources.phantom import read_phantoms
from cinesynth.data.store import study_file, write_study
from cinesynth.data.terms import DATASET, Terms, about_dataset, terms_of
from cinesynth.errors import OutputError
from cinesynth.files import file_sha256
from cinesynth.study.people import People
from cinesynth.study.spec import GeneratorSpec
from cinesynth.study.surroundings import surrounded
from cinesynth.types import Diagnosis, Study

HELD_BACK = 5
"""Of so many labelled people one chooses the generator's checkpoints."""
DIGITS = 10

Part = tuple[str, str, Callable[[], Study]]
"""Name, split, and how it is read."""


def digest(*parts: object) -> str:
    """Names what depends on ``parts``."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:DIGITS]


def regime(
    people: People, labelled: Sequence[Row], spec: GeneratorSpec, beside: Path, progress: Progress | None = None
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
    labelled: Sequence[Row],
    cases: Sequence[Path],
    beside: Path,
    progress: Progress | None = None,
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


def _load_unlabelled(data: Path, row: Row) -> Study:
    return without_labels(load_study(data, row))


def _load_heart(case: Path, data: Path, around: Row | None) -> Study:
    heart = read_case(case, case.name)
    return heart if around is None else surrounded(heart, load_study(data, around))


def _sources(rows: Iterable[Row]) -> list[str]:
    return [row.dataset for row in rows]


def _made(out: Path, parts: Sequence[Part], terms: dict[str, Terms], progress: Progress | None) -> Path:
    """The dataset ``out``, written unless it is there; units that run at once may all want the same one."""
    try:
        if not (out / MANIFEST).is_file():
            _write(out, parts, terms, progress)
    except OutputError:
        if not (out / MANIFEST).is_file():  # no other unit was faster
            raise
    return out


def _write(out: Path, parts: Sequence[Part], terms: dict[str, Terms], progress: Progress | None) -> None:
    with new_folder(out) as folder:
        make_folder(folder / "studies")
        rows = []
        for number, (name, split, read) in enumerate(parts, start=1):
            study = read()
            file = study_file(study)
            rows.append(describe(study, split, file, write_study(folder / file, study)))
            if progress:
                progress(number, len(parts), name)
        write_json(folder / DATASET, about_dataset(terms))
        Manifest(tuple(rows)).write(folder)
