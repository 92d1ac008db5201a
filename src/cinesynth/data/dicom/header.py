"""Place and time of DICOM images from their headers, for classic and enhanced multi-frame files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.tag import Tag

from cinesynth.data.dicom.files import FileLocation, require
from cinesynth.data.dicom.parsing import parse
from cinesynth.data.nifti import PLANE_STEP_MM
from cinesynth.errors import DataError

TAGS = [
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyDate"),
    *("SeriesInstanceUID", "SeriesNumber", "SeriesDescription", "FrameOfReferenceUID", "SOPClassUID", "SOPInstanceUID"),
    *("InstanceNumber", "AcquisitionNumber", "Modality", "Manufacturer", "ImageType", "ComplexImageComponent"),
    *("AcquisitionDateTime", "AcquisitionDate", "AcquisitionTime", "TriggerTime", "NominalInterval", "FrameTime"),
    *("TemporalPositionIdentifier", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"),
    *("SliceThickness", "SpacingBetweenSlices", "Rows", "Columns", "NumberOfFrames", "SamplesPerPixel"),
    *("PhotometricInterpretation", "RescaleSlope", "RescaleIntercept"),
    *("SequenceName", "PulseSequenceName", "EchoTime"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
]
PICTURES = {
    "LOCALIZER": "a scout",
    "P": "a phase map",
    "PHASE": "a phase map",
    "PHASE MAP": "a phase map",
    "VELOCITY": "a velocity map",
    "VELOCITY MAP": "a velocity map",
    "R": "a real part",
    "REAL": "a real part",
    "I": "an imaginary part",
    "IMAGINARY": "an imaginary part",
}
"""ImageType values of images that are not part of an anatomical cine, and what these images are."""
PEOPLE = ("PatientName", "PatientBirthDate", "PatientSex")
"""What tells people apart who share a PatientID. It is compared, and never kept."""
ASCII = (
    *("FrameOfReferenceUID", "SeriesInstanceUID", "StudyInstanceUID", "StudyDate", "SOPInstanceUID"),
    *("AcquisitionDateTime", "AcquisitionDate", "AcquisitionTime", "SequenceName", "PulseSequenceName"),
)
RAW_TAGS = {name: Tag(tag_for_keyword(name) or 0) for name in (*PEOPLE, *ASCII)}
FRAME_KINDS = ("FrameType", "ComplexImageComponent")
"""What says the same of one image of an enhanced file."""
Vector = tuple[float, ...]


@dataclass(frozen=True)
class DicomFrame:
    """The header of one image: its place in patient coordinates (LPS, mm), its time after the R wave, and its file."""

    file: FileLocation
    number: int  # zero-based within its file
    patient: str
    study: str
    study_date: str
    person: tuple[str, ...]  # the values of `PEOPLE`; "" where there is none
    frame_of_reference: str
    series: str
    stack: str  # of an enhanced file
    series_number: int
    description: str
    sequence: str  # the vendor's name of the pulse sequence
    echo_ms: float | None
    vendor: str
    uid: str
    instance: int
    acquisition: int
    acquired: str  # date and time, comparable as text
    position: Vector  # 3, centre of the first pixel
    orientation: Vector  # 6, directions of increasing column and row
    spacing_mm: tuple[float, float]  # between rows, between columns
    shape: tuple[int, int]  # rows, columns
    stated_step_mm: float | None  # between slices, as the header states it
    thickness_mm: float | None
    original: bool  # not derived from other images
    trigger_ms: float | None
    phase: int | None  # number of the phase in the cycle
    interval_ms: float | None  # RR interval
    scale: tuple[float, float]  # slope and intercept

    @property
    def normal(self) -> NDArray[np.float64]:
        """Unit vector across the plane, right-handed with columns and rows."""
        return np.asarray(np.cross(self.orientation[:3], self.orientation[3:]), dtype=np.float64)

    def __str__(self) -> str:
        return f"{self.file} frame {self.number + 1}" if self.number else str(self.file)


def read_frames(location: FileLocation, file: IO[bytes]) -> tuple[list[DicomFrame], dict[str, list[str]]]:
    """The headers of the images in an opened file, and the names of others by the reason why they are no part of it.

    `DataError` if no image has a place in space.
    """
    header = parse(file, stop_before_pixels=True, specific_tags=TAGS)
    grey = header.get("SamplesPerPixel", 1) == 1 and header.get("PhotometricInterpretation") == "MONOCHROME2"
    rows, columns, count = (int(header.get(name) or 0) for name in ("Rows", "Columns", "NumberOfFrames"))
    placed = "ImagePositionPatient" in header or bool(header.get("PerFrameFunctionalGroupsSequence"))
    small = max(rows, columns) <= 2048 and 0 <= count <= 10_000  # a damaged header would cost the memory it claims
    require(
        (header.get("Modality", "MR") == "MR", f"not MR but {header.get('Modality')}"),
        (rows > 0 and columns > 0, "without an image"),
        (small, f"{count or 1} images of {rows} x {columns} pixels"),
        (grey, "a colour or inverted picture"),
        (placed, "without a position in the patient"),
    )
    if "ImagePositionPatient" in header:
        _check_picture(_values(header, "ImageType"))
        return list(_classic(location, header)), {}
    return _enhanced(location, header)


def _check_picture(kinds: list[Any]) -> None:
    for kind in kinds:
        require((str(kind).upper() not in PICTURES, PICTURES.get(str(kind).upper(), "")))


def _classic(location: FileLocation, header: Dataset) -> Iterator[DicomFrame]:
    """Images of a classic file; several images in one file share its plane and follow each other in time."""
    count, step = int(header.get("NumberOfFrames") or 1), _number(header, "FrameTime")
    start = _number(header, "TriggerTime")
    for number in range(count):
        trigger = start if count == 1 else (start or 0.0) + number * step if step else None
        phase = _number(header, "TemporalPositionIdentifier") if count == 1 else number
        yield _frame(location, header, number, (header,), trigger, phase, _number(header, "NominalInterval"))


def _enhanced(location: FileLocation, header: Dataset) -> tuple[list[DicomFrame], dict[str, list[str]]]:
    """Images of an enhanced file. Each says for itself what it is: magnitude and phase may lie in one file."""
    shared = tuple(header.get("SharedFunctionalGroupsSequence") or ())
    frames: list[DicomFrame] = []
    reasons: dict[str, list[str]] = {}
    for number, own in enumerate(header.PerFrameFunctionalGroupsSequence):
        sequences = (element.value for level in (own, *shared) for element in level if element.VR == "SQ")
        groups = tuple(item for sequence in sequences for item in sequence)
        try:
            frames.append(_enhanced_frame(location, header, number, groups))
        except DataError as error:
            reasons.setdefault(error.message, []).append(f"{location} frame {number + 1}")
    require((bool(frames), next(iter(reasons), "without an image")))
    return frames, reasons


def _enhanced_frame(location: FileLocation, header: Dataset, number: int, groups: tuple[Dataset, ...]) -> DicomFrame:
    kinds = [kind for group in groups for name in FRAME_KINDS for kind in _values(group, name)]
    _check_picture(kinds or [*_values(header, "ImageType"), *_values(header, "ComplexImageComponent")])
    trigger = _first(groups, "NominalCardiacTriggerDelayTime", "ActualCardiacTriggerDelayTime")
    interval = _first(groups, "RRIntervalTimeNominal")
    return _frame(location, header, number, groups, trigger, _first(groups, "TemporalPositionIndex"), interval)


def _frame(
    location: FileLocation, header: Dataset, number: int, groups: tuple[Dataset, ...], *times: float | None
) -> DicomFrame:
    """The header of one image. ``groups`` may hold what differs between images of a file; the first one wins.

    ``times`` are its trigger time, the number of its phase, and the RR interval.
    """
    trigger, phase, interval = times
    position, orientation, spacing = (
        tuple(float(value) for group in groups if name in group for value in _values(group, name))[:length]
        for name, length in (("ImagePositionPatient", 3), ("ImageOrientationPatient", 6), ("PixelSpacing", 2))
    )
    axes, (low, high) = np.array(orientation).reshape(-1, 3), PLANE_STEP_MM
    require(
        (len(position) == 3 and all(abs(v) < 1e5 for v in position), "without a position in the patient"),
        (len(axes) == 2 and np.allclose(axes @ axes.T, np.eye(2), atol=0.01), "without an orientation in the patient"),
        (len(spacing) == 2 and all(low <= step <= high for step in spacing), f"pixels of {spacing} mm"),
    )
    slope, intercept = _first(groups, "RescaleSlope"), _first(groups, "RescaleIntercept")
    acquired = ("AcquisitionDateTime", "AcquisitionDate", "AcquisitionTime")
    begun = next(
        (_text(group, "FrameAcquisitionDateTime") for group in groups if "FrameAcquisitionDateTime" in group), ""
    )
    acquisition = _first((*groups, header), "FrameAcquisitionNumber", "AcquisitionNumber")
    return DicomFrame(
        file=location,
        number=number,
        patient=_text(header, "PatientID"),
        study=_raw(header, "StudyInstanceUID"),
        study_date=_raw(header, "StudyDate"),
        person=tuple(_raw(header, name) for name in PEOPLE),
        frame_of_reference=_raw(header, "FrameOfReferenceUID"),
        series=_raw(header, "SeriesInstanceUID"),
        stack=next((_text(group, "StackID") for group in groups if "StackID" in group), ""),
        series_number=int(_number(header, "SeriesNumber") or 0),
        description=_text(header, "SeriesDescription"),
        sequence=_raw(header, "SequenceName") or _raw(header, "PulseSequenceName"),
        echo_ms=_first((header, *groups), "EchoTime", "EffectiveEchoTime"),
        vendor=_text(header, "Manufacturer"),
        uid=_raw(header, "SOPInstanceUID"),
        instance=int(_number(header, "InstanceNumber") or 0),
        acquisition=int(acquisition or 0),
        acquired=begun or "".join(_raw(header, name) for name in acquired),
        position=position,
        orientation=orientation,
        spacing_mm=(spacing[0], spacing[1]),
        shape=(int(header.Rows), int(header.Columns)),
        stated_step_mm=_first(groups, "SpacingBetweenSlices"),
        thickness_mm=_first(groups, "SliceThickness"),
        original="DERIVED" not in _values(header, "ImageType")[:1],
        trigger_ms=trigger,
        phase=None if phase is None else int(phase),
        interval_ms=interval or None,
        scale=(1.0 if slope is None else slope, intercept or 0.0),
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
    # No time, count or scale is larger, except in a damaged header.
    return number if number is not None and abs(number) < 1e10 else None


def _text(header: Dataset, name: str) -> str:
    return str(header.get(name) or "").strip()


def _raw(header: Dataset, name: str) -> str:
    """A text of the basic character set, without the time that pydicom takes to convert it."""
    tag = RAW_TAGS[name]
    element = header.get_item(tag) if tag in header else None
    value = element.value if element is not None else None
    return (value.decode("latin-1") if isinstance(value, bytes) else str(value or "")).strip("\0 ")
