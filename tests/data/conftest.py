"""Small studies drawn with rulers: discs whose areas, centres and volumes are known."""

import zlib
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from cinesynth.types import Diagnosis, Label, Study, full_coverage

MakeStudy = Callable[..., Study]
LV_MM, WALL_MM, RV_MM = 24.0, 9.0, 14.0


def draw_heart(size: tuple[int, int, int], spacing: tuple[float, float, float], lv_mm: float) -> np.ndarray:
    """A tapering LV in its wall with an RV disc beside it, labels ``X Y Z``, off the centre of the field."""
    x, y = (np.arange(n) * s for n, s in zip(size[:2], spacing[:2], strict=True))
    centre_x, centre_y = 0.55 * x[-1], 0.45 * y[-1]
    label = np.zeros(size, dtype=np.uint8)
    for z in range(size[2]):
        taper = 1.0 - 0.6 * z / max(size[2] - 1, 1)
        lv = np.hypot(x[:, None] - centre_x, y - centre_y)
        rv = np.hypot(x[:, None] - (centre_x - taper * lv_mm - WALL_MM - 12.0), y - centre_y)
        label[..., z][rv < RV_MM * taper] = Label.RV
        label[..., z][lv < lv_mm * taper + WALL_MM] = Label.MYO
        label[..., z][lv < lv_mm * taper] = Label.LV
    return label


def draw_chest(subject: str, size: tuple[int, int, int]) -> np.ndarray:
    """Patches ``X Y 1`` that no other subject has, so that nobody is taken for somebody else."""
    patches = np.random.default_rng(zlib.crc32(subject.encode())).integers(0, 120, (8, 8))
    x, y = (np.arange(n) * 8 // n for n in size[:2])
    return np.asarray(patches[np.ix_(x, y)])[..., None]


def build_study(
    subject: str = "subject1",
    diagnosis: Diagnosis = Diagnosis.NOR,
    size: tuple[int, int, int] = (80, 76, 6),
    spacing: tuple[float, float, float] = (2.0, 2.0, 10.0),
    frames: int = 4,
    dataset: str = "drawn",
) -> Study:
    """All frames stored, ED first, ES third, only these two labelled."""
    radii = LV_MM * (1.0 - 0.35 * np.sin(np.pi * np.arange(frames) / frames))
    drawn = np.stack([draw_heart(size, spacing, r) for r in radii])
    noise = np.random.default_rng(len(subject)).integers(0, 20, drawn.shape)
    chest = draw_chest(subject, size) * (drawn == 0)
    image = (np.array([30, 160, 80, 200])[drawn] + noise + chest).astype(np.int16)
    labelled = np.isin(np.arange(frames), (0, frames // 2))
    drawn[~labelled] = 0
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = -40.0, 12.0, 7.0
    return Study(
        subject,
        dataset,
        "Siemens",
        diagnosis,
        image,
        drawn,
        full_coverage(labelled, size[2]),
        np.arange(frames),
        frames,
        0,
        frames // 2,
        affine,
        38.5,
    )


@pytest.fixture
def acdc_folder(tmp_path: Path) -> Path:
    """An ACDC folder of two drawn patients: ED is frame 1, ES frame 3 of 4, one-based in Info.cfg."""
    root = tmp_path / "acdc"
    for number, group in ((1, "DCM"), (2, "NOR")):
        write_patient(root / "training" / f"patient{number:03d}", group)
    return root


def write_patient(folder: Path, group: str) -> Study:
    """One drawn patient in ACDC's layout."""
    study = build_study(folder.name, Diagnosis(group), size=(40, 38, 4), spacing=(3.0, 3.0, 10.0))
    folder.mkdir(parents=True)
    (folder / "Info.cfg").write_text(f"ED: 1\nES: 3\nGroup: {group}\nHeight: 170.0\nNbFrame: 4\nWeight: 70.0\n")
    for frame in (0, 2):
        stem = f"{folder.name}_frame{frame + 1:02d}"
        nib.save(nib.Nifti1Image(study.image[frame], study.affine), folder / f"{stem}.nii.gz")
        nib.save(nib.Nifti1Image(study.label[frame], study.affine), folder / f"{stem}_gt.nii.gz")
    return study
