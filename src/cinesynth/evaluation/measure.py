"""Numbers of single hearts: measured once, in parallel over hearts, and kept in a cache.

A `Measurer` turns a `Case` into arrays of fixed shapes. What cannot be measured of a case is NaN here and a reason in
the report. Sections compare these arrays and never read a voxel.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from cinesynth.evaluation.cases import Case, CaseSet
from cinesynth.io.files import atomic_path
from cinesynth.io.tasks import ProgressCallback, no_progress, ordered_map
from cinesynth.memorisation.thumbnails import ed_thumbnails

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
    keys = [hashlib.sha256(f"{cases.key} {m.name} {m.identity}".encode()).hexdigest()[:16] for m in measurers]
    files = [cache and cache / f"{m.name}-{key}.safetensors" for m, key in zip(measurers, keys, strict=True)]
    arrays = [_cached(file) for file in files]
    missing = [i for i, values in enumerate(arrays) if values is None]
    if missing:
        rows: list[list[Values]] = []
        task = partial(_measure_indexed, cases, [measurers[i] for i in missing])
        with closing(ordered_map(task, range(len(cases)), workers)) as results:
            for done, row in enumerate(results, start=1):
                rows.append(row)
                progress(cases.title, done, len(cases), {})
        for i, values in zip(missing, _stacked(rows), strict=True):
            arrays[i] = values
            if (file := files[i]) is not None and values:
                with atomic_path(file) as temporary:
                    # safetensors writes an array's memory and ignores its strides
                    save_file({k: np.ascontiguousarray(v) for k, v in values.items()}, temporary)
    return Measured(cases.title, cases.names, _named(measurers, arrays))


def measure_case(case: Case, measurers: Sequence[Measurer]) -> list[Values]:
    """The numbers of one heart, in the order of ``measurers``."""
    results = (m.measure(case) for m in measurers)
    return [{k: np.asarray(v, dtype=np.float32) for k, v in result.items()} for result in results]


def stack_measured(
    title: str, names: Sequence[str], measurers: Sequence[Measurer], rows: list[list[Values]]
) -> Measured:
    """Hearts measured one by one with `measure_case`; at least one."""
    return Measured(title, tuple(names), _named(measurers, _stacked(rows)))


def _stacked(rows: list[list[Values]]) -> list[Values]:
    return [{k: np.stack([values[k] for values in column]) for k in column[0]} for column in zip(*rows, strict=True)]


def _named(measurers: Sequence[Measurer], arrays: Sequence[Values | None]) -> Values:
    return {f"{m.name}.{k}": v for m, values in zip(measurers, arrays, strict=True) for k, v in (values or {}).items()}


def _measure_indexed(cases: CaseSet, measurers: Sequence[Measurer], index: int) -> list[Values]:
    """All measurers on one heart, which is read once."""
    return measure_case(cases[index], measurers)


def _cached(file: Path | None) -> Values | None:
    if file is None or not file.is_file():
        return None
    try:
        return dict(load_file(file))
    except Exception:  # a damaged file, whatever safetensors raises: it is only a cache
        return None


def thumbnails_of(case: Case) -> Mapping[str, NDArray[np.float32]]:
    """``image`` (integers 0-255) and ``mask`` (labels) of ED, ``5 P P`` each; the mask is NaN if ED is not fully
    annotated."""
    annotated = bool(case.coverage[case.ed].all())
    return ed_thumbnails(case.image[case.ed], case.label[case.ed], case.spacing_mm, annotated=annotated)


THUMBNAILS = Measurer("thumbnail", "1", thumbnails_of)
