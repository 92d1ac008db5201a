#!/usr/bin/env bash
# TorchIO saves a cine with five axes, a frame time of 0 and a unit that was not the file's.
#
# Tool:     TorchIO 1.2.1 (with torch 2.13.0)
# Expected: Reading a 4D NIfTI file (X Y Z T, 40 ms) and saving it gives that file again.
# Seen:     The file has the shape X Y Z 1 T and the intent "vector"; pixdim[4] is 0 and its unit is seconds. TorchIO
#           reads it back as before, so that a round trip in TorchIO shows nothing.
# Matters:  nnU-Net, nibabel and viewers see five axes, or one frame of vectors; the heart rate is gone. An augmented
#           copy of a cine data set is not a cine any more.
# Source:   https://github.com/TorchIO-project/torchio/pull/685 ("images saved by TorchIO always put the channels in
#           the 5th NIfTI dimension, not the 4th")
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check \
    torchio==1.2.1 torch==2.13.0 nibabel==5.4.2 numpy==2.3.5
export PATH="$work/venv/bin:$PATH"
cd "$work"

python -W ignore - <<'PY'
import nibabel
import numpy as np
import torchio

cine = np.arange(4 * 5 * 6 * 7, dtype=np.float32).reshape(4, 5, 6, 7)  # X Y Z T
file = nibabel.Nifti1Image(cine, np.diag([2, 2, 8, 1]))
file.header.set_xyzt_units("mm", "msec")
file.header["pixdim"][4] = 40
file.to_filename("before.nii")

torchio.ScalarImage("before.nii").save("after.nii")
after = nibabel.load("after.nii")
intent, units = after.header.get_intent()[0], after.header.get_xyzt_units()
print("before", file.shape, "pixdim[4]", file.header["pixdim"][4], file.header.get_xyzt_units())
print("after ", after.shape, "pixdim[4]", after.header["pixdim"][4], units, "intent", intent)
assert after.shape == (4, 5, 6, 1, 7) and intent == "vector"
assert after.header["pixdim"][4] == 0 and units == ("mm", "sec")
assert np.array_equal(torchio.ScalarImage("after.nii").numpy(), np.moveaxis(cine, -1, 0))
print("As described.")
PY
