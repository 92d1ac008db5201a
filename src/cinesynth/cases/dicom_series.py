"""A study as a classic MR series of DICOM, placed in space and time."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, MRImageStorage
from pydicom.valuerep import format_number_as_ds

import cinesynth
from cinesynth.cases.schema import NOTICE
from cinesynth.errors import DataError
from cinesynth.types import Study

CONVERTED_NOTICE = "converted from a research dataset; research use only, not for clinical use"
REJECTED = "failed the acceptance rules"
MAKER = "cinesynth"
RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0])
MAX_TEXT = 64
"""Characters of a DICOM long string (VR LO)."""
UNKNOWN = (
    *("PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName"),
    *("PatientPosition", "PositionReferenceIndicator"),
)
"""Attributes that must be present and are left empty."""
_NAMESPACE = uuid.UUID("6f1d2c1e-52b8-4d0b-9a3c-5e7f0a0c9d11")


@dataclass(frozen=True)
class DicomSeries:
    """A study as a DICOM series. UIDs depend on the study and the version of this package alone."""

    study: Study
    synthetic: bool
    accepted: bool | None = None

    @property
    def notice(self) -> str:
        """The sentence in every file about the origin of its image."""
        notice = NOTICE if self.synthetic else CONVERTED_NOTICE
        return f"{notice}; {REJECTED}" if self.accepted is False else notice

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the study and the version of this package."""
        digest = hashlib.sha256(f"{cinesynth.__version__} {self.study.dataset} {self.study.subject}".encode())
        for array in (self.study.image, self.study.label, self.study.coverage, self.study.affine):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def uid(self, *address: str | int) -> UID:
        """The UID of the object that ``address`` names in this study."""
        name = "/".join(map(str, (self.fingerprint, *address)))
        return UID(f"2.25.{uuid.uuid5(_NAMESPACE, name).int}")

    @cached_property
    def stored(self) -> StoredPixels:
        """The image in 16 bits: integers unchanged, other numbers in 65536 steps over their range."""
        image = self.study.image
        low, high = float(image.min()), float(image.max())
        kinds = (np.int16, np.uint16) if image.dtype == np.int16 else (np.uint16, np.int16)
        kind = next((k for k in kinds if np.iinfo(k).min <= low and high <= np.iinfo(k).max), None)
        scale = None
        if kind is not None and (np.issubdtype(image.dtype, np.integer) or np.array_equal(image, np.rint(image))):
            values: NDArray[Any] = image.astype(kind)
        else:
            scale = (float(decimals((high - low) / np.iinfo(np.uint16).max or 1.0)[0]), low)
            values = np.clip(np.rint((image.astype(np.float64) - low) / scale[0]), 0, 65535).astype(np.uint16)
        dark, bright = np.percentile(values[:, ::4, ::4], (1, 99))  # every 4th row and column is enough
        return StoredPixels(values, scale, (float(dark + bright) / 2, max(float(bright - dark), 1.0)))

    def images(self, frame: int) -> Iterator[Dataset]:
        """The images of a stored frame, base first; `DataError` if rows and columns are not perpendicular."""
        for z in range(self.study.image.shape[3]):
            image = Dataset()
            self._describe(image)
            self._place(image, z)
            self._time(image, frame, z)
            self._pixels(image, frame, z)
            yield image

    def _describe(self, image: Dataset) -> None:
        subject = self.study.subject
        if self.synthetic:
            image.PatientName = f"SYNTHETIC^{subject}"[:MAX_TEXT]
            image.PatientID = f"synthetic-{self.fingerprint[:8]}-{subject}"[:MAX_TEXT]
        else:
            image.PatientName, image.PatientID = f"{subject[: MAX_TEXT - 1]}^", subject[:MAX_TEXT]
        for name in UNKNOWN:
            setattr(image, name, "")
        image.SpecificCharacterSet = "ISO_IR 192"
        image.SOPClassUID = MRImageStorage
        image.Modality, image.BodyPartExamined, image.BurnedInAnnotation = "MR", "HEART", "NO"
        image.ImageType = ["DERIVED", "SECONDARY", "OTHER"]
        image.StudyInstanceUID, image.SeriesInstanceUID = self.uid("study"), self.uid("series")
        image.StudyID, image.SeriesNumber, image.AcquisitionNumber = "1", 1, 1
        image.StudyDescription = "cine MR, short axis"
        image.SeriesDescription = "SYNTHETIC cine SAX" if self.synthetic else "cine SAX"
        image.Manufacturer = MAKER if self.synthetic else self.study.vendor[:MAX_TEXT]
        image.SoftwareVersions = f"{MAKER} {cinesynth.__version__}"
        image.DerivationDescription = f"{self.notice}; dataset {self.study.dataset}"

    def _place(self, image: Dataset, z: int) -> None:
        columns, rows, _ = directions(self.study)
        x_mm, y_mm, z_mm = self.study.spacing_mm
        affine = self.study.affine
        position = RAS_TO_LPS @ (affine[:3, 3] + z * affine[:3, 2])
        image.FrameOfReferenceUID = self.uid("frame of reference")
        image.ImageOrientationPatient = decimals(*columns, *rows)
        image.ImagePositionPatient = decimals(*position)
        image.PixelSpacing = decimals(y_mm, x_mm)
        image.SliceThickness = image.SpacingBetweenSlices = decimals(z_mm)[0]
        image.SliceLocation = decimals(float(np.cross(columns, rows) @ position))[0]

    def _time(self, image: Dataset, frame: int, z: int) -> None:
        study, index = self.study, int(self.study.frame_index[frame])
        phases = {study.ed_index: "ED", study.es_index: "ES"}
        image.SOPInstanceUID = self.uid("image", index, z)
        # Phase by phase: of Siemens files in another order dcm2niix makes volumes of one slice at several times.
        image.InstanceNumber = index * study.image.shape[3] + z + 1
        image.ImageComments = "; ".join(filter(None, (self.notice, phases.get(index))))
        image.ScanningSequence, image.SequenceVariant, image.ScanOptions = "GR", "SS", "CG"
        image.MRAcquisitionType = "2D"
        image.RepetitionTime = image.EchoTime = image.EchoTrainLength = None
        image.CardiacNumberOfImages = image.NumberOfTemporalPositions = study.frames_in_cycle
        image.TemporalPositionIdentifier = index + 1
        image.TriggerTime = None
        if study.frame_time_ms is not None:
            image.TriggerTime = decimals(index * study.frame_time_ms)[0]
            if len(study.frame_index) == study.frames_in_cycle:
                # As scanners state it for a segmented cine; converters take it for the time between volumes.
                image.RepetitionTime = decimals(study.frame_time_ms)[0]
            image.NominalInterval = round(study.frames_in_cycle * study.frame_time_ms)

    def _pixels(self, image: Dataset, frame: int, z: int) -> None:
        stored = self.stored
        plane = stored.values[frame, :, :, z].T  # rows columns
        image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
        image.Rows, image.Columns = plane.shape
        image.BitsAllocated, image.BitsStored, image.HighBit = 16, 16, 15
        image.PixelRepresentation = int(stored.values.dtype == np.int16)
        image.WindowCenter, image.WindowWidth = decimals(*stored.window)
        if stored.scale is not None:
            image.RescaleSlope, image.RescaleIntercept = decimals(*stored.scale)
            image.RescaleType = "US"
        image.PixelData = np.ascontiguousarray(plane, dtype=plane.dtype.newbyteorder("<")).tobytes()
        image.file_meta = FileMetaDataset()
        image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian


