"""Sunnybrook Cardiac Data (Radau et al., MIDAS Journal 2009): DICOM cines and contours in text files, GE scanners.

``SCD_IMAGES_NN/SCDnnnnnnn/CINESAX_*/`` contains the images, ``SCD_ManualContours/SC-GROUP-NN/`` the contours, and
``scd_patientdata.csv`` maps one to the other. The file name of a contour contains the instance number of its image.
The LV cavity (``icontour``, papillary muscles inside) is contoured at ED and ES, the outside of the wall (``ocontour``)
at ED only, the RV never. The contoured ED is often the last frame of the cycle.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cinesynth.data.dicom import Scan, find_files, read_headers, read_scan
from cinesynth.data.orientation import oriented
from cinesynth.data.sources import Skipped, Source, source_of, subject_folders
from cinesynth.data.sources.cycle import phases_of_labels
from cinesynth.data.sources.dicom import study_of
from cinesynth.data.terms import diagnosis_of
from cinesynth.errors import DataError
from cinesynth.io.tables import SubjectTable, read_small, read_table, reading
from cinesynth.types import STRUCTURES, BoolArray, Label, LabelArray, Study

IMAGE_PLACES = ("SCD_IMAGES*", "SCD_IMAGES*/SCD_IMAGES*")
CONTOURS = ("SC-*", "SCD_ManualContours/SC-*", "SCD_ManualContours/SCD_ManualContours/SC-*")
TABLES = ("scd_patientdata.csv", "*/scd_patientdata.csv")
"""Where the parts may lie below the folder that the user names: some programs unpack an archive into its own folder."""
CONTOUR = re.compile(r"IM-\d+-(\d+)-(i|o|p\d)contour-manual\.txt")
COPY_AGAIN = "unpack the dataset again: images, SCD_ManualContours and scd_patientdata.csv"
Contours = Mapping[tuple[int, str], Path]
"""Contour files of one subject by instance number and kind: i, o, p1, p2."""


@reading()
def read_scd(root: Path) -> Source:
    """All subjects below ``root``, the folder that contains ``SCD_IMAGES_*`` and ``SCD_ManualContours``."""
    folders = subject_folders(
        root,
        [Path(root), *_found(root, IMAGE_PLACES)],
        lambda folder: re.fullmatch(r"SCD\d+", folder.name) is not None,
        dataset="Sunnybrook",
        hint=COPY_AGAIN,
    )
    tables = _found(root, TABLES)
    if not tables:
        raise DataError(f"no scd_patientdata.csv in {root}", hint=COPY_AGAIN)
    table, drawn = read_table(tables[0], "PatientID"), {_same(path.name): path for path in _found(root, CONTOURS)}
    read, files = partial(read_subject, table=table, drawn=drawn), partial(_files, table=table, drawn=drawn)
    skipped = [found for folder in folders.values() for found in _skipped(folder, table, drawn)]
    return source_of(folders, read, files, skipped=skipped)


def read_subject(folder: Path, table: SubjectTable, drawn: Mapping[str, Path]) -> Study:
    """One subject's folder as a study; ``drawn`` holds the folders of contours by original name."""
    original, contours = _contours(folder, table, drawn)
    if not any(kind == "i" for _, kind in contours):
        raise DataError(f"{folder.name}: no contours of {original}", hint=COPY_AGAIN)
    scan = _scan_of(folder, contours)
    label, coverage = _labels(contours, scan)
    phases = phases_of_labels(label)
    if not phases:
        frames = int((label == Label.LV).any(axis=(1, 2, 3)).sum())
        raise DataError(f"{folder.name}: contours in {frames} frame(s), expected ED and ES", hint=COPY_AGAIN)
    group = re.sub(r"^SC-|-\d+$", "", original)  # HF-I, HF-NI, HYP or N
    study = study_of(scan, "scd", folder.name)
    unused = Counter(reason for _, reason in _unused(contours))
    return oriented(
        replace(
            study,
            diagnosis=diagnosis_of(group),
            group=group,
            label=label,
            coverage=coverage,
            ed_index=phases[0],
            es_index=phases[1],
            phases_from="labels",
            notes=(*study.notes, *(f"left out {n} contours ({reason})" for reason, n in unused.items())),
        )
    )


def _files(folder: Path, table: SubjectTable, drawn: Mapping[str, Path]) -> list[Path]:
    found = [path for series in _series(folder) for path in sorted(series.rglob("*")) if path.is_file()]
    with suppress(DataError):  # reading the subject raises it again
        found += _contours(folder, table, drawn)[1].values()
    return [table.path, *found]


def _skipped(folder: Path, table: SubjectTable, drawn: Mapping[str, Path]) -> Iterator[Skipped]:
    """Series and contours that are not part of the study."""
    series = _series(folder)
    for path in sorted(folder.iterdir()):
        if path.is_dir() and not {path, folder} & set(series):
            yield Skipped(str(path), "no short-axis cine")
    with suppress(DataError):  # reading the subject raises it again
        yield from (Skipped(str(path), reason) for path, reason in _unused(_contours(folder, table, drawn)[1]))


def _found(root: Path, patterns: tuple[str, ...]) -> list[Path]:
    return sorted(path for pattern in patterns for path in Path(root).glob(pattern))


