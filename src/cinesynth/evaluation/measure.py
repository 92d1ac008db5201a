"""Numbers of single hearts: measured once, in parallel over hearts, and kept in a cache.

A `Measurer` turns a `Case` into arrays of fixed shapes. What cannot be measured of a case is NaN here and a reason in
the report. Sections compare these arrays and never read a voxel.
"""

from __future__ import annotations

import hashlib
import multiprocessing
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from cinesynth.evaluation.cases import Case, CaseSet
from cinesynth.io.files import atomic_path
from cinesynth.io.tasks import ProgressCallback, no_progress, ordered_map
from cinesynth.memorisation.thumbnails import image_thumbnail, mask_thumbnail

Values = dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Measurer:
    """``measure`` maps a heart to named arrays; ``identity`` names all else that they depend on, and keys the cache."""

    name: str
    identity: str
    measure: Callable[[Case], Mapping[str, Any]]


@dataclass(frozen=True)
class Measured:
    """Arrays ``N ...`` over the hearts of a set, under the names ``measurer.quantity``."""

    title: str
    names: tuple[str, ...]
    values: Values

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, quantity: str) -> NDArray[np.float32]:
        return self.values[quantity]

    def where(self, keep: Sequence[int] | NDArray[np.intp], title: str | None = None) -> Measured:
        """The hearts at these positions."""
        names = tuple(self.names[i] for i in keep)
        return Measured(title or self.title, names, {k: v[list(keep)] for k, v in self.values.items()})


def measure(
    cases: CaseSet,
    measurers: Sequence[Measurer],
    cache: Path | None = None,
    *,
    workers: int | None = None,
    progress: ProgressCallback = no_progress,
) -> Measured:
    """Measure every heart of ``cases``, except what ``cache`` already holds."""
    measurers = list({m.name: m for m in measurers}.values())  # several sections may need the same numbers
    arrays = {m.name: _cached(cache, cases, m) for m in measurers}
    missing = [m for m in measurers if arrays[m.name] is None]
    if missing:
        rows: list[list[Values]] = []
        with closing(ordered_map(_Task(cases, missing), range(len(cases)), workers)) as results:
            for done, row in enumerate(results, start=1):
                rows.append(row)
                progress(cases.title, done, len(cases), {})
        for i, m in enumerate(missing):
            arrays[m.name] = _stacked(rows, i)
            _keep(cache, cases, m, arrays[m.name])
    return Measured(cases.title, cases.names, _named(arrays))


def measure_case(case: Case, measurers: Sequence[Measurer]) -> list[Values]:
    """The numbers of one heart, in the order of ``measurers``."""
    results = (m.measure(case) for m in measurers)
    return [{k: np.asarray(v, dtype=np.float32) for k, v in result.items()} for result in results]


def stack_measured(
    title: str, names: Sequence[str], measurers: Sequence[Measurer], rows: list[list[Values]]
) -> Measured:
    """Hearts measured one by one with `measure_case`; at least one."""
    return Measured(title, tuple(names), _named({m.name: _stacked(rows, i) for i, m in enumerate(measurers)}))


def _stacked(rows: list[list[Values]], place: int) -> Values:
    return {k: np.stack([row[place][k] for row in rows]) for k in rows[0][place]}


def _named(found: Mapping[str, Values | None]) -> Values:
    return {f"{name}.{k}": v for name, arrays in found.items() for k, v in (arrays or {}).items()}


@dataclass(frozen=True)
class _Task:
    """All measurers on one heart, which is read once."""

    cases: CaseSet
    measurers: Sequence[Measurer]

    def __call__(self, index: int) -> list[Values]:
        if multiprocessing.parent_process() is not None:
            torch.set_num_threads(1)  # one core a worker; and a fork has none of its parent's threads
        return measure_case(self.cases[index], self.measurers)


def _file(cache: Path, cases: CaseSet, measurer: Measurer) -> Path:
    digest = hashlib.sha256(f"{cases.key} {measurer.name} {measurer.identity}".encode()).hexdigest()
    return cache / f"{measurer.name}-{digest[:16]}.safetensors"


def _cached(cache: Path | None, cases: CaseSet, measurer: Measurer) -> Values | None:
    if cache is None or not (path := _file(cache, cases, measurer)).is_file():
        return None
    try:
        return dict(load_file(path))
    except Exception:  # a damaged file, whatever safetensors raises: it is only a cache
        return None


def _keep(cache: Path | None, cases: CaseSet, measurer: Measurer, values: Values | None) -> None:
    if cache is not None and values:
        with atomic_path(_file(cache, cases, measurer)) as temporary:
            # safetensors writes an array's memory and ignores its strides
            save_file({k: np.ascontiguousarray(v) for k, v in values.items()}, temporary)


# --- Thumbnails ------------------------------------------------------------------------------------------------------


def thumbnails_of(case: Case) -> Mapping[str, NDArray[np.float32]]:
    """``image`` (integers 0-255) and ``mask`` (labels) of ED, ``5 P P`` each; the mask is NaN if ED is not fully
    annotated."""
    image, label = case.image[case.ed], case.label[case.ed]
    mask = mask_thumbnail(label, case.spacing_mm)
    whole = case.coverage[case.ed].all()
    return {
        "image": image_thumbnail(image, label, case.spacing_mm),
        "mask": mask if whole else np.full_like(mask, np.nan),
    }


def thumbnails() -> Measurer:
    """The measurer of `thumbnails_of`."""
    return Measurer("thumbnail", "1", thumbnails_of)
