"""A small valid folder of every source, as its dataset publishes it: two subjects, or one examination."""

import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

from cinesynth.data.sources import Source
from cinesynth.data.sources.acdc import read_acdc
from cinesynth.data.sources.cinema import read_cinema
from cinesynth.data.sources.dicom import read_dicom, read_dsb
from cinesynth.data.sources.layout import load_layout
from cinesynth.data.sources.mnms import read_mnms, read_mnms2
from cinesynth.data.sources.nifti import read_nifti
from cinesynth.data.sources.scd import read_scd
from tests.data.conftest import build_study
from tests.data.dicom_files import enhanced, save, write_stack
from tests.data.nifti_files import TO_MNMS
from tests.data.nifti_files import save as save_nifti

SLICES, FRAMES = 4, 8
"""Of the DICOM stacks: a few more than a short-axis cine must have, so that one may be lost."""
ED, ES = 0, 1
LAYOUT = """
dataset: ward-7
image: "{subject}/cine.nii.gz"
label: "{subject}/masks.nii.gz"
labels: {RV: 1, MYO: 2, LV: [3, 4]}
covers: {LV: [ed, es]}
phases: {ed: ED, es: 1}
table: {file: subjects.csv, subject: name, group: group, vendor: scanner}
spacing_mm: [null, 5.0, null]
diagnoses: {dilated: DCM}
"""
PAIR = """
dataset: pairs
image: {ed: "{subject}_ed.nii.gz", es: "{subject}_es.nii.gz"}
label: {ed: "{subject}_ed_gt.nii.gz", es: "{subject}_es_gt.nii.gz"}
labels: {RV: 1, MYO: 2, LV: 3}
phases: {ed: 1, es: 9, frames: 25}
counts_from: 1
"""
FRAME_FILES = """
dataset: frames
image: "{subject}_f{frame}.nii.gz"
label: "{subject}_m{frame}.nii.gz"
labels: {RV: 1, MYO: 2, LV: 3}
phases: labels
"""
TIMES = """
dataset: times
image: "{subject}/i_{time_ms}.nii.gz"
label: {ed: "{subject}/gt.nii.gz"}
labels: {RV: 1, MYO: 2, LV: 3}
phases: {ed: "{subject}/ed.nii.gz", es: "{subject}/es.nii.gz"}
"""
SLICE_FILES = """
dataset: slices
image: "{subject}/i_{slice}.nii.gz"
label: "{subject}/m_{slice}.nii.gz"
labels: {RV: 1, MYO: 2, LV: 3}
"""
STUDY = build_study(size=(16, 16, 4), spacing=(5.0, 5.0, 10.0), frames=3)


def acdc(root: Path) -> None:
    for number in (1, 2):
        folder = root / "training" / f"patient{number:03d}"
        for frame in (ED, ES):
            stem = f"{folder.name}_frame{frame + 1:02d}"
            _save(folder / f"{stem}.nii.gz", STUDY.image[frame])
            _save(folder / f"{stem}_gt.nii.gz", STUDY.label[frame])
        (folder / "Info.cfg").write_text("ED: 1\nES: 2\nGroup: DCM\nHeight: 170.0\nNbFrame: 3\nWeight: 70.0\n")
    _save(root / "training" / "patient001" / "patient001_4d.nii.gz", STUDY.image)


def mnms(root: Path) -> None:
    for part, code in (("Training/Labeled", "A0S9V9"), ("Testing", "B3F0V9")):
        _save(root / part / code / f"{code}_sa.nii.gz", STUDY.image)
        _save(root / part / code / f"{code}_sa_gt.nii.gz", TO_MNMS[STUDY.label])
    rows = [",External code,VendorName,Vendor,Centre,ED,ES,Age,Pathology"]
    rows += [f"{n},{code},Siemens,A,1,0,1,53.0,DCM" for n, code in enumerate(("A0S9V9", "B3F0V9"))]
    (root / "211230_M&Ms_Dataset_information_diagnosis_opendataset.csv").write_text("\n".join(rows) + "\n")


def mnms2(root: Path) -> None:
    for name in ("001", "002"):
        stem = str(root / "dataset" / name / f"{name}_SA_")
        for phase, frame in (("ED", ED), ("ES", ES)):
            _save(Path(f"{stem}{phase}.nii.gz"), STUDY.image[frame])
            _save(Path(f"{stem}{phase}_gt.nii.gz"), TO_MNMS[STUDY.label[frame]])
    _save(root / "dataset" / "001" / "001_SA_CINE.nii.gz", STUDY.image)
    (root / "dataset_information.csv").write_text("SUBJECT_CODE,DISEASE,VENDOR\r\n1,NOR,SIEMENS\r\n2,LV,GE\r\n,,\r\n")


def cinema(root: Path) -> None:
    for split, name in (("train", "p1"), ("val", "p2")):
        stem = str(root / split / name / f"{name}_sax_")
        for phase, frame in (("ed", ED), ("es", ES)):
            _save(Path(f"{stem}{phase}.nii.gz"), STUDY.image[frame])
            _save(Path(f"{stem}{phase}_gt.nii.gz"), STUDY.label[frame])
        text = f"pid,pathology,vendor_name,ed_index,es_index\n{name},HCM,Philips,0,1\n"
        (root / f"{split}_metadata.csv").write_text(text)
    _save(root / "train" / "p1" / "p1_sax_t.nii.gz", STUDY.image)


