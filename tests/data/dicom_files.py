"""Examinations of a tiny heart as real DICOM files: short-axis stacks and whatever else lies in an archive."""

import copy
import functools
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import EnhancedMRImageStorage, ExplicitVRLittleEndian, MRImageStorage, generate_uid

Change = Callable[[Dataset, int, int], None]
SLICES, FRAMES, ROWS, COLUMNS = 4, 8, 22, 26
SPACING_MM, STEP_MM, FRAME_TIME_MS = (2.0, 1.5), 8.0, 40.0
"""Between rows, between columns; between slices."""


def unit(*vector: float) -> np.ndarray:
    return np.array(vector) / np.linalg.norm(vector)


BASE_TO_APEX = unit(0.64, -0.66, -0.40)  # LPS, as in Sunnybrook
ROW = unit(*np.cross([0.0, 0.0, 1.0], BASE_TO_APEX))  # towards the left and back
COLUMN = np.cross(ROW, BASE_TO_APEX)  # towards the feet; the normal of both points to the base, as usual
ORIGIN = np.array([-30.0, -120.0, 80.0])


def tiny_heart(slices: int = SLICES, frames: int = FRAMES) -> np.ndarray:
    """``Z T rows columns``, base first: a beating disc, and in its corner a number for each slice and phase."""
    y, x = np.mgrid[:ROWS, :COLUMNS].astype(float)
    image = np.full((slices, frames, ROWS, COLUMNS), 40, dtype=np.uint16)
    for z in range(slices):
        for t in range(frames):
            radius = (9.0 - z) * (1.0 - 0.3 * np.sin(np.pi * t / frames))
            image[z, t][np.hypot((x - 12) * SPACING_MM[1], (y - 11) * SPACING_MM[0]) < radius] = 400
            image[z, t, 0, 0] = mark(z, t)
    return image


def mark(z: int, t: int) -> int:
    return 1000 + 100 * z + t


def corner(z: float) -> np.ndarray:
    """Position of the first pixel of a slice, LPS mm."""
    return np.asarray(ORIGIN + z * STEP_MM * BASE_TO_APEX)


def base_header(uid: str, enhanced: bool = False) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = EnhancedMRImageStorage if enhanced else MRImageStorage
    meta.MediaStorageSOPInstanceUID = uid
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    header.SOPClassUID, header.SOPInstanceUID = meta.MediaStorageSOPClassUID, uid
    header.Modality, header.Manufacturer, header.PatientID = "MR", "SIEMENS", "P1"
    header.StudyInstanceUID, header.StudyDate = "1.2.3", "20200102"
    header.SeriesInstanceUID, header.SeriesNumber, header.SeriesDescription = "1.2.3.1", 4, "cine"
    header.ImageType = ["ORIGINAL", "PRIMARY", "M"]
    header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
    header.BitsAllocated, header.BitsStored, header.HighBit, header.PixelRepresentation = 16, 12, 11, 0
    return header


def set_pixels(header: Dataset, pixels: np.ndarray) -> None:
    header.Rows, header.Columns = pixels.shape[-2:]
    header.PixelData = np.ascontiguousarray(pixels, dtype="<u2").tobytes()


def classic(pixels: np.ndarray, position: np.ndarray, trigger_ms: float, instance: int) -> FileDataset:
    """One image of one slice."""
    header = base_header(generate_uid())
    header.InstanceNumber, header.TriggerTime = instance, trigger_ms
    header.NominalInterval = round(FRAMES * FRAME_TIME_MS)
    header.ImagePositionPatient = [round(float(v), 6) for v in position]
    header.ImageOrientationPatient = [round(float(v), 9) for v in (*ROW, *COLUMN)]
    header.PixelSpacing, header.SliceThickness = list(SPACING_MM), 8
    set_pixels(header, pixels)
    return header


def turned(row: np.ndarray, column: np.ndarray) -> Change:
    """A change that turns an image into another plane."""

    def change(header: Dataset, z: int, t: int) -> None:
        header.ImageOrientationPatient = [round(float(v), 9) for v in (*row, *column)]
        header.ImagePositionPatient = [round(float(v), 6) for v in ORIGIN + z * STEP_MM * np.cross(row, column)]

    return change


def series(uid: str, number: int, description: str = "cine") -> Change:
    """A change that puts an image in another series."""

    def change(header: Dataset, z: int, t: int) -> None:
        header.SeriesInstanceUID, header.SeriesNumber, header.SeriesDescription = uid, number, description

    return change


