"""The filter that generation applies: an anatomy that is a near-duplicate of a training subject is not kept.

Training subjects are known in one of two ways. *Fingerprints* are stored with weights, so that near-duplicates are
rejected where the training data are not available: a fingerprint is a random projection of a subject's
`image_thumbnail`, and correlations survive it within about 1/16 (Johnson and Lindenstrauss, 1984). It is not anonymous:
docs/decisions/0015 says what it reveals of the image. A *training index* holds whole thumbnails of images and masks;
`cinesynth training-index` writes it, for `cinesynth generate --training-index`. Protect it as you protect the images.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from torch import Tensor

from cinesynth.data.geometry import Grid
from cinesynth.data.normalisation import to_uint8
from cinesynth.errors import DataError
from cinesynth.io.files import atomic_path, file_sha256
from cinesynth.io.tasks import ProgressCallback, no_progress, ordered_map
from cinesynth.memorisation.nearest import (
    IMAGE,
    MASK,
    REACH_PX,
    Stack,
    copy_limit,
    image_distance,
    nearest,
    nearest_other,
    unit,
)
from cinesynth.memorisation.thumbnails import HEIGHTS, PIXELS, ed_thumbnails, image_thumbnail, subject_thumbnails
from cinesynth.types import FloatArray, LabelArray

if TYPE_CHECKING:
    from cinesynth.data.packed import PackedDataset

NUMBERS = 256
"""Numbers of a fingerprint, one byte each."""
MIN_SUBJECTS = 20
"""Fewer subjects do not tell how close real people usually are."""
SIDE_PX = PIXELS - 2 * REACH_PX
"""Side of the part of a thumbnail that is compared at every shift."""
INDEX_FORMAT = "1"
UNKNOWN = 255
"""Voxels of the mask of a subject whose ED was not completely annotated, in a training index."""


class DuplicateFilter(NamedTuple):
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
        closeness = known.closeness(image_thumbnail(to_uint8(image), label, grid.spacing_mm))
        return "near-duplicate of a training subject (fingerprint)" if closeness < known.limit else ""

    return DuplicateFilter(f"fingerprints of {len(known.numbers)} training subjects", reject_reason)


def index_filter(path: Path, grid: Grid) -> DuplicateFilter:
    """The filter of the training index in ``path`` for anatomies on ``grid``; `DataError` if it cannot be read."""
    index = TrainingIndex.load(path)

    def reject_reason(image: FloatArray, label: LabelArray) -> str:
        found = index.search(ed_thumbnails(to_uint8(image), label, grid.spacing_mm))
        # The subject is not named: messages must not identify patients.
        return f"near-duplicate of a training subject ({found.space}, closeness {found.closeness:.2f})" if found else ""

    return DuplicateFilter(f"training index {file_sha256(path)}", reject_reason)


# --- Fingerprints ----------------------------------------------------------------------------------------------------


class Fingerprints(NamedTuple):
    """Fingerprints ``N 256`` of training subjects, and the closeness (`Nearest`) below which a heart is a copy."""

    numbers: NDArray[np.int8]
    limit: float

    @classmethod
    def of(cls, images: Stack, margin: float = 1.3) -> Fingerprints | None:
        """The fingerprints of image thumbnails ``N 5 P P``; None if there are fewer than `MIN_SUBJECTS`.

        ``margin`` raises the limit of whole thumbnails: closeness by fingerprints is off by an eighth (SD).
        """
        if len(images) < MIN_SUBJECTS:
            return None
        real = nearest_other(image_distance(images, images)).known
        projected = _projected(_inner(images, REACH_PX, REACH_PX))
        scaled = projected / np.abs(projected).max(axis=1, keepdims=True)
        return cls(np.rint(127 * scaled).astype(np.int8), margin * copy_limit(real))

    def closeness(self, image: NDArray[np.float32]) -> float:
        """The closeness of a thumbnail ``5 P P`` to the nearest subject; NaN if it cannot be determined."""
        known = self.numbers / np.linalg.norm(self.numbers.astype(np.float64), axis=1, keepdims=True)
        steps = range(2 * REACH_PX + 1)
        shifted = _projected(np.stack([_inner(image, x, y) for x in steps for y in steps]))
        return float(nearest(1.0 - (shifted @ known.T).max(axis=0, keepdims=True)).closeness[0])


def fingerprints_of(train: PackedDataset) -> dict[str, Tensor] | None:
    """Fingerprints of the patients of a training split, for a weights folder; None if there are too few patients.

    Phantoms get none, since they are nobody's data.
    """
    from cinesynth.data.phantom import PHANTOM

    patients = [i for i, record in enumerate(train.records) if record.dataset != PHANTOM]
    if not patients:
        return None
    found = Fingerprints.of(np.stack([subject_thumbnails(train, i)["image"] for i in patients]))
    return None if found is None else {"numbers": torch.from_numpy(found.numbers), "limit": torch.tensor(found.limit)}


def _inner(images: Stack, x: int, y: int) -> Stack:
    return images[..., x : x + SIDE_PX, y : y + SIDE_PX]


def _projected(stacks: Stack) -> NDArray[np.float64]:
    """Projections ``N 256`` of length 1."""
    found = unit(stacks) @ _signs()
    return np.asarray(found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-9))


@cache
def _signs() -> NDArray[np.float64]:
    """The projection, pixels by `NUMBERS`, of 1 and -1: bits of PCG64, whose stream NumPy never changes (NEP 19)."""
    pixels = len(HEIGHTS) * SIDE_PX * SIDE_PX
    words = np.random.PCG64(0).random_raw(-(-pixels * NUMBERS // 64))
    bits = np.unpackbits(words.astype("<u8").view(np.uint8))[: pixels * NUMBERS]
    return np.asarray(bits.reshape(pixels, NUMBERS) * 2.0 - 1.0, dtype=np.float64)


# --- The training index ----------------------------------------------------------------------------------------------


class NearDuplicate(NamedTuple):
    """The training subject that a heart copies, the space in which it does, and how close it is (`Nearest`)."""

    subject: str
    space: str
    closeness: float


class TrainingIndex(NamedTuple):
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
        limits = {}
        for space in (IMAGE, MASK):
            known = train[space.name]
            real = [nearest_other(space.distance(known, known)).known]
            if held_out is not None:
                real.append(nearest(space.distance(held_out[space.name], known)).known)
            together = np.concatenate(real)
            limits[space.name] = copy_limit(together) if len(together) else 0.0
        mask = np.nan_to_num(train["mask"], nan=UNKNOWN).astype(np.uint8)
        return cls(tuple(names), train["image"].astype(np.uint8), mask, limits)

    @classmethod
    def build(
        cls, dataset: Path, grid: Grid, split: str = "train", progress: ProgressCallback = no_progress
    ) -> TrainingIndex:
        """The index of the subjects of a split, phantoms included; `DataError` if the split is empty."""
        from cinesynth.data.packed import prepare

        data = prepare(dataset, grid).split(split)
        if not data.records:
            raise DataError(
                f"the split {split} of {dataset} has no subjects", hint="ingest more subjects, or name another split"
            )
        found = []
        with closing(ordered_map(partial(subject_thumbnails, data), range(len(data)))) as read:
            for number, thumbnails in enumerate(read, start=1):
                found.append(thumbnails)
                progress("training index", number, len(data), {})
        names = [f"{record.dataset} {record.subject}" for record in data.records]
        return cls.of(names, {space: np.stack([one[space] for one in found]) for space in ("image", "mask")})

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
        metadata = {"format": INDEX_FORMAT, "names": json.dumps(self.names), "limits": json.dumps(self.limits)}
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
        if metadata.get("format") != INDEX_FORMAT or image.shape != shape or mask.shape != shape:
            raise DataError(f"{path} has another format than this version reads", hint=hint)
        return cls(names, image, mask, limits)
