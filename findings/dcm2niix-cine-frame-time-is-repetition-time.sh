#!/usr/bin/env bash
# dcm2niix takes the frame time of a cine from RepetitionTime, not from TriggerTime.
#
# Tool:     dcm2niix 1.0.20260724
# Expected: TriggerTime says when each frame was taken (0, 40, 80 ms ...): pixdim[4] is 0.04 s.
# Seen:     pixdim[4] is RepetitionTime. In a segmented cine some makers put the time between frames there, others the
#           time between excitations: 3.2 ms gives pixdim[4] = 0.0032 s, for every maker, without a word on it.
# Matters:  The heart beats 12 times too fast: heart rate, filling rates and strain rates are wrong.
# Source:   console/nii_dicom.cpp: "h->pixdim[4] = d.TR / 1000.0"; https://github.com/rordenlab/dcm2niix/issues/369
#           (fMRI): RepetitionTime is what BIDS asks for
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check \
    dcm2niix==1.0.20260724 pydicom==3.0.2 nibabel==5.4.2 numpy==2.3.5
export PATH="$work/venv/bin:$PATH"
cd "$work"

python - <<'PY'
import subprocess
from pathlib import Path

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


def convert(folder, *options):
    """The NIfTI files that dcm2niix makes of a folder, in order of their names."""
    command = ["dcm2niix", *options, "-f", "cine", "-o", folder, folder]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    print(*(f"    {line}" for line in done.stdout.splitlines()[1:]), sep="\n")
    return sorted(Path(folder).glob("*.nii"))


for manufacturer in ("SIEMENS", "GE MEDICAL SYSTEMS", "Philips", "Canon"):
    for repetition_ms in (FRAME_MS, 3.2):
        print(manufacturer, "RepetitionTime", repetition_ms, "ms; TriggerTime 0, 40, 80 ... ms")
        folder = f"{manufacturer.split()[0]}-{repetition_ms}"
        write_cine(folder, manufacturer, repetition_ms=repetition_ms)
        (file,) = convert(folder, "-m", "y")
        header = nibabel.load(file).header
        print("  pixdim[4]", header["pixdim"][4], header.get_xyzt_units())
        assert header.get_xyzt_units() == ("mm", "sec")
        assert np.isclose(header["pixdim"][4], repetition_ms / 1000)
print("As described.")
PY