class StoredPixels(NamedTuple):
    """An image in 16 bits, and how its values are displayed and become the study's again."""

    values: NDArray[Any]  # T X Y Z, int16 or uint16
    scale: tuple[float, float] | None  # slope and intercept back to the study's values; None if unchanged
    window: tuple[float, float]  # centre and width for display, in stored values


def directions(study: Study) -> NDArray[np.float64]:
    """Unit vectors of the array axes X (along a row), Y and Z in patient coordinates (LPS), as rows ``3 3``.

    `DataError` if X and Y are not perpendicular.
    """
    axes = (RAS_TO_LPS @ study.affine[:3, :3] / study.spacing_mm).T
    if abs(axes[0] @ axes[1]) > 1e-3:  # DICOM pixels are rectangles
        raise DataError(
            f"{study.dataset} {study.subject}: rows and columns are not perpendicular, which DICOM cannot express",
            hint="export it as NIfTI",
        )
    axes[1] -= (axes[0] @ axes[1]) * axes[0]
    return np.asarray(axes / np.linalg.norm(axes, axis=1, keepdims=True), dtype=np.float64)


def decimals(*values: float) -> list[str]:
    """Numbers as DICOM decimal strings (VR DS), with all digits that fit."""
    return [format_number_as_ds(float(value) + 0.0) for value in values]
