"""What is exported to other tools: studies in awkward positions, and a generated case."""

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cinesynth.cases.export_dicom import export_dicom
from cinesynth.cases.export_items import ExportItem, case_items
from cinesynth.cases.export_nifti import export_nifti
from cinesynth.cases.export_nnunet import export_nnunet
from cinesynth.data.orientation import reorient
from cinesynth.types import Study
from tests.cases.exports import SIZE, SPACING_MM, as_item, pair, save_generated, turn
from tests.data.conftest import build_study

VENDORS = ("Siemens", "Philips", "GE", "Canon")
FRAMES = 4


class Exported(NamedTuple):
    """The same studies in every format."""

    folder: Path
    items: tuple[ExportItem, ...]

    @property
    def nifti(self) -> Path:
        return self.folder / "nifti"

    @property
    def nnunet(self) -> Path:
        return self.folder / "Dataset027_Cine"

    @property
    def dicom(self) -> Path:
        return self.folder / "dicom"

    @property
    def case(self) -> Path:
        """The folder of the generated case itself."""
        return self.folder / "case"


def oblique(subject: str, vendor: str = "Siemens") -> Study:
    """A study in a double oblique plane with full 12-bit grey values, ED and ES labelled."""
    study = build_study(subject, size=SIZE, spacing=SPACING_MM, frames=FRAMES)
    affine = np.eye(4)
    affine[:3, :3] = turn(2, 0.6) @ turn(0, 0.8) @ np.diag(SPACING_MM)
    affine[:3, 3] = 31.07, -20.4, 7.77
    image = study.image + np.random.default_rng(len(subject)).integers(0, 3800, study.image.shape)
    return replace(study, vendor=vendor, image=image.astype(np.int16), affine=affine)


def studies() -> list[Study]:
    """One per vendor; slices against the right-hand rule; fractions; an unknown frame time; ED and ES alone."""
    found = [oblique(vendor.lower(), vendor) for vendor in VENDORS]
    found.append(reorient(oblique("left-handed"), ((0, 1), (1, 1), (2, -1))))
    found.append(replace(oblique("fractions"), image=oblique("fractions").image.astype(np.float32) / 7))
    found.append(replace(oblique("untimed"), frame_time_ms=None))
    found.append(pair(oblique("pair")))
    return found


def exported(folder: Path) -> Exported:
    """Everything written into ``folder``."""
    items = [*map(as_item, studies()), *case_items([save_generated(folder / "case")])]
    result = Exported(folder, tuple(items))
    export_nifti(items, result.nifti)
    export_nnunet(items, result.nnunet)
    export_dicom(items, result.dicom)
    return result
