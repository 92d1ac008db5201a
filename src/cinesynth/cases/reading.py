"""A generated case: what its files are called, and how it is read back as a study."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from cinesynth.data.nifti import read_labels, read_volume
from cinesynth.data.store import check_study
from cinesynth.data.terms import UNSPECIFIED, Terms
from cinesynth.errors import CinesynthError, DataError
from cinesynth.io.files import file_sha256
from cinesynth.types import Diagnosis, Study, full_coverage

IMAGE, LABEL, SIDECAR = "image.nii.gz", "label.nii.gz", "case.json"
"""Files of a case folder."""
DATASET, VENDOR = "generated", "cinesynth"


def is_case(folder: Path) -> bool:
    """Whether ``folder`` holds a finished case."""
    return (Path(folder) / SIDECAR).is_file()


def read_case(folder: Path, subject: str) -> Study:
    """The case in ``folder``: image 0-1000, every structure labelled in every frame.

    `DataError` where a file is missing, damaged, or not the one that was generated.
    """
    folder = Path(folder)
    content = _sidecar(folder / SIDECAR)
    image = read_volume(folder / IMAGE, 4)
    label = read_labels(folder / LABEL, image)
    try:
        _check_hashes(folder, content["files"])
        study = Study(
            subject=subject,
            dataset=DATASET,
            vendor=VENDOR,
            diagnosis=Diagnosis.parse(content["requested"]["diagnosis"]),
            image=image.frames,
            label=label,
            coverage=full_coverage(np.ones(len(label), dtype=np.bool_), label.shape[3]),
            frame_index=np.arange(len(label), dtype=np.int64),
            frames_in_cycle=len(label),
            ed_index=int(content["ed_index"]),
            es_index=int(content["es_index"]),
            affine=image.affine,
            frame_time_ms=float(content["frame_time_ms"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _damaged(folder / SIDECAR, repr(error)) from None
    check_study(study)
    return study


def case_terms(folder: Path) -> Terms:
    """What binds the users of the case in ``folder``: the terms of the weights that made it.

    `DataError` where its sidecar is damaged.
    """
    path = Path(folder) / SIDECAR
    content = _sidecar(path)
    try:
        weights = content.get("provenance", {}).get("weights", {})
        return Terms(weights.get("licence", UNSPECIFIED.licence), "; ".join(weights.get("citations", ())))
    except (TypeError, AttributeError) as error:
        raise _damaged(path, repr(error)) from None


def _sidecar(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _damaged(path, str(error)) from None
    if not isinstance(content, dict):
        raise _damaged(path, "it holds no settings")
    return content


def _check_hashes(folder: Path, hashes: dict[str, str]) -> None:
    for name in (IMAGE, LABEL):
        if file_sha256(folder / name) != hashes[name]:
            raise DataError(
                f"{folder / name} is not the file that was generated", hint="copy the case again, or generate it again"
            )


def _damaged(path: Path, reason: str) -> CinesynthError:
    return DataError(f"{path} is not the record of a generated case: {reason}", hint="generate the case again")