def _same(original: str) -> str:
    """The name without leading zeros: tables write SC-HF-I-1 where folders have SC-HF-I-01."""
    return re.sub(r"-0*(\d+)$", r"-\1", original.strip().upper())


def _series(folder: Path) -> list[Path]:
    """Folders of short-axis series; the subject's folder if none is named so."""
    named = [path for path in sorted(folder.iterdir()) if path.is_dir() and path.name.upper().startswith("CINESAX")]
    return named or [folder]


def _contours(folder: Path, table: SubjectTable, drawn: Mapping[str, Path]) -> tuple[str, Contours]:
    """The subject's name in the contours (SC-HF-I-01), and its contour files."""
    original = table.row(folder.name).text("OriginalID")
    if _same(original) not in drawn:
        raise DataError(f"{folder.name} has no contours: {original} is missing", hint=COPY_AGAIN)
    paths = sorted(drawn[_same(original)].rglob("*.txt"))
    found = {(int(match[1]), match[2]): path for path in paths if (match := CONTOUR.fullmatch(path.name))}
    return original.strip().upper(), found


def _unused(contours: Contours) -> Iterator[tuple[Path, str]]:
    """Contours that do not become labels, and why."""
    for (instance, kind), path in contours.items():
        if kind.startswith("p"):
            yield path, "papillary muscles belong to the cavity"
        elif kind == "o" and (instance, "i") not in contours:
            yield path, "an outer contour without an inner one"


def _scan_of(folder: Path, contours: Contours) -> Scan:
    """The short-axis series that the contours were drawn on: it contains all their instance numbers."""
    inner = {instance for instance, kind in contours if kind == "i"}
    for series in _series(folder):
        frames, _ = read_headers(find_files(series)[0])
        if inner <= {frame.instance for frame in frames}:
            scan = read_scan(frames, examination=series)
            if inner <= {frame.instance for s in scan.frames for frame in s}:
                return scan
    first = ", ".join(map(str, sorted(inner)[:5]))
    raise DataError(f"{folder}: no short-axis cine contains the contoured images {first}, ...", hint=COPY_AGAIN)


def _labels(contours: Contours, scan: Scan) -> tuple[LabelArray, BoolArray]:
    """Labels ``T X Y Z`` inside the contours, and the coverage ``T Z S`` of slices that have contours."""
    count, width, height, slices = scan.image.shape
    label = np.zeros(scan.image.shape, dtype=np.uint8)
    coverage = np.zeros((count, slices, len(STRUCTURES)), dtype=np.bool_)
    places = {frame.instance: (t, z) for z, frames in enumerate(scan.frames) for t, frame in enumerate(frames)}
    for instance in (instance for instance, kind in contours if kind == "i"):
        t, z = places[instance]
        for kind, structure in (("o", Label.MYO), ("i", Label.LV)):  # the cavity over the muscle
            if path := contours.get((instance, kind)):
                label[t, fill(_read_contour(path, (width, height)), (width, height)), z] = structure
                coverage[t, z, STRUCTURES.index(structure)] = True
    return label, coverage


def _read_contour(path: Path, shape: tuple[int, int]) -> NDArray[np.float64]:
    """Corners ``N 2`` of a polygon, in voxels along X and Y."""
    try:
        rows = [line.split() for line in read_small(path).decode("ascii").splitlines() if line.strip()]
        points = np.array(rows, dtype=np.float64)
    except (OSError, ValueError):
        raise DataError(f"{path} is not a contour: expected lines of x and y", hint=COPY_AGAIN) from None
    if points.ndim != 2 or points.shape[1] != 2 or not 3 <= len(points) <= 10_000:  # the longest have some hundred
        raise DataError(f"{path} is not a contour of three points or more", hint=COPY_AGAIN)
    if not (points >= -0.5).all() or not (points <= np.array(shape) - 0.5).all():
        raise DataError(f"{path} has points outside its image of {shape[0]} x {shape[1]} pixels", hint=COPY_AGAIN)
    return points


# --- Drawn contours to voxels ----------------------------------------------------------------------------------------


def fill(points: NDArray[np.float64], shape: tuple[int, int]) -> BoolArray:
    """Voxels ``X Y`` whose centre lies in the closed polygon ``N 2`` or on its outline (even-odd rule).

    Whole coordinates are voxel centres. Contours traced along voxels run through many centres, and these count as
    inside. Only products of coordinate differences are compared, so rounding cannot lose any.
    """
    mask = np.zeros(shape, dtype=np.bool_)
    low = np.clip(np.floor(points.min(axis=0)), 0, shape).astype(int)
    high = np.clip(np.ceil(points.max(axis=0)) + 1, 0, shape).astype(int)
    x = np.arange(low[0], high[0], dtype=np.float64)[:, None]
    y = np.arange(low[1], high[1], dtype=np.float64)[None, :]
    inside, on = np.zeros((2, len(x), y.shape[1]), dtype=np.bool_)
    for (ax, ay), (bx, by) in zip(points, np.roll(points, -1, axis=0), strict=True):
        side = (bx - ax) * (y - ay) - (by - ay) * (x - ax)
        inside ^= ((ay > y) != (by > y)) & ((side > 0) == (by > ay))
        on |= (side == 0) & (min(ax, bx) <= x) & (x <= max(ax, bx)) & (min(ay, by) <= y) & (y <= max(ay, by))
    mask[low[0] : high[0], low[1] : high[1]] = inside | on
    return mask
