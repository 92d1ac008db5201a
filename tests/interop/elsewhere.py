"""Reads volumes with SimpleITK, TorchIO and nnU-Net, in the interpreter that has them.

``python elsewhere.py JOBS.json``: each job names a reader, its files and the ``.npz`` to write, with ``voxels``
(``X Y Z`` or ``X Y Z T``), ``affine`` (RAS+, mm), ``time`` (seconds between frames, or nothing) and
``text`` (what it tells of the file's remarks). Nothing of this repository is imported here.
"""

import json
import sys

import numpy as np

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def placed(direction: np.ndarray, spacing: np.ndarray, origin: np.ndarray) -> np.ndarray:
    """The RAS+ affine of an ITK image."""
    affine = np.eye(4)
    affine[:3, :3] = direction[:3, :3] * spacing[:3]
    affine[:3, 3] = origin[:3]
    return LPS_TO_RAS @ affine


def simpleitk(files: list[str]) -> dict:
    """Files of one volume, or a volume with time."""
    import SimpleITK as sitk

    reader = sitk.ImageFileReader()
    reader.SetFileName(files[0])
    reader.ReadImageInformation()
    image = sitk.ReadImage(files if len(files) > 1 else files[0])
    n = image.GetDimension()
    direction, spacing = np.array(image.GetDirection()).reshape(n, n), np.array(image.GetSpacing())
    told = {key: reader.GetMetaData(key) for key in reader.GetMetaDataKeys()}
    timed = int(told.get("xyzt_units", 0)) >= 8  # NIFTI_UNITS_SEC; without a unit of time, the spacing means nothing
    return {
        "voxels": sitk.GetArrayFromImage(image).T,
        "affine": placed(direction, spacing, np.array(image.GetOrigin())),
        "time": spacing[3:] if timed else [],
        "text": "\n".join(told.values()).encode("ascii", "replace").decode(),
    }


def torchio(files: list[str]) -> dict:
    """One file, or a folder of DICOM; the channels of TorchIO are frames."""
    import torchio as tio

    image = tio.ScalarImage(files[0])
    data = image.data.numpy()  # C X Y Z
    voxels = data[0] if len(data) == 1 else np.moveaxis(data, 0, -1)
    return {"voxels": voxels, "affine": image.affine, "time": [], "text": ""}


def torchio_copy(files: list[str]) -> dict:
    """Read one file and save it as another; nothing is compared here."""
    import torchio as tio

    tio.ScalarImage(files[0]).save(files[1])
    return {"voxels": np.zeros(0), "affine": np.eye(4), "time": [], "text": ""}


def nnunet(files: list[str], name: str) -> dict:
    """A training image (``..._0000.nii.gz``) or a label, with one of nnU-Net's readers."""
    from nnunetv2.imageio.nibabel_reader_writer import NibabelIO
    from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO

    reader = {"NibabelIO": NibabelIO, "SimpleITKIO": SimpleITKIO}[name]()
    read = reader.read_images if files[0].endswith("_0000.nii.gz") else reader.read_seg
    data, about = read(files if read == reader.read_images else files[0])  # 1 Z Y X
    if name == "NibabelIO":
        affine = about["nibabel_stuff"]["original_affine"]
    else:
        kept = about["sitk_stuff"]
        affine = placed(np.array(kept["direction"]).reshape(3, 3), np.array(kept["spacing"]), np.array(kept["origin"]))
    edges = np.linalg.norm(np.asarray(affine)[:3, :3], axis=0)
    assert np.allclose(about["spacing"][::-1], edges, rtol=1e-5), "spacing differs from the affine"
    return {"voxels": data[0].T, "affine": affine, "time": [], "text": ""}


def main(path: str) -> None:
    """Run the jobs of a file."""
    readers = {"SimpleITK": simpleitk, "TorchIO": torchio, "TorchIO copy": torchio_copy}
    readers["NibabelIO"] = lambda files: nnunet(files, "NibabelIO")
    readers["SimpleITKIO"] = lambda files: nnunet(files, "SimpleITKIO")
    with open(path) as file:
        jobs = json.load(file)
    for job in jobs:
        np.savez(job["out"], **readers[job["reader"]](job["files"]))


if __name__ == "__main__":
    main(sys.argv[1])
