"""ACDC (Bernard et al., IEEE TMI 2018): ``patientNNN/`` folders with ``Info.cfg``, ED and ES frames and their labels.

Where a folder has ``patientNNN_4d.nii.gz`` the whole cycle is taken, else ED and ES alone. ``Info.cfg`` counts frames
from one. Labels are 1 RV, 2 myocardium, 3 LV; slices run base to apex; the scanners were Siemens.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cinesynth.data.nifti import Volume, read_label, read_volume
from cinesynth.data.sources import Source
from cinesynth.errors import DataError, InputError
from cinesynth.io.tables import is_named, read_small, reading
from cinesynth.types import Diagnosis, Label, LabelArray, Study, full_coverage

LAYOUT = (".", "training", "testing", "database/training", "database/testing")
"""Where patients may lie below the folder that a user names."""


@reading()
def read_acdc(root: Path) -> Source:
    """All patients below ``root`` (the dataset, its ``database``, ``training`` or ``testing``), read when asked for.

    `DataError` if there are none, or, while reading, naming the file that is missing or wrong.
    """
    folders = {folder.name: folder for part in LAYOUT for folder in _patients(Path(root) / part)}
    if not folders:
        raise DataError(
            f"no ACDC patients in {root}",
            hint="name the folder that holds training/patient001 (from the ACDC download, unpacked)",
        )

    @reading()
    def read(name: str) -> Study:
        return read_patient(folders[name])

    def files(name: str) -> list[Path]:
        return [path for path in sorted(folders[name].iterdir()) if path.is_file()]

    return Source(tuple(sorted(folders)), read, files=files)


def read_patient(folder: Path) -> Study:
    """One patient folder as a study."""
    info = _read_info(folder / "Info.cfg")
    ed, es = _number(folder, info, "ED") - 1, _number(folder, info, "ES") - 1
    cine_path = folder / f"{folder.name}_4d.nii.gz"
    if is_named(cine_path):
        first, image = _read_cycle(cine_path)
        frames, frame_index = len(image), np.arange(len(image))
        _check_frames(folder, ed, es, frames)
    else:
        frames, frame_index = _number(folder, info, "NbFrame"), np.array([ed, es])
        _check_frames(folder, ed, es, frames)
        first, image = _read_pair(folder, ed, es)
    return Study(
        subject=folder.name,
        dataset="acdc",
        vendor="Siemens",
        diagnosis=_diagnosis(folder, info),
        image=image,
        label=_labels(folder, first, frame_index, ed, es),
        coverage=full_coverage(np.isin(frame_index, (ed, es)), image.shape[3]),
        frame_index=frame_index.astype(np.int64),
        frames_in_cycle=frames,
        ed_index=ed,
        es_index=es,
        affine=first.affine,
        frame_time_ms=first.frame_time_ms,
        group=info["Group"],
    )


def _patients(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return [path for path in sorted(folder.iterdir()) if path.is_dir() and re.fullmatch(r"patient\d+", path.name)]


def _read_info(path: Path) -> dict[str, str]:
    try:
        text = read_small(path).decode()
    except (OSError, UnicodeDecodeError):
        raise DataError(f"{path} is missing or not text", hint="each ACDC patient has one: copy it again") from None
    pairs = (line.partition(":") for line in text.splitlines())
    return {key.strip(): value.strip() for key, colon, value in pairs if colon}


def _number(folder: Path, info: dict[str, str], key: str) -> int:
    if not re.fullmatch(r"[0-9]{1,6}", info.get(key, "")):
        found = f"is {info[key][:40]!r}" if key in info else "is missing"
        raise DataError(f"{folder / 'Info.cfg'}: {key} {found}, expected a frame number", hint="copy the file again")
    return int(info[key])


def _diagnosis(folder: Path, info: dict[str, str]) -> Diagnosis:
    try:
        return Diagnosis.parse(info.get("Group", ""))
    except InputError as error:
        raise DataError(
            f"{folder / 'Info.cfg'}: Group {info.get('Group', '')!r} is not known", hint=error.hint
        ) from None


def _check_frames(folder: Path, ed: int, es: int, frames: int) -> None:
    if ed == es or not (0 <= ed < frames and 0 <= es < frames):
        raise DataError(
            f"{folder / 'Info.cfg'}: ED {ed + 1} and ES {es + 1} are not two frames of a cycle of {frames}",
            hint="frame numbers count from 1: compare with the file names",
        )


def _frame_path(folder: Path, index: int, kind: str = "") -> Path:
    return folder / f"{folder.name}_frame{index + 1:02d}{kind}.nii.gz"


def _read_cycle(path: Path) -> tuple[Volume, NDArray[np.generic]]:
    volume = read_volume(path, 4)
    return volume, np.ascontiguousarray(np.moveaxis(volume.data, -1, 0))  # X Y Z T -> T X Y Z


def _read_pair(folder: Path, ed: int, es: int) -> tuple[Volume, NDArray[np.generic]]:
    first, second = (read_volume(_frame_path(folder, index), 3) for index in (ed, es))
    if first.data.shape != second.data.shape:
        raise DataError(
            f"{second.path} has {second.data.shape} voxels, {first.path.name} has {first.data.shape}",
            hint="ED and ES must lie on one grid: take both from the same copy of the dataset",
        )
    return first, np.stack([first.data, second.data])


def _labels(folder: Path, image: Volume, frame_index: NDArray[np.int_], ed: int, es: int) -> LabelArray:
    result = np.zeros((len(frame_index), *image.data.shape[:3]), dtype=np.uint8)
    for index in (ed, es):
        path = _frame_path(folder, index, "_gt")
        label = read_label(path, image)
        if not (label == Label.LV).any():
            raise DataError(f"{path} has no LV cavity (label 3)", hint="the label is empty or wrong: copy it again")
        result[frame_index == index] = label
    return result
