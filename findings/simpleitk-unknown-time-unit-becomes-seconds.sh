#!/usr/bin/env bash
# SimpleITK writes a frame time of unknown unit as seconds, with the same number.
#
# Tool:     SimpleITK 2.5.7 (ITK's NIfTI reader and writer)
# Expected: Reading a NIfTI file and writing it again keeps pixdim[4] and its unit; spacing is what pixdim says.
# Seen:     40 ms is read as a spacing of 0.04 and written as 0.04 s: converted. 40 of unknown unit is read as 40 and
#           written as 40 s. So is the spacing of 40 given to an image joined from frames.
# Matters:  Files that leave the unit out (many do) get a thousandfold time after any SimpleITK step, and their unit
#           now claims to be known. A threshold such as "above 1 it is ms" fails on one of the two.
# Source:   ITK, Modules/IO/NIFTI/src/itkNiftiImageIO.cxx, ReadImageInformation: the scale of time is 1 for seconds and
#           by default
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check \
    SimpleITK==2.5.7 nibabel==5.4.2 numpy==2.3.5
export PATH="$work/venv/bin:$PATH"
cd "$work"

python - <<'PY'
import nibabel
import numpy as np
import SimpleITK as sitk


def written(image):
    sitk.WriteImage(image, "after.nii")
    header = nibabel.load("after.nii").header
    print("  written as", header["pixdim"][4], header.get_xyzt_units()[1])
    assert header.get_xyzt_units() == ("mm", "sec")
    return header["pixdim"][4]


for unit, value, spacing in (("msec", 40, 0.04), ("usec", 40000, 0.04), ("sec", 0.04, 0.04), ("unknown", 40, 40)):
    file = nibabel.Nifti1Image(np.zeros((4, 5, 6, 7), np.float32), np.diag([2, 2, 8, 1]))
    file.header.set_xyzt_units("mm", unit)
    file.header["pixdim"][4] = value
    file.to_filename("before.nii")
    image = sitk.ReadImage("before.nii")
    print(value, unit, "is read as", image.GetSpacing()[3])
    assert np.isclose(image.GetSpacing()[3], spacing)
    assert np.isclose(written(image), spacing)

joined = sitk.JoinSeries([sitk.Image(4, 5, 6, sitk.sitkFloat32)] * 7, 0, 40)
print("frames joined at a spacing of", joined.GetSpacing()[3])
assert written(joined) == 40
print("As described.")
PY
