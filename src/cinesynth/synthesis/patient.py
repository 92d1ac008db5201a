"""A real patient's image from a file of its own: read, turned base first, and the way back to its voxels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cinesynth.data.nifti import Volume, read_stack
from cinesynth.data.orientation import ALONG_HEART, AREA_LEAD, SliceOrder, apex_cosine, apply, base_lead, oriented
from cinesynth.data.sources.cycle import unlabelled_study
from cinesynth.errors import DataError
from cinesynth.io.files import file_sha256
from cinesynth.io.tables import reading
from cinesynth.types import LabelArray, Study, full_coverage

DATASET = "patient"


@dataclass(frozen=True, eq=False)
class Patient:
    """An unlabelled study (base first, one frame or more) and the file it is from."""

    study: Study
    path: Path
    sha256: str
    has_time: bool
    """Whether the file has four dimensions."""

    def in_file(self, volumes: NDArray[Any]) -> NDArray[Any]:
        """``T X Y Z`` of the study in the voxel order of the file."""
        return apply(volumes, self.study.affine, self.study.to_source)[0]

    def seems_reversed(self, label: LabelArray) -> bool:
        """Whether a ``label`` (``X Y Z``) is wider at what is taken for the apex, and nothing but habit says it is."""
        coverage = full_coverage(np.ones(1, dtype=np.bool_), label.shape[2])[0]
        return self.study.slices_from == "declared" and base_lead(label, coverage) <= -AREA_LEAD

    def to_json(self) -> dict[str, object]:
        """What a record says of the file, without its name: that may be a person's."""
        return {
            "sha256": self.sha256,
            "size": list(self.in_file(self.study.image[:1]).shape[1:]),
            "frames": len(self.study.image),
            "spacing_mm": [round(step, 6) for step in self.study.spacing_mm],
            "base": "first slice" if self.study.to_source[2][1] == 1 else "last slice",
            "base_from": self.study.slices_from,
        }


@reading()
def read_patient(path: Path | str, order: SliceOrder = "auto") -> Patient:
    """The patient in a NIfTI file of 3 or 4 dimensions.

    ``order`` declares which slice is the base; ``auto`` asks the header, as a layout does, and keeps the order of a
    file whose header does not tell. `DataError` says what of the file is wrong.
    """
    path = Path(path)
    volume = read_stack(path)
    if order == "auto":
        _check_short_axis(volume)
    study = oriented(
        unlabelled_study(
            volume.frames, volume.affine, subject=path.name, dataset=DATASET, frame_time_ms=volume.frame_time_ms
        ),
        order,
    )
    return Patient(study, path, file_sha256(path), volume.data.ndim == 4)


def _check_short_axis(volume: Volume) -> None:
    along = apex_cosine(volume.affine)
    if 0.0 < abs(along) < ALONG_HEART:
        raise DataError(
            f"{volume.path} is no short-axis stack by its header: slices lie {np.degrees(np.arccos(abs(along))):.0f} "
            f"degrees off a heart's long axis, expected less than {np.degrees(np.arccos(ALONG_HEART)):.0f}",
            hint="give the short-axis stack; if it is one and the header is wrong, say which slice is the base: "
            "--slice-order base_first or apex_first",
        )
