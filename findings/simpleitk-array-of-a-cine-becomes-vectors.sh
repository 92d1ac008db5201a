#!/usr/bin/env bash
# SimpleITK takes a 4D array as a 3D image of vectors: the columns of a cine become components.
#
# Tool:     SimpleITK 2.5.7
# Expected: An array (T Z Y X), as GetArrayFromImage gives it for a 4D image, becomes that 4D image again.
# Seen:     GetImageFromArray gives a 3D image (Y Z T) whose pixels are vectors of X values; a 3D array stays a scalar
#           image. GetArrayFromImage gives the same array back, so a check in numpy sees nothing. In NIfTI the file is
#           5D (Y Z T 1 X) with the intent "vector". isVector=False gives the 4D image.
# Matters:  Spacing and direction are put on the wrong axes, filters run over time, and other readers see 5 axes.
# Source:   SimpleITK/extra.py, docstring of GetImageFromArray; https://github.com/SimpleITK/SimpleITK/issues/563
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

cine = np.arange(7 * 6 * 5 * 4, dtype=np.float32).reshape(7, 6, 5, 4)  # T Z Y X
for options, size, components, shape in (
    ({}, (5, 6, 7), 4, (5, 6, 7, 1, 4)),
    ({"isVector": False}, (4, 5, 6, 7), 1, (4, 5, 6, 7)),
):
    image = sitk.GetImageFromArray(cine, **options)
    sitk.WriteImage(image, "cine.nii")
    file = nibabel.load("cine.nii")
    print(options, "size", image.GetSize(), "components", image.GetNumberOfComponentsPerPixel(), "in NIfTI", file.shape)
    assert (image.GetSize(), image.GetNumberOfComponentsPerPixel(), file.shape) == (size, components, shape)
    assert np.array_equal(sitk.GetArrayFromImage(image), cine)  # numpy does not show the difference
assert sitk.GetImageFromArray(cine[0]).GetNumberOfComponentsPerPixel() == 1
print("As described.")
PY
