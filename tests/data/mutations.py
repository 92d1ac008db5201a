"""Damage to files, drawn by chance: what disks, transfers, other programs and hostile hands do to a dataset."""

import gzip
import io
import os
import re
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
from pydicom.config import disable_value_validation

from tests.data.dicom_files import encode

Rng = np.random.Generator
Harm = Callable[[Rng, bytes], bytes]
NUMBERS = [0, -1, 1, 2, 3, 5, 7, 16, 255, 256, 32767, -32768, 1e-40, 0.5, 1e9, 1e38, float("nan"), float("inf")]
WORDS = ["", " ", "-1", "0", "7", "nan", "1e400", "1e18", "²", "٣", "9" * 25, "9" * 5000, "\0", "é", "'", '"', "\ufeff"]
YAML_WORDS = ["[" * 500, "&a [*a]", "!!python/object:os.system x", "0x_", "2001-13-45", "{a: b", "? [1]", "'\\0'"]
TAGS = (
    *("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SeriesNumber", "SOPInstanceUID", "InstanceNumber"),
    *("AcquisitionNumber", "Modality", "Manufacturer", "ImageType", "TriggerTime", "NominalInterval", "Rows"),
    *("Columns", "NumberOfFrames", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope"),
    *("BitsAllocated", "BitsStored", "PixelRepresentation", "SamplesPerPixel", "TemporalPositionIdentifier"),
)


def damage(rng: Rng, root: Path) -> str:
    """Harm one file below ``root``, or where files lie; returns what was done."""
    files = sorted(path for path in root.rglob("*") if path.is_file())
    if not files:
        return "nothing left"
    path = files[rng.integers(len(files))]
    if rng.random() < 0.2:
        harm: Callable[..., Any] = _pick(rng, PLACES)
        harm(rng, path, files)
    else:
        harm = _pick(rng, [*CONTENT.get(path.suffix, TEXT), *ANY])
        path.write_bytes(harm(rng, path.read_bytes()))
    return f"{harm.__name__} {path.relative_to(root)}"


def _pick(rng: Rng, choices: Any) -> Any:
    return choices[rng.integers(len(choices))]


def _overwritten(rng: Rng, content: bytes, start: int, stop: int) -> bytes:
    """Some bytes, or a little-endian whole number, between two places."""
    result = bytearray(content)
    for _ in range(rng.integers(1, 5)):
        place = int(rng.integers(start, max(stop, start + 1)))
        new = bytes(rng.integers(0, 256, int(rng.integers(1, 5)), dtype=np.uint8))
        if rng.random() < 0.3:
            new = struct.pack("<I", int(_pick(rng, [0, 1, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFE, 0xFFFFFFFF])))
        result[place : place + len(new)] = new
    return bytes(result[: max(len(content), 1)])


# --- any file ------------------------------------------------------------------------------------------------------


def flip(rng: Rng, content: bytes) -> bytes:
    return _overwritten(rng, content, 0, len(content))


def truncate(rng: Rng, content: bytes) -> bytes:
    return content[: int(rng.integers(0, max(len(content), 1)))]


def lose_the_end(rng: Rng, content: bytes) -> bytes:
    return content[: -int(rng.integers(1, 12))]


def insert(rng: Rng, content: bytes) -> bytes:
    place = int(rng.integers(0, len(content) + 1))
    return content[:place] + bytes(rng.integers(0, 256, int(rng.integers(1, 40)), dtype=np.uint8)) + content[place:]


def empty(rng: Rng, content: bytes) -> bytes:
    return b""


ANY = (flip, truncate, lose_the_end, insert, empty)

# --- NIfTI ---------------------------------------------------------------------------------------------------------


def _inside(harm: Harm) -> Harm:
    """Damage to what gzip packs, so that it reaches the parser."""

    def harmed(rng: Rng, content: bytes) -> bytes:
        try:
            raw = gzip.decompress(content)
        except Exception:  # damaged before
            return content
        return gzip.compress(harm(rng, raw), 1)

    harmed.__name__ = harm.__name__
    return harmed


def nifti_field(rng: Rng, raw: bytes) -> bytes:
    header = nib.Nifti1Header(raw[:348].ljust(348, b"\0"), check=False)
    for _ in range(rng.integers(1, 4)):
        field = _pick(rng, list(header.keys()))
        value, number = header[field].copy(), _pick(rng, NUMBERS)
        if value.dtype.kind in "iuf":
            with np.errstate(all="ignore"):
                whole = value.dtype.kind in "iu"
                number = int(number) % 100 if whole and np.isfinite(number) and number > 1e4 else number
                if value.ndim:
                    value[rng.integers(value.size)] = 0 if whole and not np.isfinite(number) else number
                else:
                    value = np.array(0 if whole and not np.isfinite(number) else number).astype(value.dtype)
            header[field] = value
    return bytes(header.binaryblock) + raw[348:]


def nifti_header(rng: Rng, raw: bytes) -> bytes:
    return _overwritten(rng, raw, 0, min(352, len(raw)))


def nifti_voxels(rng: Rng, raw: bytes) -> bytes:
    return _overwritten(rng, raw, min(352, len(raw) - 1), len(raw))


# --- DICOM ---------------------------------------------------------------------------------------------------------


def dicom_element(rng: Rng, content: bytes) -> bytes:
    """Another value of an element that readers rely on."""
    try:
        header = pydicom.dcmread(io.BytesIO(content))
        with disable_value_validation():
            for _ in range(rng.integers(1, 3)):
                _change_element(rng, header, _pick(rng, TAGS))
            return encode(header)
    except Exception:  # damaged before, or a value that cannot be written
        return flip(rng, content)


def _change_element(rng: Rng, header: pydicom.Dataset, name: str) -> None:
    values = header.get(name)
    if rng.random() < 0.2 or values is None:
        header.pop(name, None)
        return
    number = _pick(rng, [0, 1, -1, 7, 65535, 2**31 - 1, 0.5, 1e30, 1e300, -1e300, "nan", "", "x" * 300, "a\0b", "é"])
    text = number if isinstance(number, str) else f"{number:.9g}"
    whole = isinstance(values, int) and not isinstance(number, str)
    new = int(min(max(number, 0), 65535)) if whole else text
    if isinstance(values, pydicom.multival.MultiValue):
        new = [new if place == rng.integers(len(values)) else value for place, value in enumerate(values)]
    header[name]._value = new


def dicom_header(rng: Rng, content: bytes) -> bytes:
    return _overwritten(rng, content, 128, len(content) - 1144 if len(content) > 1400 else len(content))


# --- zip -----------------------------------------------------------------------------------------------------------


def zip_directory(rng: Rng, content: bytes) -> bytes:
    start = content.rfind(b"PK\x01\x02", 0, max(len(content) - 600, 0))
    return _overwritten(rng, content, max(start, 0), len(content))


def zip_member(rng: Rng, content: bytes) -> bytes:
    """One member with damaged content, packed in one of the ways of zip."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
    except Exception:  # damaged before
        return content
    if not members:
        return content
    name = _pick(rng, sorted(members))
    members[name] = _pick(rng, [dicom_element, dicom_header, truncate])(rng, members[name])
    if rng.random() < 0.2:
        members[_pick(rng, ["../up.dcm", "/tmp/root.dcm", "a\\..\\..\\b", "é" * 100])] = members.pop(name)
    packed, method = io.BytesIO(), int(_pick(rng, [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA]))
    with zipfile.ZipFile(packed, "w", method) as archive:
        for member, data in members.items():
            archive.writestr(member, data)
    return packed.getvalue()


# --- tables, Info.cfg, contours, layouts ---------------------------------------------------------------------------


def word(rng: Rng, content: bytes) -> bytes:
    """Another word in place of one."""
    found = list(re.finditer(rb"[^\s,;:{}\[\]\"]+", content))
    if not found:
        return content
    place, new = _pick(rng, found), str(_pick(rng, [*WORDS, *YAML_WORDS]))
    return content[: place.start()] + new.encode(_pick(rng, ["utf-8", "latin-1"]), "replace") + content[place.end() :]


def lines(rng: Rng, content: bytes) -> bytes:
    """A line lost, doubled, exchanged with the next or joined with it."""
    rows = content.split(b"\n")
    place = int(rng.integers(len(rows)))
    own, after = rows[place], rows[place + 1 : place + 2]
    new = _pick(rng, [[*after], [own, own, *after], [*after, own], [own + b"".join(after)]])
    return b"\n".join([*rows[:place], *new, *rows[place + 2 :]])


def separators(rng: Rng, content: bytes) -> bytes:
    return content.replace(_pick(rng, [b",", b";", b":", b"\n", b" "]), _pick(rng, [b"", b"\t", b"\r", b",", b'"']))


def utf16(rng: Rng, content: bytes) -> bytes:
    return content.decode("latin-1").encode("utf-16")


TEXT = (word, word, lines, separators, utf16)
CONTENT: dict[str, tuple[Harm, ...]] = {
    ".gz": tuple(map(_inside, (nifti_field, nifti_field, nifti_header, nifti_voxels, truncate, insert))),
    ".dcm": (dicom_element, dicom_element, dicom_header, dicom_header),
    ".zip": (zip_directory, zip_member, zip_member),
}

# --- where files lie -----------------------------------------------------------------------------------------------


def swap(rng: Rng, path: Path, files: list[Path]) -> None:
    other = _pick(rng, files)
    first, second = path.read_bytes(), other.read_bytes()
    path.write_bytes(second)
    other.write_bytes(first)


def remove(rng: Rng, path: Path, files: list[Path]) -> None:
    path.unlink()


def rename(rng: Rng, path: Path, files: list[Path]) -> None:
    new = _pick(rng, ["x", "Ünï cödé.dcm", "a[b]*.nii.gz", ".hidden", "patient003_4d.nii.gz", "9" * 60 + ".txt"])
    path.rename(path.with_name(new))


def rename_outside_utf8(rng: Rng, path: Path, files: list[Path]) -> None:
    os.rename(path, os.fsencode(path.parent) + b"/caf\xe9 " + os.fsencode(path.name))


def rename_folder(rng: Rng, path: Path, files: list[Path]) -> None:
    if path.parent.name != "in":
        os.rename(path.parent, os.fsencode(path.parent) + bytes(_pick(rng, [b"[1]", b" x", b"**", b"\xe9", b"7"])))


def folder_for_a_file(rng: Rng, path: Path, files: list[Path]) -> None:
    path.unlink()
    path.mkdir()


def file_for_a_folder(rng: Rng, path: Path, files: list[Path]) -> None:
    if path.parent.name != "in":
        shutil.rmtree(path.parent)
        path.parent.write_bytes(b"a file")


def pipe(rng: Rng, path: Path, files: list[Path]) -> None:
    path.unlink()
    os.mkfifo(path)


def link(rng: Rng, path: Path, files: list[Path]) -> None:
    """To nowhere, to itself, to the folder above or to what has no end."""
    path.unlink()
    path.symlink_to(_pick(rng, ["nowhere", path.name, "..", "/dev/zero"]))


PLACES = (
    *(swap, remove, rename, rename_outside_utf8, rename_folder, folder_for_a_file, file_for_a_folder, pipe, link),
)
