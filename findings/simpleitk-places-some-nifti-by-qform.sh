#!/usr/bin/env bash
# SimpleITK and nibabel place a NIfTI file elsewhere if its qform and sform differ and sform_code is not 1.
#
# Tool:     SimpleITK 2.5.7 (ITK), with which TorchIO reads; nibabel 5.4.2
# Expected: A file has one place in the patient; readers prefer the sform wherever its code is not 0.
# Seen:     nibabel uses the sform. SimpleITK uses it only where sform_code is 1 (scanner): with 2 (aligned, what
#           nibabel writes itself), 3 or 4 and a qform that differs, the qform wins, here 141 mm away. It then writes
#           the qform into both.
# Matters:  An image that was registered through its sform, as SPM does, and its labels coincide in one tool and miss
#           each other in another.
# Source:   https://github.com/InsightSoftwareConsortium/ITK/pull/1868;
#           https://github.com/TorchIO-project/torchio/issues/567; itkNiftiImageIO.cxx, prefer_sform_over_qform;
#           https://nipy.org/nibabel/nifti_images.html ("Choosing the image affine")
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

moved, scanned = np.diag([2.0, 2, 8, 1]), np.diag([2.0, 2, 8, 1])
moved[:3, 3], scanned[:3, 3] = (10, 20, 30), (-50, -60, -70)
for code in (1, 2, 3, 4):
    file = nibabel.Nifti1Image(np.zeros((4, 5, 6), np.float32), None)
    file.header.set_sform(moved, code)
    file.header.set_qform(scanned, 1)
    file.to_filename("image.nii")
    by_nibabel = nibabel.load("image.nii").affine[:3, 3]
    image = sitk.ReadImage("image.nii")
    by_itk = np.array(image.GetOrigin()) * (-1, -1, 1)  # ITK counts to the left and back
    print(f"sform_code {code}: nibabel {by_nibabel}, SimpleITK {by_itk}, {np.linalg.norm(by_itk - by_nibabel):.0f} mm")
    assert np.allclose(by_nibabel, moved[:3, 3])
    assert np.allclose(by_itk, (moved if code == 1 else scanned)[:3, 3])
sitk.WriteImage(image, "after.nii")
after = nibabel.load("after.nii").header
print("written again: sform", after.get_sform()[:3, 3], "qform", after.get_qform()[:3, 3])
assert np.allclose(after.get_sform(), scanned) and np.allclose(after.get_qform(), scanned)
print("As described.")
PY
