#!/usr/bin/env bash
# dcm2niix mixes slices and frames of a cine if its instance numbers run slice by slice, for some makers only.
#
# Tool:     dcm2niix 1.0.20260724
# Expected: Slices are sorted by their position and frames by their time, so that instance numbers do not matter.
# Seen:     Numbered phase by phase, a classic cine of Siemens or Canon becomes the right volumes. The same files
#           numbered slice by slice become a file of the right shape whose volumes hold one slice at several times,
#           with a singular affine (slice axis of length 0), at exit code 0. The only word is "Unable to determine
#           slice direction". The files are right in both orders if Manufacturer says GE or Philips (with -m y).
# Matters:  Shape and spacing in the header look right. Ventricles measured on such volumes are one slice, repeated.
# Source:   console/nii_dicom_batch.cpp: the step that reorders such series asks for a GE, Philips or unknown
#           manufacturer ("sequential multi-phase acquisitions that also require swizzling"). DICOM asks nothing of
#           instance numbers, as https://github.com/rordenlab/dcm2niix/issues/546 says for Philips.
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


true = [[100 * z + t for t in range(FRAMES)] for z in range(SLICES)]
for manufacturer, works in (("SIEMENS", False), ("Canon", False), ("GE MEDICAL SYSTEMS", True), ("Philips", True)):
    for slice_by_slice in (False, True):
        print(manufacturer, "slice by slice" if slice_by_slice else "phase by phase")
        folder = f"{manufacturer.split()[0]}-{slice_by_slice}"
        write_cine(folder, manufacturer, slice_by_slice)
        (file,) = convert(folder, "-m", "y")
        image = nibabel.load(file)
        seen = np.asarray(image.dataobj)[0, 0].tolist()
        axis_mm = np.linalg.norm(image.affine[:3, 2])
        print("  shape", image.shape, "pixdim", image.header.get_zooms(), "length of the slice axis", axis_mm)
        print("  slices x frames", seen)
        assert image.shape == (16, 16, SLICES, FRAMES)
        assert image.header.get_zooms()[2] == GAP_MM
        if works or not slice_by_slice:
            assert seen == true and axis_mm == GAP_MM
        else:
            assert seen != true and axis_mm == 0
            assert seen[0][0] // 100 == seen[1][0] // 100  # two "slices" of a volume are one slice at two times
print("As described.")
PY
