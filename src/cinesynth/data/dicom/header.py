"""What the header of a DICOM image says of where and when it was taken, for classic and enhanced multi-frame files."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.config import disable_value_validation
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.multival import MultiValue
from pydicom.tag import Tag

from cinesynth.data.dicom.files import MAX_MEMBER_BYTES, Entry
from cinesynth.data.nifti import PLANE_STEP_MM, SQUEEZE
from cinesynth.errors import DataError

NAMES = (
    *("PatientID", "StudyInstanceUID", "StudyDate", "SeriesInstanceUID", "SeriesNumber", "SeriesDescription"),
    *("SOPInstanceUID", "InstanceNumber", "AcquisitionNumber", "Modality", "Manufacturer", "ImageType"),
    *("AcquisitionDateTime", "AcquisitionDate", "AcquisitionTime", "TriggerTime", "NominalInterval", "FrameTime"),
    *("TemporalPositionIdentifier", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"),
    *("Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "PhotometricInterpretation"),
    *("RescaleSlope", "RescaleIntercept", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
)
TAGS = [Tag(name) for name in NAMES]
PICTURES = {
    "LOCALIZER": "a scout",
    "P": "a phase map",
    "PHASE": "a phase map",
    "PHASE MAP": "a phase map",
    "VELOCITY": "a velocity map",
}
"""Values of ImageType that no cine of the heart's anatomy has."""
DEFLATED, MAX_META_BYTES = b"1.2.840.10008.1.2.1.99", 4096
"""The transfer syntax whose files are packed as a whole, and where it stands."""
MAX_SIDE, MAX_FRAMES = 2048, 10_000
"""A header that claims more is damaged, and would cost the memory it claims."""
MAX_NUMBER = 1e10
"""No time, count or scale of a header is larger."""
MAX_POSITION_MM = 1e5
LEAVE_OUT = "leave it out, or correct its header"
Vector = tuple[float, ...]


@dataclass(frozen=True)
class Frame:
    """One image: its place in millimetres of the patient (LPS), its time after the R wave, and where its pixels are."""

    entry: Entry
    number: int  # zero-based within its file
    patient: str
    study: str
    study_date: str
    series: str
    series_number: int
    description: str
    vendor: str
    uid: str
    instance: int
    acquisition: int
    acquired: str  # date and time, comparable as text
    position: Vector  # 3, centre of the first pixel
    orientation: Vector  # 6, directions of increasing column and row
    spacing_mm: tuple[float, float]  # between rows, between columns
    shape: tuple[int, int]  # rows, columns
    original: bool  # not computed from other images
    trigger_ms: float | None
    phase: int | None  # position in the cycle where the header counts it
    interval_ms: float | None  # of the heart beat
    scale: tuple[float, float]  # slope and intercept

    @property
    def normal(self) -> NDArray[np.float64]:
        """Unit vector across the plane, right-handed with columns and rows."""
        return np.asarray(np.cross(self.orientation[:3], self.orientation[3:]), dtype=np.float64)

    def __str__(self) -> str:
        return f"{self.entry} frame {self.number + 1}" if self.number else str(self.entry)


@contextmanager
def parsing() -> Iterator[None]:
    """Turn whatever pydicom makes of damaged bytes into a `DataError`, and keep it silent."""
    try:
        with warnings.catch_warnings(), disable_value_validation():
            warnings.simplefilter("ignore")
            yield
    except DataError:
        raise
    except InvalidDicomError:
        raise DataError("not a DICOM file", hint="leave it out") from None
    except Exception as error:  # pydicom raises a dozen kinds on damaged bytes, some of them bare
        reason = " ".join(str(error).split()) or type(error).__name__
        packed = isinstance(error, RuntimeError | NotImplementedError)  # no decoder for its compression
        hint = "decompress it, for example with gdcmconv --raw" if packed else "the file is damaged: copy it again"
        raise DataError(f"cannot be read: {reason[:200]}", hint=hint) from error


def parse(file: IO[bytes], **options: Any) -> Dataset:
    """What pydicom reads of an opened file; `DataError` if it unpacks to more memory than any cine takes."""
    deflated = DEFLATED in file.read(MAX_META_BYTES)
    if deflated and file.seek(0, os.SEEK_END) * SQUEEZE > MAX_MEMBER_BYTES:
        raise DataError("deflated, and too large to be unpacked safely", hint="decompress it with gdcmconv --raw")
    file.seek(0)
    return pydicom.dcmread(file, **options)


def read_frames(entry: Entry, file: IO[bytes]) -> tuple[Frame, ...]:
    """The images of an opened file without their pixels; `DataError` if it has none that can be placed in space."""
    header = parse(file, stop_before_pixels=True, specific_tags=[*TAGS])
    _check_kind(header)
    return tuple(_classic(entry, header) if "ImagePositionPatient" in header else _enhanced(entry, header))


def _check_kind(header: Dataset) -> None:
    grey = header.get("SamplesPerPixel", 1) == 1 and header.get("PhotometricInterpretation") == "MONOCHROME2"
    rows, columns, count = (int(header.get(name) or 0) for name in ("Rows", "Columns", "NumberOfFrames"))
    placed = "ImagePositionPatient" in header or bool(header.get("PerFrameFunctionalGroupsSequence"))
    _refuse_unless(
        (header.get("Modality", "MR") == "MR", f"not MR but {header.get('Modality')}"),
        (rows > 0 and columns > 0, "without an image"),
        (
            max(rows, columns) <= MAX_SIDE and 0 <= count <= MAX_FRAMES,
            f"{count or 1} images of {rows} x {columns} pixels",
        ),
        (grey, "a colour or inverted picture"),
        (placed, "without a position in the patient"),
    )
    _check_picture(_values(header, "ImageType"))


