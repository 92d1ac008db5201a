"""What programs of others make of our exports: every volume that they read, with its place and time."""

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np

from cinesynth.cases.export_items import ExportItem
from tests.external import beside_nnunet, nnunet_python
from tests.interop.elsewhere import LPS_TO_RAS
from tests.interop.studies import Exported

MS = {"sec": 1000.0, "msec": 1.0}
ENDING = ".nii.gz"


class Seen(NamedTuple):
    """A volume as a reader gives it: of all frames, or of one by its index among the stored ones."""

    item: ExportItem
    frame: int | None
    is_label: bool
    voxels: np.ndarray  # X Y Z or X Y Z T
    affine: np.ndarray  # RAS+
    time_ms: float | None  # None: no reader's answer
    text: str  # whatever else the reader tells


class Wanted(NamedTuple):
    """A volume to be read elsewhere."""

    item: ExportItem
    frame: int | None
    is_label: bool
    files: list[str]


def nifti_files(out: Exported) -> Iterator[Wanted]:
    """The NIfTI export, with a file per frame of an incomplete cycle, and the files of the generated case itself."""
    for item in out.items:
        study = item.read()
        folder = out.nifti / study.dataset / study.subject
        frames: list[tuple[int | None, str]] = [(None, "4d")]
        if len(study.frame_index) < study.frames_in_cycle:
            frames = [(t, f"frame{index + 1:02d}") for t, index in enumerate(study.frame_index)]
        for frame, name in frames:
            for is_label, end in ((False, ""), (True, "_label")):
                yield Wanted(item, frame, is_label, [str(folder / f"{study.subject}_{name}{end}{ENDING}")])
    yield Wanted(out.items[-1], None, False, [str(out.case / f"image{ENDING}")])
    yield Wanted(out.items[-1], None, True, [str(out.case / f"label{ENDING}")])


def nnunet_files(out: Exported) -> Iterator[Wanted]:
    for item in out.items:
        study = item.read()
        for frame in np.flatnonzero(study.labelled):
            name = f"{item.name}_frame{study.frame_index[frame] + 1:02d}"
            yield Wanted(item, int(frame), False, [str(out.nnunet / "imagesTr" / f"{name}_0000{ENDING}")])
            yield Wanted(item, int(frame), True, [str(out.nnunet / "labelsTr" / f"{name}{ENDING}")])


def dicom_frames(out: Exported) -> Iterator[tuple[ExportItem, int, Path]]:
    for item in out.items:
        for number, folder in enumerate(sorted((out.dicom / item.name / "cine").iterdir())):
            yield item, number, folder


def segmentations(out: Exported) -> Iterator[tuple[ExportItem, int, Path]]:
    for item in out.items:
        for path in sorted((out.dicom / item.name / "segmentation").iterdir()):
            index = int(re.findall(r"\d+", path.stem)[0]) - 1  # in the cycle
            yield item, int(np.flatnonzero(item.read().frame_index == index)[0]), path


# --- In this interpreter ---------------------------------------------------------------------------------------------


def from_nifti(wanted: Wanted, path: Path, text: str = "") -> Seen:
    image = nib.load(path)
    unit = image.header.get_xyzt_units()[1]
    step = float(image.header["pixdim"][4]) if image.ndim == 4 else 0.0
    time_ms = step * MS[unit] if unit in MS and step else None
    text += image.header["descrip"].item().decode()
    return Seen(*wanted[:3], np.asanyarray(image.dataobj), image.affine, time_ms, text)


def nibabel_nifti(out: Exported) -> Iterator[Seen]:
    for wanted in nifti_files(out):
        yield from_nifti(wanted, Path(wanted.files[0]))


def dcm2niix(out: Exported, philips: bool = False) -> Iterator[Seen]:
    """One volume with time a study; those of Philips need ``-m y``, or dcm2niix makes a file of each frame."""
    for item in out.items:
        if (item.read().vendor == "Philips") is not philips:
            continue
        place = out.folder / "dcm2niix" / item.name
        place.mkdir(parents=True)
        merge = ["-m", "y"] if philips else []
        call(beside_nnunet("dcm2niix"), *merge, "-f", "x", "-o", str(place), str(out.dicom / item.name / "cine"))
        (path,) = place.glob("*.nii*")
        told = path.with_name(path.name.partition(".")[0] + ".json").read_text()
        yield from_nifti(Wanted(item, None, False, []), path, told)


