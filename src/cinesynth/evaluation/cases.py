"""The hearts that are evaluated: patients and generated cases, in one form and on one grid."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cinesynth.cases.cohort import cohort_cases
from cinesynth.cases.reading import load_sidecar, read_case
from cinesynth.cases.schema import SIDECAR, from_stored, prior_from_json
from cinesynth.data.geometry import Grid, slice_mask
from cinesynth.data.normalisation import from_uint8, to_uint8
from cinesynth.data.packed import PackedDataset
from cinesynth.data.phantom import PHANTOM
from cinesynth.errors import DataError
from cinesynth.physiology import SLICE_RANGE
from cinesynth.types import (
    STRUCTURES,
    BoolArray,
    Cine,
    ClinicalPrior,
    Diagnosis,
    FloatArray,
    Label,
    LabelArray,
    full_coverage,
    is_contiguous,
    volumes_ml,
)


@dataclass(frozen=True, eq=False)
class Case:
    """One heart: its acquired slices, base first, at its stored frames."""

    name: str
    diagnosis: Diagnosis
    image: NDArray[np.uint8]  # T X Y Z; uint8, so that patients and generated hearts have the same grey levels
    label: LabelArray  # T X Y Z
    coverage: BoolArray  # T Z S
    spacing_mm: tuple[float, float, float]
    ed: int  # position of ED among the frames
    es: int
    whole_cycle: bool
    """Whether all frames of the cycle are stored, in temporal order and evenly spaced."""
    frame_time_ms: float | None
    requested: ClinicalPrior | None = None
    """What was requested of a generated heart."""

    @property
    def intensity(self) -> FloatArray:
        """The image in [-1, 1]."""
        return from_uint8(self.image)

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel in millilitres."""
        return float(np.prod(self.spacing_mm)) / 1000.0

    def volumes_ml(self, structure: Label) -> FloatArray:
        """Volume of a structure at every frame, ``T``, whether or not it was annotated there."""
        return volumes_ml(self.label, structure, self.voxel_ml)

    def known_volumes_ml(self, structure: Label) -> NDArray[np.float64]:
        """Volume of a structure at every frame, ``T``; NaN where its annotated slices have a gap."""
        covered = self.coverage[:, :, STRUCTURES.index(structure)]
        volumes = self.volumes_ml(structure).astype(np.float64)
        return np.where([is_contiguous(frame) for frame in covered], volumes, np.nan)


@dataclass(frozen=True)
class CaseSet:
    """Hearts that are read one at a time; ``key`` changes whenever one of them does."""

    title: str
    names: tuple[str, ...]
    load: Callable[[int], Case]
    grid: Grid
    key: str

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Case:
        return self.load(index)

    def __iter__(self) -> Iterator[Case]:
        return map(self.load, range(len(self)))

    def changed(self, title: str, change: Callable[[Case], Case]) -> CaseSet:
        """Every heart after ``change``, for example with a planted defect."""
        return replace(self, title=title, load=partial(_changed, self.load, change), key=_digest(self.key, title))


def _changed(load: Callable[[int], Case], change: Callable[[Case], Case], index: int) -> Case:
    return change(load(index))


def patients(data: PackedDataset, title: str) -> CaseSet:
    """The subjects of (a split of) a dataset on a grid; `DataError` if there are none."""
    if not data.records:
        raise DataError(f"{title}: no subjects", hint="ingest more subjects, or choose another split")
    names = tuple(f"{record.dataset} {record.subject}" for record in data.records)
    return CaseSet(title, names, partial(_patient, data), data.grid, _digest(data.data_hash, data.grid, names))


def _patient(data: PackedDataset, index: int) -> Case:
    record = data.records[index]
    acquired = slice_mask(record.slices, data.grid.size[2])
    order = np.argsort(record.phases, kind="stable")  # temporal order, ED first
    return Case(
        name=f"{record.dataset} {record.subject}",
        diagnosis=record.diagnosis,
        image=data.images(index)[order][..., acquired],
        label=_by_sections(data.labels(index)[order][..., acquired]),
        coverage=record.coverage[order][:, acquired],
        spacing_mm=data.grid.spacing_mm,
        ed=int(np.flatnonzero(order == record.ed)[0]),
        es=int(np.flatnonzero(order == record.es)[0]),
        whole_cycle=len(order) == record.frames_in_cycle > 2,
        frame_time_ms=record.frame_time_ms,
    )


