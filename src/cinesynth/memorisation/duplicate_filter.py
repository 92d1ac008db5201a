"""The filter that generation applies: an anatomy that is a near-duplicate of a training subject is not kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from cinesynth.data.geometry import Grid
from cinesynth.data.normalisation import to_uint8
from cinesynth.io.files import file_sha256
from cinesynth.memorisation.fingerprints import Fingerprints
from cinesynth.memorisation.thumbnails import ed_thumbnails, image_thumbnail
from cinesynth.memorisation.training_index import TrainingIndex
from cinesynth.types import FloatArray, LabelArray


@dataclass(frozen=True)
class DuplicateFilter:
    """Rejects anatomies; ``identity`` names all that a decision depends on and is part of each case's provenance.

    ``reject_reason`` takes an ED image in [-1, 1] and its label, ``X Y Z`` on the grid of the weights, and returns why
    they are rejected; empty if they are kept.
    """

    identity: str
    reject_reason: Callable[[FloatArray, LabelArray], str]


def fingerprint_filter(stored: Mapping[str, Tensor] | None, grid: Grid) -> DuplicateFilter | None:
    """The filter of the fingerprints in a weights folder on ``grid``; None if the folder has none."""
    if stored is None:
        return None
    known = Fingerprints(stored["numbers"].numpy(), float(stored["limit"]))

    def reject_reason(image: FloatArray, label: LabelArray) -> str:
        near = known.is_near_duplicate(image_thumbnail(to_uint8(image), label, grid.spacing_mm))
        return "near-duplicate of a training subject (fingerprint)" if near else ""

    return DuplicateFilter(f"fingerprints of {len(known.numbers)} training subjects", reject_reason)


def index_filter(path: Path, grid: Grid) -> DuplicateFilter:
    """The filter of the training index in ``path`` for anatomies on ``grid``; `DataError` if it cannot be read."""
    index = TrainingIndex.load(path)

    def reject_reason(image: FloatArray, label: LabelArray) -> str:
        found = index.search(ed_thumbnails(to_uint8(image), label, grid.spacing_mm))
        # The subject is not named: messages must not identify patients.
        return f"near-duplicate of a training subject ({found.space}, closeness {found.closeness:.2f})" if found else ""

    return DuplicateFilter(f"training index {file_sha256(path)}", reject_reason)
