"""Compares what others read with what was exported, and prints the table of `docs/reference/interoperability.md`.

``python -m tests.interop.table`` prints it; a reader that is not at hand has no row.
"""

import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from cinesynth.types import Study
from tests.interop import readers
from tests.interop.readers import Reader, Seen
from tests.interop.studies import Exported, exported

ROWS: dict[tuple[str, str], Reader] = {
    ("nibabel", "nifti"): readers.nibabel_nifti,
    ("SimpleITK", "nifti"): readers.simpleitk_nifti,
    ("TorchIO", "nifti"): readers.torchio_nifti,
    ("nnU-Net, `NibabelIO`", "nnunet"): readers.nnunet_nibabel,
    ("nnU-Net, `SimpleITKIO`", "nnunet"): readers.nnunet_simpleitk,
    ("dcm2niix", "dicom"): readers.dcm2niix,
    ("dcm2niix `-m y`, Philips", "dicom"): readers.dcm2niix_philips,
    ("SimpleITK, a frame", "dicom"): readers.simpleitk_dicom,
    ("TorchIO, a frame", "dicom"): readers.torchio_dicom,
    ("highdicom, a frame", "dicom"): readers.highdicom_cine,
    ("highdicom, SEG", "dicom"): readers.highdicom_seg,
    ("dcmqi, SEG", "dicom"): readers.dcmqi_seg,
}
COLUMNS = ("voxels", "spacing", "orientation", "frame time", "labels", "provenance")
PLACE_MM = 1e-3  # NIfTI keeps affines in 32 bits
RIGHT, WRONG, NONE = "exact", "WRONG", "-"


def cells(seen: Iterable[Seen]) -> dict[str, str]:
    """The cells of a reader's row: exact, WRONG if any volume differs, or ``-`` where the reader has no answer."""
    found: dict[str, list[str]] = {column: [] for column in COLUMNS}
    marked = []
    for one in seen:
        study = one.item.read()
        answers = judged(one, study)
        for column, answer in answers.items():
            found[column].append(answer)
        marks = ("synthetic",) if one.item.synthetic else ("cinesynth", study.dataset, "research dataset")
        marked.append(any(mark in one.text.lower() for mark in marks))
    row = {column: combined(answers) for column, answers in found.items()}
    return row | {"provenance": "kept" if all(marked) else NONE}


def combined(answers: list[str]) -> str:
    known = {answer for answer in answers if answer != NONE}
    return NONE if not known else RIGHT if known == {RIGHT} else WRONG


def judged(seen: Seen, study: Study) -> dict[str, str]:
    """Each voxel is looked up where the reader places it in the patient."""
    array = study.label if seen.is_label else study.image
    wanted = array if seen.frame is None else array[seen.frame][None]  # T X Y Z
    got = np.moveaxis(seen.voxels, -1, 0) if seen.voxels.ndim == 4 else seen.voxels[None]
    if not np.linalg.det(seen.affine):  # slices without a distance: frames were taken for slices
        return {"labels" if seen.is_label else "voxels": WRONG, "orientation": WRONG, "spacing": WRONG}
    theirs = np.linalg.inv(seen.affine) @ study.affine  # our index to theirs
    index = np.indices(wanted.shape[1:]).reshape(3, -1)
    place = theirs[:3, :3] @ index + theirs[:3, 3:]
    whole = np.rint(place).astype(int)
    off_mm = np.abs(seen.affine[:3, :3] @ (place - whole)).max()
    inside = len(got) == len(wanted) and ((whole >= 0) & (whole < np.array(got.shape[1:])[:, None])).all()
    equal = inside and got[0].size == wanted[0].size and same(got[(slice(None), *whole)].reshape(wanted.shape), wanted)
    edges = np.abs(np.rint(theirs[:3, :3])).T @ np.linalg.norm(seen.affine[:3, :3], axis=0)
    verdict = {"labels" if seen.is_label else "voxels": equal, "orientation": bool(inside and off_mm < PLACE_MM)}
    verdict["spacing"] = np.allclose(edges, study.spacing_mm, rtol=1e-5)
    answers = {column: RIGHT if right else WRONG for column, right in verdict.items()}
    return answers | {"frame time": timed(seen, study)}


def same(got: np.ndarray, wanted: np.ndarray) -> bool:
    """Equal, or as near as 16 bits come to fractions."""
    step = 0.0 if np.issubdtype(wanted.dtype, np.integer) else float(np.ptp(wanted)) / 65535
    return bool(np.abs(got.astype(np.float64) - wanted).max() <= step)


def timed(seen: Seen, study: Study) -> str:
    if seen.time_ms is None:
        return NONE
    known = study.frame_time_ms is not None and len(study.frame_index) == study.frames_in_cycle
    return RIGHT if known and abs(seen.time_ms - study.frame_time_ms) < 0.01 else WRONG


def line(name: tuple[str, str], row: dict[str, str]) -> str:
    return f"| {name[0]} | `--to {name[1]}` | " + " | ".join(row[column] for column in COLUMNS) + " |"


def header() -> list[str]:
    return ["| reader | export | " + " | ".join(COLUMNS) + " |", "|---" * (len(COLUMNS) + 2) + "|"]


def main() -> None:
    """Print the table for the tools at hand."""
    with tempfile.TemporaryDirectory() as folder:
        out: Exported = exported(Path(folder))
        print("\n".join(header()))
        for name, reader in ROWS.items():
            try:
                print(line(name, cells(reader(out))), flush=True)
            except (pytest.skip.Exception, ModuleNotFoundError) as absent:
                print(f"{name[0]}: {absent}", flush=True)


if __name__ == "__main__":
    main()
