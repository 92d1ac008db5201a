#!/usr/bin/env bash
# nibabel scales whole numbers in a float array that is saved as uint8: label 3 is not 3 any more.
#
# Tool:     nibabel 5.4.2
# Expected: 0.0, 1.0, 2.0, 3.0 fit into uint8: the file holds 0, 1, 2, 3.
# Seen:     The file holds 0, 85, 170, 255 and a slope of 3/255; read again, labels are 1.00000002, 2.00000004 and
#           3.00000006, and "== 3" finds no voxel. The same happens, without set_data_dtype, to labels from get_fdata()
#           that are saved with the header of a uint8 file. Casting the array itself keeps the numbers.
# Matters:  get_fdata() always gives floats, so every script that edits labels is a candidate: volumes are 0 mL, or
#           labels are off by one where a reader truncates to integers.
# Source:   https://github.com/nipy/nibabel/issues/1001 and /issues/1344 (open);
#           https://github.com/nipy/nibabel/issues/888
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check \
    nibabel==5.4.2 numpy==2.3.5
export PATH="$work/venv/bin:$PATH"
cd "$work"

python - <<'PY'
import nibabel
import numpy as np

labels = np.arange(4, dtype=np.uint8).repeat(30).reshape(4, 5, 6)  # 30 voxels each of 0, 1, 2, 3
affine = np.diag([2, 2, 8, 1])


def saved(image):
    image.to_filename("labels-out.nii")
    file = nibabel.load("labels-out.nii")
    voxels = np.asarray(file.dataobj)
    stored = file.dataobj.get_unscaled()
    print("  stored", np.unique(stored), "read", np.unique(voxels).tolist(), "voxels == 3:", (voxels == 3).sum())
    return stored, voxels


print("array of floats, set_data_dtype(uint8)")
image = nibabel.Nifti1Image(labels.astype(float), affine)
image.set_data_dtype(np.uint8)
stored, voxels = saved(image)
assert np.unique(stored).tolist() == [0, 85, 170, 255] and (voxels == 3).sum() == 0

print("get_fdata() with the header of a file of labels")
nibabel.Nifti1Image(labels, affine).to_filename("labels.nii")
file = nibabel.load("labels.nii")
stored, voxels = saved(nibabel.Nifti1Image(file.get_fdata(), file.affine, file.header))
assert np.unique(stored).tolist() == [0, 85, 170, 255] and (voxels == 3).sum() == 0

print("array of uint8")
stored, voxels = saved(nibabel.Nifti1Image(file.get_fdata().astype(np.uint8), file.affine, file.header))
assert np.array_equal(stored, labels) and (voxels == 3).sum() == 30
print("As described.")
PY
