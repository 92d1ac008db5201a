#!/usr/bin/env bash
# dcm2niix makes one file a frame of a Philips cine, in names that do not sort by time.
#
# Tool:     dcm2niix 1.0.20260724
# Expected: A cine becomes one 4D file, whoever made the scanner; files of single frames would sort by their names.
# Seen:     The same images become one 4D file if Manufacturer says Siemens or GE, and a 3D file a frame if it says
#           Philips. The frame at 0 ms has no suffix and the others have the trigger time without leading zeros: sorted
#           by name, 120 ms comes before 40 ms. "-m y" gives one 4D file, with the trigger time of one frame in its
#           name (cine_t200).
# Matters:  A glob over the files gives a heart that beats out of order; a pipeline that worked on Siemens finds 3D
#           files or, taking *cine.nii, only the first frame.
# Source:   https://github.com/rordenlab/dcm2niix/issues/395 and /issues/428 (fMRI; closed as intended)
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
for manufacturer, options, files in (
    ("SIEMENS", (), 1), ("GE MEDICAL SYSTEMS", (), 1), ("Philips", (), FRAMES), ("Philips", ("-m", "y"), 1)
):
    print(manufacturer, *options)
    folder = "-".join([manufacturer.split()[0], *options])
    write_cine(folder, manufacturer)
    made = convert(folder, *options)
    print("  files by name:", [(file.name, nibabel.load(file).shape) for file in made])
    assert len(made) == files
    if files == 1:
        assert np.asarray(nibabel.load(made[0]).dataobj)[0, 0].tolist() == true
    else:
        frames = [int(np.asarray(nibabel.load(file).dataobj)[0, 0, 0]) for file in made]
        print("  frames in the order of the names:", frames)
        assert sorted(frames) == list(range(FRAMES)) and frames == [0, 3, 4, 5, 1, 2]
assert made[0].name.startswith("cine_t")
print("As described.")
PY
