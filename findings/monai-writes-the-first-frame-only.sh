#!/usr/bin/env bash
# MONAI saves only the first frame of an image of four axes without channels.
#
# Tool:     MONAI 1.6.1 (NibabelWriter, SaveImage)
# Expected: channel_dim=None says that no axis is a channel: X Y Z T is written as X Y Z T. The writer's documents say
#           that the output has "at least" spatial_ndim (3) axes of space.
# Seen:     The file is X Y Z and holds the first frame. The other frames are gone without an error or a warning.
# Matters:  A cine, or labels at all frames, saved this way keeps its first frame alone. channel_dim=-1 keeps all.
# Source:   monai/data/image_writer.py, ImageWriter.convert_to_channel_last: "while len(data.shape) > spatial_ndim + 1:
#           data = data[..., 0, :]"
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
from monai.data import NibabelWriter
from monai.transforms import LoadImage, SaveImage

cine = np.arange(4 * 5 * 6 * 7, dtype=np.float32).reshape(4, 5, 6, 7)  # X Y Z T
for channel_dim, expected in ((None, cine[..., 0]), (-1, cine)):
    writer = NibabelWriter(output_dtype=np.float32)
    writer.set_data_array(cine, channel_dim=channel_dim)
    writer.set_metadata({"affine": np.diag([2, 2, 8, 1])})
    writer.write("written.nii")
    written = nibabel.load("written.nii")
    print("NibabelWriter, channel_dim", channel_dim, written.shape)
    assert np.array_equal(np.asarray(written.dataobj), expected)

nibabel.Nifti1Image(cine, np.diag([2, 2, 8, 1])).to_filename("cine.nii")
image = LoadImage(image_only=True)("cine.nii")
print("LoadImage", tuple(image.shape))
save = SaveImage(
    output_dir=".", output_postfix="saved", output_ext=".nii", channel_dim=None, separate_folder=False, print_log=False
)
save(image)
saved = nibabel.load("cine_saved.nii")
print("SaveImage, channel_dim None", saved.shape)
assert image.shape == cine.shape and np.array_equal(np.asarray(saved.dataobj), cine[..., 0])
print("As described.")
PY
