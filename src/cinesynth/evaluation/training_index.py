"""Training subjects in a small file, against which a single heart is checked: is it a near-copy of one of them.

`cinesynth known-hearts` writes the file, `cinesynth generate --known-hearts` draws again what copies one of them.

The file holds blurred thumbnails of patients. Treat it as you treat their images.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from cinesynth.data.geometry import Grid
from cinesynth.data.intensity import to_uint8
from cinesynth.data.packed import prepare
from cinesynth.errors import DataError
from cinesynth.evaluation.cases import Case, patients
from cinesynth.evaluation.measure import Measured, measure, thumbnails, thumbnails_of
from cinesynth.io.files import atomic_path, file_sha256
from cinesynth.io.progress import ProgressCallback, no_progress
from cinesynth.memorisation.fingerprints import DuplicateFilter
from cinesynth.memorisation.nearest import IMAGE, MASK, Space, copy_limit, nearest, nearest_other
from cinesynth.memorisation.thumbnails import HEIGHTS, PIXELS
from cinesynth.types import Diagnosis, FloatArray, LabelArray, full_coverage

FORMAT = "1"
UNKNOWN = 255
"""In the mask of a subject whose ED was not wholly annotated."""


@dataclass(frozen=True)
class Copy:
    """A training subject that a heart copies, in which space, and how close (see `Nearest`)."""

    subject: str
    space: str
    closeness: float


@dataclass(frozen=True)
class TrainingIndex:
    """Likenesses of training subjects, ``N 5 P P`` bytes, and the closeness at which a heart is a near-copy."""

    names: tuple[str, ...]
    image: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    limits: dict[str, float]

    @classmethod
    def of(cls, train: Measured, held_out: Measured | None = None) -> TrainingIndex:
        """From the `thumbnails` of the training subjects; held-out people, if given, help to set the limits."""
        mask = np.nan_to_num(train["thumbnail.mask"], nan=UNKNOWN).astype(np.uint8)
        limits = {space.name: _limit(space, train, held_out) for space in (IMAGE, MASK)}
        return cls(train.names, train["thumbnail.image"].astype(np.uint8), mask, limits)

    def copied(self, case: Case) -> Copy | None:
        """The training subject that ``case`` is a near-copy of in image or mask, if there is one."""
        seen = thumbnails_of(case)
        mask = np.where(self.mask == UNKNOWN, np.nan, self.mask).astype(np.float32)
        for space, known in ((IMAGE, self.image.astype(np.float32)), (MASK, mask)):
            found = nearest(space.distance(seen[space.name][None], known))
            if found.closeness[0] < self.limits[space.name]:
                return Copy(self.names[int(found.place[0])], space.name, float(found.closeness[0]))
        return None

    def save(self, path: Path) -> None:
        """Write ``path``, a safetensors file of about 20 kB a subject."""
        about = {"format": FORMAT, "names": json.dumps(self.names), "limits": json.dumps(self.limits)}
        with atomic_path(path) as temporary:
            arrays = {"image": np.ascontiguousarray(self.image), "mask": np.ascontiguousarray(self.mask)}
            save_file(arrays, temporary, metadata=about)

    @classmethod
    def load(cls, path: Path) -> TrainingIndex:
        """Read what `save` wrote; `DataError` where it is missing, damaged or something else."""
        try:
            with safe_open(path, framework="numpy") as file:
                about = file.metadata() or {}
                image, mask = file.get_tensor("image"), file.get_tensor("mask")
            names, limits = tuple(json.loads(about["names"])), json.loads(about["limits"])
        except (SafetensorError, OSError, KeyError, ValueError) as error:
            raise DataError(f"{path} holds no known hearts: {error!r}", hint="make it again") from None
        shape = (len(names), len(HEIGHTS), PIXELS, PIXELS)
        if about.get("format") != FORMAT or image.shape != shape or mask.shape != shape:
            raise DataError(f"{path} is of another format", hint="make it again with this version")
        return cls(names, image, mask, limits)


def known_hearts(
    dataset: Path, grid: Grid, split: str = "train", progress: ProgressCallback = no_progress
) -> TrainingIndex:
    """The subjects of a split (patients and phantoms) as known hearts; `DataError` where nobody is in it."""
    subjects = patients(prepare(dataset, grid).split(split), f"{split} of {dataset}")
    return TrainingIndex.of(measure(subjects, [thumbnails()], progress=progress))


def screen(path: Path, grid: Grid) -> DuplicateFilter:
    """The known hearts of ``path`` as a screen for anatomies on ``grid``; `DataError` where there are none."""
    known = TrainingIndex.load(path)

    def reject_reason(image: FloatArray, label: LabelArray) -> str:
        copy = known.copied(_anatomy(image, label, grid))
        return f"a near-copy of a known heart ({copy.space}, closeness {copy.closeness:.2f})" if copy else ""

    return DuplicateFilter(f"known hearts {file_sha256(path)}", reject_reason)


def _anatomy(image: FloatArray, label: LabelArray, grid: Grid) -> Case:
    """A generated ED, ``X Y Z``, as a case of one frame."""
    return Case(
        name="generated",
        diagnosis=Diagnosis.UNKNOWN,
        image=to_uint8(image)[None],
        label=label[None],
        coverage=full_coverage(np.ones(1, dtype=np.bool_), label.shape[-1]),
        spacing_mm=grid.spacing_mm,
        ed=0,
        es=0,
        whole_cycle=False,
        frame_time_ms=None,
    )


def _limit(space: Space, train: Measured, held_out: Measured | None) -> float:
    known = train[space.quantity]
    people = [nearest_other(space.distance(known, known)).known]
    if held_out is not None:
        people.append(nearest(space.distance(held_out[space.quantity], known)).known)
    together = np.concatenate(people)
    return copy_limit(together) if len(together) else 0.0