def without_phantoms(data: PackedDataset) -> PackedDataset:
    """The patients of (a split of) a dataset; its phantoms where it has no patients."""
    real = [record.dataset != PHANTOM for record in data.records]
    return data.where(real) if any(real) else data


def generated(name: str, cine: Cine) -> Case:
    """A generated heart in memory as a case."""
    x, y, z = (float(step) for step in abs(cine.affine[:3, :3].diagonal()))
    return Case(
        name=name,
        diagnosis=cine.prior.diagnosis,
        image=to_uint8(cine.image),
        label=cine.label,
        coverage=full_coverage(np.ones(len(cine.label), dtype=np.bool_), cine.label.shape[-1]),
        spacing_mm=(x, y, z),
        ed=cine.ed_index,
        es=cine.es_index,
        whole_cycle=len(cine.label) > 2,
        frame_time_ms=cine.frame_time_ms,
        requested=cine.prior,
    )


def cohort(folder: Path, title: str = "synthetic") -> CaseSet:
    """The cases of a folder that `cinesynth generate --count` wrote.

    `DataError` where it has no manifest or no case, a case is incomplete, or the cases lie on several grids.
    """
    folder = Path(folder)
    names = cohort_cases(folder)
    sidecars = [_sidecar(folder / name) for name in names]
    grids = {Grid((*s["size"][:2], SLICE_RANGE[1]), tuple(s["spacing_mm"])) for s in sidecars}
    if len(grids) > 1:
        found = "; ".join(map(grid_in_words, sorted(grids, key=lambda grid: (grid.size, grid.spacing_mm))))
        raise DataError(f"{folder} holds cases on several grids: {found}", hint="evaluate one preset's cases at a time")
    key = _digest([s["files"] for s in sidecars])
    return CaseSet(title, names, partial(_generated, folder, names), grids.pop(), key)


def _sidecar(folder: Path) -> dict[str, Any]:
    path, content = folder / SIDECAR, load_sidecar(folder)
    try:
        content["size"], content["spacing_mm"], content["files"], content["provenance"]["request"]
    except (KeyError, TypeError) as error:
        raise DataError(f"{path} is not a case's sidecar: {error!r}", hint="generate the cohort again") from None
    if (labels := content.get("labels")) != {"RV": 1, "MYO": 2, "LV": 3}:
        raise DataError(f"{path} has labels {labels}", hint="expected 1 RV, 2 MYO, 3 LV, as cinesynth writes them")
    return content


def _generated(folder: Path, names: Sequence[str], index: int) -> Case:
    content, study = _sidecar(folder / names[index]), read_case(folder / names[index], names[index])
    # in the order of memory of the file: the last digit of a sum of intensities depends on it
    image = np.empty_like(study.image, dtype=np.uint8)
    for grey, frame in zip(image, study.image, strict=True):
        grey[:] = to_uint8(from_stored(frame))
    return Case(
        name=study.subject,
        diagnosis=study.diagnosis,
        image=image,
        label=_by_sections(study.label),
        coverage=study.coverage,
        spacing_mm=tuple(content["spacing_mm"]),
        ed=study.ed_index,
        es=study.es_index,
        whole_cycle=len(study.label) > 2,
        frame_time_ms=study.frame_time_ms,
        requested=prior_from_json(content["requested"]),
    )


def _by_sections(label: LabelArray) -> LabelArray:
    """The same label ``T X Y Z`` with one section after another in memory, in which most work is done faster."""
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(label, 3, 1)), 1, 3)


def grid_in_words(grid: Grid) -> str:
    """Pixels and voxels of ``grid``; the number of slices may differ."""
    (x, y, _), (a, b, c) = grid.size, grid.spacing_mm
    return f"{x} x {y} voxels of {a:g} x {b:g} x {c:g} mm"


def _digest(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts, default=str, sort_keys=True).encode()).hexdigest()
