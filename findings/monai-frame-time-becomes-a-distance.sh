#!/usr/bin/env bash
# MONAI replaces the frame time of a 4D NIfTI file by the distance of its first voxel from the scanner's centre.
#
# Tool:     MONAI 1.6.1 (LoadImage, NibabelReader, SaveImage)
# Expected: meta["pixdim"][4] is what the file says (40 ms), and SaveImage writes it.
# Seen:     LoadImage gives 164.015, the norm of (100, 120, -50, 1): the reader "corrects" all pixdim of a 4D file to
#           the norms of the affine's columns, and the fourth column is the translation. Every frame time gives this
#           number; with the first voxel at 0 0 0 it is 1. SaveImage then writes 1, of unknown unit.
# Matters:  A number that looks like milliseconds between frames is a position: heart rates from it are nonsense and
#           differ from patient to patient.
# Source:   monai/data/utils.py: correct_nifti_header_if_necessary calls affine_to_spacing(affine, r=4), and
#           rectify_header_sform_qform sets the zooms to it
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check \
    monai==1.6.1 torch==2.13.0 nibabel==5.4.2 numpy==2.3.5
export PATH="$work/venv/bin:$PATH"
cd "$work"

python -W ignore - <<'PY'
import nibabel
import numpy as np
from monai.transforms import LoadImage, SaveImage

for place in ((100, 120, -50), (0, 0, 0)):
    affine = np.diag([2.0, 2, 8, 1])
    affine[:3, 3] = place
    for frame_ms in (40, 25):
        file = nibabel.Nifti1Image(np.zeros((4, 5, 6, 7), np.float32), affine)
        file.header.set_xyzt_units("mm", "msec")
        file.header["pixdim"][4] = frame_ms
        file.to_filename("cine.nii")
        assert nibabel.load("cine.nii").header["pixdim"][4] == frame_ms
        image = LoadImage(image_only=True, ensure_channel_first=True)("cine.nii")
        seen, distance = image.meta["pixdim"][4], np.linalg.norm(affine[:, 3])
        print("first voxel at", place, "frame time", frame_ms, "ms: pixdim[4]", seen, "norm of column 4", distance)
        assert np.isclose(seen, distance)

SaveImage(output_dir=".", output_postfix="saved", output_ext=".nii", separate_folder=False, print_log=False)(image)
saved = nibabel.load("cine_saved.nii")
print("saved", saved.shape, "pixdim[4]", saved.header["pixdim"][4], saved.header.get_xyzt_units())
assert saved.shape == (4, 5, 6, 7) and saved.header["pixdim"][4] == 1
assert saved.header.get_xyzt_units() == ("unknown", "unknown")
print("As described.")
PY