def forget(*names: str) -> Change:
    """A change that removes elements."""

    def change(header: Dataset, z: int, t: int) -> None:
        for name in names:
            delattr(header, name)

    return change


def encode(header: Dataset) -> bytes:
    memory = io.BytesIO()
    header.save_as(memory, enforce_file_format=True)
    return memory.getvalue()


def save(header: Dataset, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode(header))
    return path


def write_stack(
    folder: Path,
    *changes: Change,
    slices: int = SLICES,
    frames: int = FRAMES,
    name: Callable[[int, int], str] = "IM{:02d}{:02d}.dcm".format,
) -> np.ndarray:
    """A classic stack, one file an image; returns the pixels ``Z T rows columns``, base first."""
    for (z, t), content in (_plain if not changes else _changed)(slices, frames, *changes).items():
        path = folder / name(z, t)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return tiny_heart(slices, frames)


def _changed(slices: int, frames: int, *changes: Change) -> dict[tuple[int, int], bytes]:
    """Bytes of the images by slice and phase."""
    image, step_ms = tiny_heart(slices, frames), FRAME_TIME_MS * FRAMES / frames
    files = {}
    for z, t in np.ndindex(slices, frames):
        header = classic(image[z, t], corner(z), 5.0 + t * step_ms, 1 + z * frames + t)
        for change in changes:
            change(header, z, t)
        files[z, t] = encode(header)
    return files


_plain = functools.cache(_changed)


def enhanced(seed: int = 0) -> FileDataset:
    """The stack in one enhanced multi-frame file, its images in an order of chance."""
    order = np.random.default_rng(seed).permutation(SLICES * FRAMES)
    header = base_header(generate_uid(), enhanced=True)
    header.InstanceNumber, header.NumberOfFrames = 1, len(order)
    shared, measures, plane = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = list(SPACING_MM), 8
    plane.ImageOrientationPatient = [round(float(v), 9) for v in (*ROW, *COLUMN)]
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = Sequence([measures]), Sequence([plane])
    header.SharedFunctionalGroupsSequence = Sequence([shared])
    header.PerFrameFunctionalGroupsSequence = Sequence([_functional_groups(*divmod(int(n), FRAMES)) for n in order])
    set_pixels(header, tiny_heart().reshape(-1, ROWS, COLUMNS)[order])
    return header


def with_phase_maps(frame_type: bool = True) -> FileDataset:
    """The enhanced file with a phase map after each of its images, which says so in one of two ways."""
    header = enhanced()
    groups, count = [], len(header.PerFrameFunctionalGroupsSequence)
    for item in header.PerFrameFunctionalGroupsSequence:
        for component, letter in (("MAGNITUDE", "M"), ("PHASE", "P")):
            one, kind = copy.deepcopy(item), Dataset()
            if frame_type:
                kind.FrameType = ["ORIGINAL", "PRIMARY", letter]
            else:
                kind.FrameType, kind.ComplexImageComponent = ["ORIGINAL", "PRIMARY", "CARDIAC", "NONE"], component
            one.MRImageFrameTypeSequence = Sequence([kind])
            groups.append(one)
    pixels = np.frombuffer(header.PixelData, "<u2").reshape(count, ROWS, COLUMNS)
    header.PerFrameFunctionalGroupsSequence = Sequence(groups)
    header.NumberOfFrames, header.ImageType = 2 * count, ["ORIGINAL", "PRIMARY", "P"]  # that of any image
    set_pixels(header, np.stack([pixels, 4095 - pixels], axis=1).reshape(-1, ROWS, COLUMNS))
    return header


def _functional_groups(z: int, t: int) -> Dataset:
    item, position, heart, content = Dataset(), Dataset(), Dataset(), Dataset()
    position.ImagePositionPatient = [round(float(v), 6) for v in corner(z)]
    heart.NominalCardiacTriggerDelayTime, heart.RRIntervalTimeNominal = 5.0 + t * FRAME_TIME_MS, FRAMES * FRAME_TIME_MS
    content.TemporalPositionIndex, content.InStackPositionNumber, content.StackID = t + 1, z + 1, "1"
    item.PlanePositionSequence, item.FrameContentSequence = Sequence([position]), Sequence([content])
    item.CardiacSynchronizationSequence = Sequence([heart])
    return item
