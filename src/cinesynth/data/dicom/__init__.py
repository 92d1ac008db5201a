"""Reading cine MR from DICOM: files, headers, the short-axis stack among them, and its voxels."""

from cinesynth.data.dicom.files import Aside, Entry, as_notes, find_entries
from cinesynth.data.dicom.header import Frame
from cinesynth.data.dicom.scan import Scan, read_headers, read_scan

__all__ = ["Aside", "Entry", "Frame", "Scan", "as_notes", "find_entries", "read_headers", "read_scan"]
