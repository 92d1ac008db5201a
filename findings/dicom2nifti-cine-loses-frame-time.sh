#!/usr/bin/env bash
# dicom2nifti drops the frame time of a cine unless told not to reorient.
#
# Tool:     dicom2nifti 2.6.2
# Expected: reorient_nifti (on unless switched off) turns axes and leaves the time axis as it is.
# Seen:     pixdim[4] is 0.04 with reorient_nifti=False and 1.0 with the reorientation, without a word. The unit of
#           time is unknown in both.
# Matters:  1.0 reads as one second a frame, a plausible value for other images; the true frame time is gone.
# Source:   https://github.com/icometrix/dicom2nifti/issues/114 (open since 2022); dicom2nifti/image_reorientation.py
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check \
    dicom2nifti==2.6.2 pydicom==3.0.2 nibabel==5.4.2 numpy==2.3.5
export PATH="$work/venv/bin:$PATH"
cd "$work"

python - <<'PY'
from pathlib import Path

import dicom2nifti
import nibabel
import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

SLICES, FRAMES, GAP_MM, FRAME_MS = 4, 6, 10, 40


def write_cine(folder, manufacturer, slice_by_slice=False, repetition_ms=FRAME_MS):
    """A classic short-axis cine; every voxel of slice z in frame t holds 100 z + t."""
    study, series, place = generate_uid(), generate_uid(), generate_uid()
    Path(folder).mkdir()
    for z in range(SLICES):
        for t in range(FRAMES):
            image = Dataset()
            for name, value in {
                "SOPClassUID": MRImageStorage, "SOPInstanceUID": generate_uid(), "StudyInstanceUID": study,
                "SeriesInstanceUID": series, "FrameOfReferenceUID": place, "Modality": "MR", "PatientID": "phantom",
                "PatientName": "phantom", "Manufacturer": manufacturer, "ProtocolName": "cine",
                "PatientPosition": "HFS", "StudyDate": "20260101", "StudyTime": "120000",
                "AcquisitionDate": "20260101", "AcquisitionTime": "120000", "SeriesNumber": 5, "AcquisitionNumber": 1,
                "ImageType": ["ORIGINAL", "PRIMARY", "M"], "MRAcquisitionType": "2D", "ScanningSequence": "GR",
                "SequenceVariant": "SK", "ScanOptions": "", "MagneticFieldStrength": 1.5, "FlipAngle": 50,
                "EchoTime": 1.5, "RepetitionTime": repetition_ms, "TriggerTime": t * FRAME_MS,
                "InstanceNumber": 1 + (z * FRAMES + t if slice_by_slice else t * SLICES + z),
                "ImagePositionPatient": [0, 0, z * GAP_MM], "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
                "PixelSpacing": [2, 2], "SliceThickness": 8, "SpacingBetweenSlices": GAP_MM, "Rows": 16,
                "Columns": 16, "SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME2", "BitsAllocated": 16,
                "BitsStored": 12, "HighBit": 11, "PixelRepresentation": 0,
                "PixelData": np.full((16, 16), 100 * z + t, np.uint16).tobytes(),
            }.items():
                setattr(image, name, value)
            image.file_meta = FileMetaDataset()
            image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
            image.save_as(f"{folder}/{z}-{t}.dcm", enforce_file_format=True)


write_cine("cine", "SIEMENS")
for reorient, frame_time in ((False, 0.04), (True, 1.0)):
    dicom2nifti.dicom_series_to_nifti("cine", "cine.nii", reorient_nifti=reorient)
    image = nibabel.load("cine.nii")
    header = image.header
    print("reorient_nifti", reorient, image.shape, "pixdim[4]", header["pixdim"][4], header.get_xyzt_units())
    assert np.asarray(image.dataobj)[0, 0].tolist() == [[100 * z + t for t in range(FRAMES)] for z in range(SLICES)]
    assert np.isclose(header["pixdim"][4], frame_time)
    assert header.get_xyzt_units() == ("mm", "unknown")
print("As described.")
PY
