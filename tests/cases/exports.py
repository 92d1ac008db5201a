"""What exports are made from: drawn studies as items, and a generated case as its folder."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from cinesynth.cases.export_items import ExportItem
from cinesynth.data.orientation import oriented
from cinesynth.types import Cine, ClinicalPrior, Diagnosis, Label, Study
from tests.data.conftest import build_study

SIZE, SPACING_MM = (40, 38, 4), (3.0, 2.5, 9.7)


def turn(axis: int, angle: float) -> np.ndarray:
    """A rotation about one axis of the patient."""
    matrix = np.eye(3)
    i, j = [k for k in range(3) if k != axis]
    matrix[i, i] = matrix[j, j] = np.cos(angle)
    matrix[i, j], matrix[j, i] = -np.sin(angle), np.sin(angle)
    return matrix


def small(subject: str = "subject1", **changes: object) -> Study:
    """A drawn study of a few voxels: four frames, ED and ES labelled."""
    return replace(build_study(subject, size=SIZE, spacing=SPACING_MM), **changes)


def pair(study: Study | None = None) -> Study:
    """ED and ES alone of a study of four frames."""
    study, kept = study or small(), [0, 2]
    arrays = {name: getattr(study, name)[kept] for name in ("image", "label", "coverage", "frame_index")}
    return replace(study, **arrays)


def scanned(subject: str = "scanned1", frames: int = 7) -> Study:
    """A study as a scanner gives it, in a double oblique plane, brought to our orientation by its header alone."""
    study = build_study(subject, size=SIZE, spacing=SPACING_MM, frames=frames)
    affine = np.eye(4)
    affine[:3, :3] = turn(2, 0.6) @ turn(0, 0.8) @ np.diag(SPACING_MM)
    affine[:3, 3] = 31.07, -20.4, 7.77
    bare = replace(study, affine=affine, label=0 * study.label, coverage=study.coverage & False)
    found = oriented(bare)
    assert found.slices_from == "header"
    return found


def as_item(study: Study, split: str = "train", synthetic: bool = False) -> ExportItem:
    return ExportItem(f"{study.dataset}_{study.subject}", split, synthetic, lambda: study)


def generated(accepted: bool | None = None) -> Cine:
    """A generated case of six frames: an LV that shrinks beside its wall and an RV."""
    label = np.zeros((6, 24, 20, 4), dtype=np.uint8)
    for t, width in enumerate([8, 6, 4, 5, 6, 8]):
        label[t, 4:14, 4 : 4 + width, 1:3] = Label.LV
    label[:, 15:18, 4:12, 1:3] = Label.MYO
    label[:, 19:22, 4:14, 1:3] = Label.RV
    image = np.random.default_rng(3).uniform(-1, 1, label.shape).astype(np.float32)
    affine = np.diag([2.0, 1.5, 10.0, 1.0])
    prior = ClinicalPrior(Diagnosis.DCM, lv_edv_ml=20.0)
    verdict = {} if accepted is None else {"acceptance": {"accepted": accepted}}
    return Cine(image, label, affine, 31.25, 0, 2, prior, 3, {"synthetic": True, **verdict})


def save_generated(folder: Path, accepted: bool | None = None) -> Path:
    """The case folder that the generator writes; ``accepted`` is None where the acceptance rules were not applied."""
    from cinesynth.cases.writing import save_case

    save_case(generated(accepted), folder, pictures=False)
    return folder


def cohort(folder: Path) -> Path:
    """A cohort of three cases, of which the second failed the acceptance rules."""
    for number, accepted in enumerate((True, False, True)):
        save_generated(folder / f"case_{number:04d}", accepted)
    return folder


def box_heart() -> Cine:
    """An LV of 10 x 8 x 5 voxels that shrinks to 10 x 4 x 5 at frame 2, beside an RV and a myocardium."""
    label = np.zeros((5, 24, 20, 7), dtype=np.uint8)
    for t, width in enumerate([8, 6, 4, 6, 8]):
        label[t, 4:14, 4 : 4 + width, 1:6] = Label.LV
    label[:, 15:18, 4:12, 1:6] = Label.MYO
    label[:, 19:22, 4:14, 1:6] = Label.RV
    image = np.linspace(-1, 1, label.size, dtype=np.float32).reshape(label.shape)
    affine = np.diag([2.0, 1.5, 10.0, 1.0])
    return Cine(image, label, affine, 31.25, 0, 2, ClinicalPrior(lv_edv_ml=20.0), 3, {"synthetic": True})
