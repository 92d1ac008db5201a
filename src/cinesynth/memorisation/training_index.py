"""A training index: thumbnails of training subjects in a small file, in which near-duplicates are searched.

`cinesynth training-index` writes the file, and `cinesynth generate --training-index` rejects near-duplicates by it.
The file holds blurred thumbnails of patients: protect it as you protect their images.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from cinesynth.data.geometry import Grid
from cinesynth.data.packed import prepare
from cinesynth.errors import DataError
from cinesynth.io.files import atomic_path
from cinesynth.io.tasks import ProgressCallback, no_progress, ordered_map
from cinesynth.memorisation.nearest import IMAGE, MASK, Space, Stack, copy_limit, nearest, nearest_other
from cinesynth.memorisation.thumbnails import HEIGHTS, PIXELS, Thumbnails, subject_thumbnails

FORMAT = "1"
UNKNOWN = 255
"""Voxels of the mask of a subject whose ED was not completely annotated."""


@dataclass(frozen=True)
class NearDuplicate:
    """The training subject that a heart copies, the space in which it does, and how close it is (`Nearest`)."""

    subject: str
    space: str
    closeness: float


@dataclass(frozen=True)
class TrainingIndex:
    """Thumbnails ``N 5 P P`` of training subjects, and the closeness below which a heart is a near-duplicate."""

    names: tuple[str, ...]
    image: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    limits: dict[str, float]

    @classmethod
    def of(
        cls, names: Sequence[str], train: Mapping[str, Stack], held_out: Mapping[str, Stack] | None = None
    ) -> TrainingIndex:
        """The index of stacked `Thumbnails` ``N 5 P P``; held-out subjects, if given, help to set the limits."""
        mask = np.nan_to_num(train["mask"], nan=UNKNOWN).astype(np.uint8)
        limits = {space.name: _limit(space, train, held_out) for space in (IMAGE, MASK)}
        return cls(tuple(names), train["image"].astype(np.uint8), mask, limits)

    @classmethod
    def build(
        cls, dataset: Path, grid: Grid, split: str = "train", progress: ProgressCallback = no_progress
    ) -> TrainingIndex:
        """The index of the subjects of a split, phantoms included; `DataError` if the split is empty."""
        data = prepare(dataset, grid).split(split)
        if not data.records:
            raise DataError(f"{split} of {dataset} has no subjects", hint="ingest more subjects, or name another split")
        found: list[Thumbnails] = []
        with closing(ordered_map(partial(subject_thumbnails, data), range(len(data)), None)) as read:
            for thumbnails in read:
                found.append(thumbnails)
                progress("training index", len(found), len(data), {})
        stacks = {space: np.stack([thumbnails[space] for thumbnails in found]) for space in found[0]}
        return cls.of([f"{record.dataset} {record.subject}" for record in data.records], stacks)

    def search(self, thumbnails: Mapping[str, NDArray[np.float32]]) -> NearDuplicate | None:
        """The training subject of which a heart's `Thumbnails` are a near-duplicate in image or mask, if any."""
        mask = np.where(self.mask == UNKNOWN, np.nan, self.mask).astype(np.float32)
        for space, known in ((IMAGE, self.image.astype(np.float32)), (MASK, mask)):
            found = nearest(space.distance(thumbnails[space.name][None], known))
            if found.closeness[0] < self.limits[space.name]:
                return NearDuplicate(self.names[int(found.place[0])], space.name, float(found.closeness[0]))
        return None

    def save(self, path: Path) -> None:
        """Write ``path``, a safetensors file of about 20 kB per subject."""
        metadata = {"format": FORMAT, "names": json.dumps(self.names), "limits": json.dumps(self.limits)}
        with atomic_path(path) as temporary:
            arrays = {"image": np.ascontiguousarray(self.image), "mask": np.ascontiguousarray(self.mask)}
            save_file(arrays, temporary, metadata=metadata)

    @classmethod
    def load(cls, path: Path) -> TrainingIndex:
        """Read what `save` wrote; `DataError` if it is missing, damaged or another kind of file."""
        hint = "write it again: cinesynth training-index"
        try:
            with safe_open(path, framework="numpy") as file:
                metadata = file.metadata() or {}
                image, mask = file.get_tensor("image"), file.get_tensor("mask")
            names, limits = tuple(json.loads(metadata["names"])), json.loads(metadata["limits"])
        except (SafetensorError, OSError, KeyError, ValueError) as error:
            raise DataError(f"{path} is not a training index: {error!r}", hint=hint) from None
        shape = (len(names), len(HEIGHTS), PIXELS, PIXELS)
        if metadata.get("format") != FORMAT or image.shape != shape or mask.shape != shape:
            raise DataError(f"{path} has another format than this version reads", hint=hint)
        return cls(names, image, mask, limits)


def _limit(space: Space, train: Mapping[str, Stack], held_out: Mapping[str, Stack] | None) -> float:
    known = train[space.name]
    real = [nearest_other(space.distance(known, known)).known]
    if held_out is not None:
        real.append(nearest(space.distance(held_out[space.name], known)).known)
    together = np.concatenate(real)
    return copy_limit(together) if len(together) else 0.0
