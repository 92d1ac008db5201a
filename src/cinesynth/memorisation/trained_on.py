"""Whom weights were trained on, as their fingerprints tell, and datasets that hold out none of these people.

Splits depend on the dataset: one that has grown, or was ingested in another order, may hold out people on whom weights
were trained.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from cinesynth.data.dataset_table import DatasetTable, SubjectRow
from cinesynth.data.geometry import Grid, slice_mask
from cinesynth.data.normalisation import from_uint8
from cinesynth.data.packed import PackedDataset, prepare
from cinesynth.data.phantom import PHANTOM
from cinesynth.errors import DataError
from cinesynth.io.tasks import ProgressCallback, no_progress
from cinesynth.memorisation.duplicate_filter import fingerprint_filter


def known_subjects(data: PackedDataset, fingerprints: Mapping[str, Tensor]) -> list[bool]:
    """For each subject of ``data``, on the grid of the weights, whether its ED matches one of their fingerprints."""
    known = fingerprint_filter(fingerprints, data.grid)
    assert known is not None

    def is_known(index: int) -> bool:
        record = data.records[index]
        acquired = slice_mask(record.slices, data.grid.size[2])
        image, label = data.image(index, record.ed)[..., acquired], data.label(index, record.ed)[..., acquired]
        return bool(known.reject_reason(from_uint8(image), label))

    return [is_known(index) for index in range(len(data))]


def check_held_out(data: PackedDataset, fingerprints: Mapping[str, Tensor] | None, weights: Path) -> None:
    """`DataError` if ``data`` holds out patients on whom ``weights``, with these fingerprints, were trained."""
    if fingerprints is None:
        return
    held_out = data.where([r.split != "train" and r.dataset != PHANTOM for r in data.records])
    if count := sum(known_subjects(held_out, fingerprints)):
        raise DataError(
            f"{count} of {len(held_out)} held-out subjects were in the training of {weights}: "
            "training that starts from it could not be judged on them",
            hint=f"cinesynth split DATASET --seen-by {weights} moves them to training; or leave out --initial",
        )


def move_to_training(
    dataset: Path, fingerprints: Mapping[str, Tensor], grid: Grid, progress: ProgressCallback = no_progress
) -> tuple[SubjectRow, ...]:
    """Give held-out subjects of ``dataset`` whom the fingerprints know to the training split; returns their rows.

    Training that starts from the weights of these fingerprints can then be judged on the remaining ones. All studies
    of a person move together, as they are in one split and look alike. The table is replaced atomically.
    """
    data = prepare(dataset, grid, progress)
    held_out = data.where([record.split != "train" for record in data.records])
    known = known_subjects(held_out, fingerprints)
    seen = {(r.dataset, r.subject) for r, is_known in zip(held_out.records, known, strict=True) if is_known}
    table = DatasetTable.read(dataset)
    moved = tuple(row for row in table if (row.dataset, row.subject) in seen)
    if moved:
        rows = (replace(row, split="train") if row in moved else row for row in table)
        DatasetTable(tuple(rows)).write(dataset)
    return moved
