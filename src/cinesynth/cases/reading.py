"""Generated cases read back: their sidecar, the study they hold, and the terms of their use."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from cinesynth.cases.schema import IMAGE, LABEL, SIDECAR, migrated_sidecar
from cinesynth.data.dataset_table import GENERATED
from cinesynth.data.nifti import read_labels, read_volume
from cinesynth.data.store import check_study
from cinesynth.data.terms import UNSPECIFIED, Terms
from cinesynth.errors import CinesynthError, DataError
from cinesynth.io.files import file_sha256
from cinesynth.types import Diagnosis, Study, full_coverage


def is_case(folder: Path) -> bool:
    """Whether ``folder`` holds a finished case."""
    return (Path(folder) / SIDECAR).is_file()


def read_sidecar(folder: Path) -> dict[str, Any] | None:
    """The sidecar with its request and weights; None without a finished case, `DataError` if it is damaged."""
    if not is_case(folder):
        return None
    content = load_sidecar(folder)
    try:
        content["provenance"]["request"], content["provenance"]["weights"]["sha256"]
    except (KeyError, TypeError) as error:
        raise _damaged(folder / SIDECAR, repr(error)) from None
    return content


def load_sidecar(folder: Path) -> dict[str, Any]:
    """The sidecar in ``folder`` with the keys of this release; `DataError` if it is missing or damaged."""
    path = Path(folder) / SIDECAR
    try:
        return migrated_sidecar(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise _damaged(path, repr(error)) from None


def read_case(folder: Path, subject: str) -> Study:
    """The case as a study, annotated everywhere; `DataError` if a file is missing, damaged or not the generated one."""
    folder = Path(folder)
    content = load_sidecar(folder)
    image = read_volume(folder / IMAGE, 4)
    label = read_labels(folder / LABEL, image)
    try:
        for name in (IMAGE, LABEL):
            if file_sha256(folder / name) != content["files"][name]:
                hint = "copy the case again, or generate it again"
                raise DataError(f"{folder / name} was changed after it was generated", hint=hint)
        study = Study(
            subject=subject,
            dataset=GENERATED,
            vendor="cinesynth",
            diagnosis=Diagnosis.parse(content["requested"]["diagnosis"]),
            image=np.moveaxis(image.data, -1, 0),
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
    """The terms of use of the weights that generated the case in ``folder``; `DataError` if its sidecar is damaged."""
    content = load_sidecar(folder)
    try:
        weights = content["provenance"].get("weights", {})
        return Terms(weights.get("licence", UNSPECIFIED.licence), "; ".join(weights.get("citations", ())))
    except (TypeError, AttributeError) as error:
        raise _damaged(Path(folder) / SIDECAR, repr(error)) from None


def _damaged(path: Path, reason: str) -> CinesynthError:
    return DataError(
        f"{path} is not a case's sidecar: {reason}", hint=f"remove {path.parent} and generate the case again"
    )