def dcm2niix_philips(out: Exported) -> Iterator[Seen]:
    yield from dcm2niix(out, philips=True)


def dcmqi_seg(out: Exported) -> Iterator[Seen]:
    program = beside_nnunet("segimage2itkimage")
    for item, index, file in segmentations(out):
        place = out.folder / "dcmqi" / item.name / str(index)
        place.mkdir(parents=True)
        options = ["--outputType", "nii", "--prefix", "x", "--mergeSegments"]
        call(program, "--inputDICOM", str(file), "--outputDirectory", str(place), *options)
        (path,), (about,) = place.glob(f"*{ENDING}"), place.glob("*.json")
        yield from_nifti(Wanted(item, index, True, []), path, about.read_text())


def highdicom_cine(out: Exported) -> Iterator[Seen]:
    import highdicom as hd
    import pydicom

    for item, frame, folder in dicom_frames(out):
        files = [pydicom.dcmread(path) for path in folder.iterdir()]
        volume = hd.get_volume_from_series(files)
        affine, text = LPS_TO_RAS @ volume.affine, str(files[0])
        yield Seen(item, frame, False, volume.array, affine, float(files[0].RepetitionTime or 0) or None, text)


def highdicom_seg(out: Exported) -> Iterator[Seen]:
    import highdicom as hd

    for item, index, path in segmentations(out):
        seg = hd.seg.segread(path)
        volume = seg.get_volume(combine_segments=True)
        text = f"{seg.SeriesDescription} {seg.ContentCreatorName} {seg.SoftwareVersions}"
        yield Seen(item, index, True, volume.array, LPS_TO_RAS @ volume.affine, None, text)


# --- In the interpreter that has SimpleITK, TorchIO and nnU-Net ------------------------------------------------------


def elsewhere(out: Exported, reader: str, volumes: list[Wanted]) -> Iterator[Seen]:
    """Read ``volumes`` in one process."""
    place = out.folder / f"{reader}-{len(list(out.folder.iterdir()))}"
    place.mkdir()
    jobs = [{"reader": reader, "files": w.files, "out": str(place / f"{i}.npz")} for i, w in enumerate(volumes)]
    (place / "jobs.json").write_text(json.dumps(jobs))
    call(nnunet_python(), str(Path(__file__).with_name("elsewhere.py")), str(place / "jobs.json"))
    for job, wanted in zip(jobs, volumes, strict=True):
        with np.load(job["out"]) as found:
            time_ms = float(found["time"][0]) * MS["sec"] if len(found["time"]) else None
            yield Seen(*wanted[:3], found["voxels"], found["affine"], time_ms, str(found["text"]))


def simpleitk_nifti(out: Exported) -> Iterator[Seen]:
    yield from elsewhere(out, "SimpleITK", list(nifti_files(out)))


def torchio_nifti(out: Exported) -> Iterator[Seen]:
    yield from elsewhere(out, "TorchIO", list(nifti_files(out)))


def nnunet_nibabel(out: Exported) -> Iterator[Seen]:
    yield from elsewhere(out, "NibabelIO", list(nnunet_files(out)))


def nnunet_simpleitk(out: Exported) -> Iterator[Seen]:
    yield from elsewhere(out, "SimpleITKIO", list(nnunet_files(out)))


def simpleitk_dicom(out: Exported) -> Iterator[Seen]:
    frames = [Wanted(item, n, False, [str(p) for p in sorted(path.iterdir())]) for item, n, path in dicom_frames(out)]
    yield from elsewhere(out, "SimpleITK", frames)


def torchio_dicom(out: Exported) -> Iterator[Seen]:
    frames = [Wanted(item, n, False, [str(path)]) for item, n, path in dicom_frames(out)]
    yield from elsewhere(out, "TorchIO", frames)


def call(*command: str) -> str:
    """Run a program; its output where it succeeds."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command[0]} failed: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout


Reader = Callable[[Exported], Iterator[Seen]]
