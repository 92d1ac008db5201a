#!/usr/bin/env bash
# SimpleITK refuses a NRRD axis that is called "time" and takes one called "list" as the values of a pixel.
#
# Tool:     SimpleITK 2.5.7 (ITK's NRRD reader)
# Expected: A cine in NRRD, three axes in space and one of kind "time", as the format defines it, is a 4D image.
# Seen:     Kind "time" is refused ("number of domain axes"). Kind "list", which 3D Slicer writes for its sequences
#           (.seq.nrrd), gives a 3D image with a vector of all frames in each pixel and without a frame time. What
#           SimpleITK itself writes has a space of 4 dimensions and no time at all.
# Matters:  Neither way round is a cine read as a 4D image; code that tests GetDimension() == 4 never sees one.
# Source:   https://teem.sourceforge.net/nrrd/format.html#kinds; ITK, Modules/IO/NRRD/src/itkNrrdImageIO.cxx;
#           https://github.com/Slicer/Slicer/issues/8707 (files of SimpleITK, in Slicer)
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check \
    SimpleITK==2.5.7 numpy==2.3.5
export PATH="$work/venv/bin:$PATH"
cd "$work"

python - <<'PY'
import numpy as np
import SimpleITK as sitk

cine = np.arange(7 * 6 * 5 * 4, dtype="<i2").reshape(7, 6, 5, 4)  # T Z Y X
SPACE = ("(2,0,0)", "(0,2,0)", "(0,0,8)")


def write(kind, last):
    """The cine with its axis of time last (slowest), or first as 3D Slicer writes it."""
    sizes, directions, kinds = ["4", "5", "6"], list(SPACE), ["domain"] * 3
    at = 3 if last else 0
    for values, value in ((sizes, "7"), (directions, "none"), (kinds, kind)):
        values.insert(at, value)
    header = [
        "NRRD0005", "type: short", "dimension: 4", "space: left-posterior-superior", f"sizes: {' '.join(sizes)}",
        f"space directions: {' '.join(directions)}", f"kinds: {' '.join(kinds)}", "endian: little", "encoding: raw",
        "space origin: (0,0,0)",
    ]
    voxels = cine if last else np.moveaxis(cine, 0, -1)
    with open("cine.nrrd", "wb") as file:
        file.write("\n".join(header).encode() + b"\n\n" + np.ascontiguousarray(voxels).tobytes())


for last in (True, False):
    write("time", last)
    try:
        sitk.ReadImage("cine.nrrd")
        raise SystemExit("kind time was read")
    except RuntimeError as error:
        print("time,", "last:" if last else "first:", str(error).strip().splitlines()[-1].strip())
        assert "domain axes" in str(error)
    write("list", last)
    image = sitk.ReadImage("cine.nrrd")
    values = image.GetNumberOfComponentsPerPixel()
    print("list,", "last:" if last else "first:", "size", image.GetSize(), "values a pixel", values)
    assert image.GetSize() == (4, 5, 6) and values == 7
    assert np.array_equal(sitk.GetArrayFromImage(image), np.moveaxis(cine, 0, -1))

sitk.WriteImage(sitk.GetImageFromArray(cine, isVector=False), "own.nrrd")
header = open("own.nrrd", "rb").read().split(b"\n\n")[0].decode()
print("written by SimpleITK:", [line for line in header.splitlines() if line.startswith(("space dim", "kinds"))])
assert "space dimension: 4" in header and "kinds: domain domain domain domain" in header
print("As described.")
PY
