"""Hints of ingest, doctor and the other readers of data: doing what they say works."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cinesynth.data.ingest import ingest
from cinesynth.types import full_coverage
from tests.cases.exports import small
from tests.data.conftest import acdc_folder
from tests.data.nifti_files import change_header, only_frames, phantom, save
from tests.hints.conftest import Desk

__all__ = ["acdc_folder"]

LAYOUT = """
dataset: hospital
image: "{subject}/cine.nii.gz"
label: "{subject}/masks.nii.gz"
labels: {RV: 1, MYO: 2, LV: 3}
phases: {ed: 0, es: 2}
"""


@pytest.fixture
def ward(desk: Desk) -> Path:
    """One subject that the layout describes."""
    study = phantom(1)
    save(desk / "ward/case1/cine.nii.gz", study.image, study.affine, 0.04)
    save(desk / "ward/case1/masks.nii.gz", study.label, study.affine, 0.04)
    return desk / "ward"


def read(desk: Desk, root: Path, layout: str = LAYOUT) -> tuple[object, ...]:
    """The command that reads ``root``."""
    return "ingest", "nifti", root, "--layout", desk.write("layout.yaml", layout), "--out", desk / "data"


# --- Folders and layouts ---------------------------------------------------------------------------------------------


def test_the_wrong_folder_of_nifti_files(desk: Desk, ward: Path) -> None:
    desk.fails(*read(desk, ward / "case1"), hint="name the folder in which {subject} stands for a subject")
    desk.works(*read(desk, ward))


def test_an_unknown_layout(desk: Desk, ward: Path) -> None:
    command = ("ingest", "nifti", ward, "--out", desk / "data")
    desk.fails(*command, "--layout", "hospital", hint="one of ...najman4d...or a .yaml file")
    desk.works(*command, "--layout", desk.write("layout.yaml", LAYOUT))


def test_a_layout_with_a_misspelt_key(desk: Desk, ward: Path) -> None:
    desk.fails(*read(desk, ward, LAYOUT.replace("phases", "phase")), hint="correct the file")
    desk.works(*read(desk, ward))


def test_label_numbers_of_others(desk: Desk, ward: Path) -> None:
    hint = desk.fails(*read(desk, ward, LAYOUT.replace("LV: 3", "LV: 4")), hint="allowed are ...4 LV cavity;...")
    assert "3" not in hint
    desk.works(*read(desk, ward))


def test_frames_counted_from_one(desk: Desk, ward: Path) -> None:
    hint = "check the frame numbers, and whether they count from 0 or 1"
    layout = LAYOUT.replace("{ed: 0, es: 2}", "{ed: 6, es: 3}")
    desk.fails(*read(desk, ward, layout), hint=hint)
    desk.works(*read(desk, ward, layout + "counts_from: 1\n"))


def test_labels_that_do_not_tell_ed_from_es(desk: Desk, ward: Path) -> None:
    study = phantom(1)
    save(ward / "case1/masks.nii.gz", only_frames(study.label, 0), study.affine, 0.04)
    hint = "remove the key `phases` from the layout: ED and ES are then assumed"
    desk.fails(*read(desk, ward, LAYOUT.replace("{ed: 0, es: 2}", "labels")), hint=hint)
    desk.works(*read(desk, ward, LAYOUT.replace("phases: {ed: 0, es: 2}\n", "")))


def test_a_table_without_the_column(desk: Desk, ward: Path) -> None:
    (ward / "subjects.csv").write_text("name,scanner\ncase1,GE\n")
    table = "table: {file: subjects.csv, subject: id, vendor: scanner}\n"
    desk.fails(*read(desk, ward, LAYOUT + table), hint="its columns are name, scanner")
    desk.works(*read(desk, ward, LAYOUT + table.replace("id", "name")))


def test_the_wrong_folder_of_acdc(desk: Desk, acdc_folder: Path) -> None:
    (desk / "empty").mkdir()
    hint = desk.fails("ingest", "acdc", desk / "empty", "--out", desk / "data", hint="training/patient001")
    assert (acdc_folder / hint[hint.index("training") :].split()[0]).is_dir()
    desk.works("ingest", "acdc", acdc_folder, "--out", desk / "data")


def test_an_acdc_patient_without_its_table(desk: Desk, acdc_folder: Path) -> None:
    info = acdc_folder / "training/patient001/Info.cfg"
    kept = info.read_text()
    info.unlink()
    desk.fails("ingest", "acdc", acdc_folder, "--out", desk / "data", hint="each ACDC patient has one: copy it again")
    info.write_text(kept)
    desk.works("ingest", "acdc", acdc_folder, "--out", desk / "data")


# --- Files -----------------------------------------------------------------------------------------------------------


def test_slices_of_a_thickness_that_no_scanner_has(desk: Desk, ward: Path) -> None:
    for name in ("cine", "masks"):
        change_header(ward / f"case1/{name}.nii.gz", pixdim=[1, 3, 3, 80, 0.04, 0, 0, 0])
    desk.fails(*read(desk, ward), hint="correct ...header")
    for name in ("cine", "masks"):
        change_header(ward / f"case1/{name}.nii.gz", pixdim=[1, 3, 3, 10, 0.04, 0, 0, 0])
    desk.works(*read(desk, ward))


# --- The dataset folder ----------------------------------------------------------------------------------------------


def test_an_output_folder_that_holds_something_else(desk: Desk, ward: Path) -> None:
    (desk / "data").mkdir()
    (desk / "data/notes.txt").write_text("mine")
    command = read(desk, ward)
    desk.fails(*command, hint="choose a new folder or an existing dataset")
    desk.works(*command[:-1], desk / "other")


def test_a_subject_that_is_there_already(desk: Desk, ward: Path) -> None:
    command = read(desk, ward)
    desk.works(*command)
    desk.fails(*command, hint="leave this subject out, or write it to another --out")
    desk.works(*command[:-1], desk / "other")


def test_a_folder_that_is_no_dataset(desk: Desk) -> None:
    desk.fails("doctor", desk / "data", hint="create one with cinesynth ingest")
    desk.works("ingest", "phantom", "--subjects", 10, "--frames", 6, "--out", desk / "data")
    desk.works("doctor", desk / "data")


def test_a_study_that_was_altered(desk: Desk) -> None:
    people = [small(f"s{i}") for i in range(10)]
    row = ingest(people, desk / "data").added[0]
    with (desk / "data" / row.file).open("ab") as file:
        file.write(b"x")
    desk.fails("doctor", desk / "data", hint="ingest ...again into a new folder")
    ingest(people, desk / "again")
    desk.works("doctor", desk / "again")


def test_a_heart_that_the_grid_cannot_hold(desk: Desk) -> None:
    study = phantom(1)
    image, label = np.repeat(study.image[..., :1], 14, axis=-1), np.repeat(study.label[..., 3:4], 14, axis=-1)
    whole = replace(study, image=image, label=label, coverage=full_coverage(np.ones(6, dtype=bool), 14))
    ingest([whole], desk / "data")
    command = ("prepare", "--dataset", desk / "data", "--preset")
    hint = desk.fails(*command, "small", hint="use a preset with a larger grid")
    desk.works(*command, re.findall(r"\b(?:base|compact|paper)\b", hint)[-1])


def test_a_subject_that_is_not_there(desk: Desk, phantoms: Path) -> None:
    command = ("look", "--dataset", phantoms, "--out", desk / "look.png", "--subject")
    hint = desk.fails(*command, "nobody", hint="one of ")
    desk.works(*command, hint.removeprefix("one of ").split(",")[0])


def test_weights_without_a_use(desk: Desk, ward: Path, weights: Path) -> None:
    command = (*read(desk, ward, LAYOUT.replace("phases: {ed: 0, es: 2}\n", "")), "--weights", weights)
    desk.fails(*command, hint="pass both, or neither")
    desk.works(*command[:-2])
