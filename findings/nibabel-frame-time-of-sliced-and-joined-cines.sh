#!/usr/bin/env bash
# nibabel keeps the frame time when every second frame is taken, and makes it 1 ms when frames are joined.
#
# Tool:     nibabel 5.4.2
# Expected: img.slicer[..., ::2] doubles pixdim[4] as img.slicer[::2] doubles the spacing; concat_images of frames that
#           keep the unit gives back the frame time, or none.
# Seen:     Every second row: 2 mm becomes 4 mm. Every second frame: 40 ms stays 40 ms.
#           concat_images(four_to_three(img)) says 1.0 with the unit "msec", a frame each millisecond.
#           as_closest_canonical keeps 40 ms.
# Matters:  The heart beats twice as fast, or 40 times, and nothing in the header looks odd.
# Source:   nibabel/funcs.py (concat_images makes the image of the first one's header); the same in nilearn:
#           https://github.com/nilearn/nilearn/issues/2939
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


def zooms(image):
    return [float(zoom) for zoom in image.header.get_zooms()]


affine = np.array([[0, 2, 0, 10], [2, 0, 0, 20], [0, 0, 8, 30], [0, 0, 0, 1.0]])
cine = nibabel.Nifti1Image(np.zeros((4, 5, 6, 8), np.float32), affine)
cine.header.set_xyzt_units("mm", "msec")
cine.header["pixdim"][4] = 40
for name, image, expected in (
    ("as it is", cine, [2, 2, 8, 40]),
    ("every second row", cine.slicer[::2], [4, 2, 8, 40]),
    ("every second frame", cine.slicer[..., ::2], [2, 2, 8, 40]),
    ("frames apart and joined", nibabel.concat_images(nibabel.four_to_three(cine)), [2, 2, 8, 1]),
    ("as_closest_canonical", nibabel.as_closest_canonical(cine), [2, 2, 8, 40]),
):
    print(f"{name}: {image.shape} {zooms(image)} {image.header.get_xyzt_units()}")
    assert zooms(image) == expected and image.header.get_xyzt_units() == ("mm", "msec")
print("As described.")
PY