def scd(root: Path) -> None:
    def number(header: Dataset, z: int, t: int) -> None:
        header.InstanceNumber = _instance(z, t)

    write_stack(root / "SCD_IMAGES_01" / "SCD0000101" / "CINESAX_300", number, slices=SLICES, frames=FRAMES)
    contours = root / "SCD_ManualContours" / "SC-HYP-01" / "contours-manual" / "IRCCI-expert"
    contours.mkdir(parents=True)
    angle = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    for z in range(SLICES):
        for t, kind, radius in ((5, "i", 5.0), (5, "o", 7.0), (2, "i", 3.0)):
            points = np.stack([12 + radius * np.cos(angle), 11 + radius * np.sin(angle)], axis=1)
            path = contours / f"IM-0001-{_instance(z, t):04d}-{kind}contour-manual.txt"
            path.write_text("".join(f"{x:.2f} {y:.2f}\n" for x, y in points))
    text = "PatientID,OriginalID,Gender,Age,Pathology\nSCD0000101,SC-HYP-1,M,50,Hypertrophy\n"
    (root / "scd_patientdata.csv").write_text(text)


def dsb(root: Path) -> None:
    write_stack(root / "train" / "10" / "study", name="sax_{:d}/IM-{:04d}.dcm".format, slices=SLICES, frames=FRAMES)
    (root / "train" / "10" / "study" / "4ch_21").mkdir()


def dicom(root: Path) -> None:
    write_stack(root, slices=SLICES, frames=FRAMES)


def dicom_zip(root: Path) -> None:
    dicom(root / "unpacked")
    with zipfile.ZipFile(root / "exam.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted((root / "unpacked").iterdir()):
            archive.write(path, f"exam/{path.name}")
            path.unlink()
    (root / "unpacked").rmdir()


def enhanced_dicom(root: Path) -> None:
    save(enhanced(), root / "multi.dcm")


def layout(root: Path) -> None:
    for name in ("anna", "bert"):
        _save(root / name / "cine.nii.gz", STUDY.image)
        _save(root / name / "masks.nii.gz", STUDY.label)
    (root / "subjects.csv").write_text("name;group;scanner;ED\nanna;dilated;GE;0\nbert;NOR;Siemens;0\n")
    (root / "layout.yaml").write_text(LAYOUT)


def pairs(root: Path) -> None:
    for name in ("anna", "bert"):
        for phase, frame in (("ed", ED), ("es", ES)):
            _save(root / f"{name}_{phase}.nii.gz", STUDY.image[frame])
            _save(root / f"{name}_{phase}_gt.nii.gz", STUDY.label[frame])
    (root / "layout.yaml").write_text(PAIR)


def frame_files(root: Path) -> None:
    for name in ("anna", "bert"):
        for frame in (ED, ES):
            _save(root / f"{name}_f{frame}.nii.gz", STUDY.image[frame])
            _save(root / f"{name}_m{frame}.nii.gz", STUDY.label[frame])
    (root / "layout.yaml").write_text(FRAME_FILES)


def trigger_times(root: Path) -> None:
    for name in ("anna", "bert"):
        for frame in range(3):
            _save(root / name / f"i_{5 + 40 * frame}.nii.gz", STUDY.image[frame])
        _save(root / name / "gt.nii.gz", STUDY.label[ED])
        for phase, frame in (("ed", ED), ("es", ES)):
            _save(root / name / f"{phase}.nii.gz", STUDY.image[frame])
    (root / "layout.yaml").write_text(TIMES)


def slice_files(root: Path) -> None:
    for name in ("anna", "bert"):
        for z in range(4):
            affine = STUDY.affine.copy()
            affine[:3, 3] += z * affine[:3, 2]
            save_nifti(root / name / f"i_{z}.nii.gz", STUDY.image[..., z : z + 1], affine, 40.0, "msec")
            save_nifti(root / name / f"m_{z}.nii.gz", STUDY.label[..., z : z + 1], affine, 40.0, "msec")
    (root / "layout.yaml").write_text(SLICE_FILES)


def _described(root: Path) -> Source:
    return read_nifti(root, load_layout(root / "layout.yaml"))


SOURCES: dict[str, tuple[Callable[[Path], None], Callable[[Path], Source]]] = {
    "acdc": (acdc, read_acdc),
    "mnms": (mnms, read_mnms),
    "mnms2": (mnms2, read_mnms2),
    "cinema": (cinema, read_cinema),
    "scd": (scd, read_scd),
    "dsb": (dsb, read_dsb),
    "dicom": (dicom, read_dicom),
    "dicom zip": (dicom_zip, read_dicom),
    "enhanced dicom": (enhanced_dicom, read_dicom),
    "nifti cycles": (layout, _described),
    "nifti pairs": (pairs, _described),
    "nifti frames": (frame_files, _described),
    "nifti times": (trigger_times, _described),
    "nifti slices": (slice_files, _described),
}
"""How to write each folder, and how to read it."""


def _save(path: Path, data: np.ndarray) -> None:
    save_nifti(path, data, STUDY.affine, 40.0, "msec")


def _instance(z: int, t: int) -> int:
    return 1 + z * FRAMES + t
