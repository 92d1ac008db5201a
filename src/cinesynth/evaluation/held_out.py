"""Held-out subjects that are none: those on which the weights were trained, as their fingerprints tell.

Splits depend on the dataset: one that has grown, or was ingested in another order, may hold out people on whom weights
were trained. They then count as training subjects.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor

from cinesynth.data.packed import PackedDataset
from cinesynth.evaluation.cases import without_phantoms
from cinesynth.memorisation.trained_on import known_subjects


class RealSets(NamedTuple):
    """Subjects of a dataset, without phantoms: those of training, held-out ones, and those that moved to training."""

    train: PackedDataset
    held_out: PackedDataset
    moved: tuple[str, ...] = ()


def real_sets(
    data: PackedDataset, split: str, fingerprints: Mapping[str, Tensor] | None, trained_on: str | None
) -> RealSets:
    """Training and held-out subjects of ``data`` for weights with these ``fingerprints``.

    ``trained_on`` is the hash of the weights' own dataset: its splits are taken as they are.
    """
    train, held_out = (without_phantoms(data.split(name)) for name in ("train", split))
    if fingerprints is None or data.data_hash == trained_on:
        return RealSets(train, held_out)
    moved = known_subjects(held_out, fingerprints)
    trained = [*train.records, *(r for r, has_moved in zip(held_out.records, moved, strict=True) if has_moved)]
    names = tuple(f"{r.dataset} {r.subject}" for r in trained[len(train) :])
    both = data.where([any(r is one for one in trained) for r in data.records])
    return RealSets(both, held_out.where([not has_moved for has_moved in moved]), names)
