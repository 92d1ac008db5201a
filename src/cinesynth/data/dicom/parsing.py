"""Parsing the bytes of untrusted DICOM files, with preamble or without."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

import pydicom
from pydicom.config import disable_value_validation
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from cinesynth.data.dicom.files import MAX_MEMBER_BYTES, require
from cinesynth.data.nifti import MAX_GZIP_RATIO
from cinesynth.errors import DataError

IMAGES = "1.2.840.10008.5.1.4.1.1."
"""The beginning of SOPClassUID in a file that stores an image."""


@contextmanager
def parsing() -> Iterator[None]:
    """Turn any exception that pydicom raises on damaged bytes into a `DataError`, and silence its warnings."""
    try:
        with warnings.catch_warnings(), disable_value_validation():
            warnings.simplefilter("ignore")
            yield
    except DataError:
        raise
    except InvalidDicomError:
        raise DataError("not a DICOM file", hint="remove it") from None
    except Exception as error:  # pydicom raises a dozen different types on damaged bytes
        reason = " ".join(str(error).split()) or type(error).__name__
        packed = isinstance(error, RuntimeError | NotImplementedError)  # no decoder for its compression
        hint = "decompress it, for example with gdcmconv --raw" if packed else "the file is damaged: copy it again"
        raise DataError(f"cannot be read: {reason[:200]}", hint=hint) from error


def parse(file: IO[bytes], **options: Any) -> Dataset:
    """The dataset in an opened file; `DataError` if it would unpack to more memory than any cine takes."""
    # Only the deflated transfer syntax compresses the whole file; the name stands in the file's first bytes.
    start = file.read(4096)
    deflated = b"1.2.840.10008.1.2.1.99" in start
    if deflated and file.seek(0, os.SEEK_END) * MAX_GZIP_RATIO > MAX_MEMBER_BYTES:
        raise DataError("deflated, and too large to be unpacked safely", hint="decompress it with gdcmconv --raw")
    bare = _is_bare(start)
    file.seek(0)
    dataset = pydicom.dcmread(file, force=bare, **options)
    if bare:
        require((str(dataset.get("SOPClassUID", "")).startswith(IMAGES), "not a DICOM file"))
        _complete(dataset)
    return dataset


def _is_bare(start: bytes) -> bool:
    """Whether a file may be DICOM without the preamble: it begins with an element of group 2 or 8."""
    return start[128:132] != b"DICM" and start[:2] in (b"\x02\x00", b"\x08\x00")


def _complete(dataset: Dataset) -> None:
    """Say in the header how a file without a preamble is encoded, as its elements show."""
    if "TransferSyntaxUID" not in dataset.file_meta:
        implicit = dataset.original_encoding[0]
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