def _check_picture(kinds: list[Any]) -> None:
    for kind in kinds:
        _refuse_unless((str(kind).upper() not in PICTURES, PICTURES.get(str(kind).upper(), "")))


def _refuse_unless(*checks: tuple[bool, str]) -> None:
    for passed, found in checks:
        if not passed:
            raise DataError(found, hint=LEAVE_OUT)


def _classic(entry: Entry, header: Dataset) -> Iterator[Frame]:
    """The one image of a classic file; in a file of several they share its plane and follow each other in time."""
    count, step = int(header.get("NumberOfFrames") or 1), _number(header, "FrameTime")
    start = _number(header, "TriggerTime")
    for number in range(count):
        trigger = start if count == 1 else (start or 0.0) + number * step if step else None
        phase = _number(header, "TemporalPositionIdentifier") if count == 1 else number
        yield _frame(entry, header, number, (header,), trigger, phase, _number(header, "NominalInterval"))


def _enhanced(entry: Entry, header: Dataset) -> Iterator[Frame]:
    shared = tuple(header.get("SharedFunctionalGroupsSequence") or ())
    for number, own in enumerate(header.PerFrameFunctionalGroupsSequence):
        groups = tuple(item for level in (own, *shared) for item in _items(level))
        for group in groups:
            _check_picture(_values(group, "FrameType"))
        trigger = _first(groups, "NominalCardiacTriggerDelayTime", "ActualCardiacTriggerDelayTime")
        interval = _first(groups, "RRIntervalTimeNominal")
        yield _frame(entry, header, number, groups, trigger, _first(groups, "TemporalPositionIndex"), interval)


def _items(level: Dataset) -> Iterator[Dataset]:
    for element in level:
        if element.VR == "SQ":
            yield from element.value


def _frame(
    entry: Entry,
    header: Dataset,
    number: int,
    groups: tuple[Dataset, ...],
    trigger: float | None,
    phase: float | None,
    interval: float | None,
) -> Frame:
    """``groups`` are searched, the first first, for what may differ between the images of a file."""
    position, orientation, spacing = (
        tuple(float(value) for group in groups if name in group for value in _values(group, name))[:length]
        for name, length in (("ImagePositionPatient", 3), ("ImageOrientationPatient", 6), ("PixelSpacing", 2))
    )
    _check_geometry(position, orientation, spacing)
    slope, intercept = _first(groups, "RescaleSlope"), _first(groups, "RescaleIntercept")
    acquired = [_text(header, name) for name in ("AcquisitionDateTime", "AcquisitionDate", "AcquisitionTime")]
    return Frame(
        entry=entry,
        number=number,
        patient=_text(header, "PatientID"),
        study=_text(header, "StudyInstanceUID"),
        study_date=_text(header, "StudyDate"),
        series=_text(header, "SeriesInstanceUID"),
        series_number=int(_number(header, "SeriesNumber") or 0),
        description=_text(header, "SeriesDescription"),
        vendor=_text(header, "Manufacturer"),
        uid=_text(header, "SOPInstanceUID"),
        instance=int(_number(header, "InstanceNumber") or 0),
        acquisition=int(_number(header, "AcquisitionNumber") or 0),
        acquired="".join(acquired),
        position=position,
        orientation=orientation,
        spacing_mm=(spacing[0], spacing[1]),
        shape=(int(header.Rows), int(header.Columns)),
        original="DERIVED" not in _values(header, "ImageType")[:1],
        trigger_ms=trigger,
        phase=None if phase is None else int(phase),
        interval_ms=interval or None,
        scale=(1.0 if slope is None else slope, intercept or 0.0),
    )


def _check_geometry(position: Vector, orientation: Vector, spacing: Vector) -> None:
    low, high = PLANE_STEP_MM
    axes = np.array(orientation).reshape(-1, 3)
    _refuse_unless(
        (len(position) == 3 and all(abs(v) < MAX_POSITION_MM for v in position), "without a position in the patient"),
        (len(axes) == 2 and np.allclose(axes @ axes.T, np.eye(2), atol=0.01), "without an orientation in the patient"),
        (len(spacing) == 2 and all(low <= step <= high for step in spacing), f"pixels of {spacing} mm"),
    )


def _values(header: Dataset, name: str) -> list[Any]:
    value = header.get(name)
    if value is None or value == "":
        return []
    return list(value) if isinstance(value, MultiValue | list | tuple) else [value]


def _first(groups: tuple[Dataset, ...], *names: str) -> float | None:
    found = (_number(group, name) for name in names for group in groups)
    return next((value for value in found if value is not None), None)


def _number(header: Dataset, name: str) -> float | None:
    values = _values(header, name)
    number = float(values[0]) if values else None
    return number if number is not None and abs(number) < MAX_NUMBER else None


def _text(header: Dataset, name: str) -> str:
    return str(header.get(name) or "").strip()
