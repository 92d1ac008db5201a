"""Hints of export, evaluate and weights: doing what they say works."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from cinesynth.cases.writing import save_case
from cinesynth.data.ingest import ingest
from cinesynth.types import Cine
from tests.cases.exports import cohort, save_generated, scanned, small
from tests.hints.conftest import Desk

# --- Export ----------------------------------------------------------------------------------------------------------


def test_nothing_to_export(desk: Desk, phantoms: Path) -> None:
    command = ("export", "--to", "nifti", "--out", desk / "out")
    desk.fails(*command, hint="name a dataset with --dataset, or generated cases with --case")
    desk.works(*command, "--dataset", phantoms, "--split", "test")


def test_a_name_that_nnunet_does_not_take(desk: Desk) -> None:
    case = save_generated(desk / "case")
    hint = desk.fails("export", "--to", "nnunet", "--case", case, "--out", desk / "cine", hint="for example ")
    desk.works("export", "--to", "nnunet", "--case", case, "--out", desk / hint.removeprefix("for example "))


def test_nnunet_without_labels(desk: Desk) -> None:
    ingest([scanned()], desk / "data")
    command = ("export", "--to", "nnunet", "--dataset", desk / "data", "--out", desk / "Dataset001_Cine")
    desk.fails(*command, hint="name a dataset with labels, or add generated cases")
    desk.works(*command, "--case", save_generated(desk / "case"))


def test_only_rejected_cases(desk: Desk) -> None:
    case = cohort(desk / "cohort") / "case_0001"
    command = ("export", "--to", "nifti", "--case", case, "--out", desk / "out")
    hint = desk.fails(*command, hint="generate other cases, or export them all the same with --include-rejected")
    desk.works(*command, hint.split()[-1])


def test_pixels_that_dicom_cannot_express(desk: Desk) -> None:
    skewed = np.diag([3.0, 2.5, 9.7, 1.0])
    skewed[0, 1] = 0.2
    ingest([small(affine=skewed)], desk / "data")
    command = ("export", "--dataset", desk / "data", "--out", desk / "out", "--to")
    desk.fails(*command, "dicom", hint="export it as NIfTI")
    desk.works(*command, "nifti")


def test_two_cases_of_one_name(desk: Desk) -> None:
    cases = [save_generated(desk / f"{place}/case") for place in "ab"]
    command = ("export", "--to", "nifti", "--case", cases[0], "--case")
    desk.fails(*command, cases[1], "--out", desk / "out", hint="or rename a case's folder")
    desk.works(*command, cases[1].rename(desk / "b/other"), "--out", desk / "out")


def test_a_split_that_is_not_there(desk: Desk, phantoms: Path) -> None:
    command = ("export", "--to", "nifti", "--dataset", phantoms, "--out", desk / "out", "--split")
    hint = desk.fails(*command, "val", hint="choose one of train, validation, test")
    desk.works(*command, hint.split(", ")[1])


def test_a_folder_without_a_case(desk: Desk) -> None:
    command = ("export", "--to", "nifti", "--out", desk / "out", "--case")
    desk.fails(*command, desk / "nothing", hint="name a folder written by cinesynth generate: it has a case.json")
    desk.works(*command, save_generated(desk / "case"))


def test_a_case_that_was_changed(desk: Desk) -> None:
    case, copy = save_generated(desk / "case"), desk / "copy"
    shutil.copytree(case, copy)
    other = save_generated(desk / "other", accepted=True)
    shutil.copy(other / "image.nii.gz", copy / "image.nii.gz")
    (copy / "image.nii.gz").write_bytes((copy / "image.nii.gz").read_bytes() + b"\0")
    command = ("export", "--to", "nifti", "--case", copy, "--out", desk / "out")
    desk.fails(*command, hint="copy the case again, or generate it again")
    shutil.copy(case / "image.nii.gz", copy / "image.nii.gz")
    desk.works(*command)


# --- Evaluate --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_split_that_training_has_seen(desk: Desk, phantoms: Path) -> None:
    command = ("evaluate", "--real", phantoms, "--synthetic", phantoms, "--out", desk / "out", "--workers", 1)
    hint = desk.fails(*command, "--split", "train", hint="one of test, validation")
    desk.works(*command, "--split", hint.removeprefix("one of ").split(",")[0])


@pytest.mark.slow
def test_a_cohort_of_one_case(desk: Desk, phantoms: Path) -> None:
    quick = ("--frames", 6, "--steps", 2, "--no-pictures", "--no-match-volumes", "--max-attempts", 1, "--workers", 1)
    generate = ("generate", "--weights", "small", *quick, "--edv", 150)
    desk.works(*generate, "--count", 1, "--out", desk / "one")
    command = ("evaluate", "--real", phantoms, "--out", desk / "out", "--workers", 1, "--synthetic")
    desk.fails(*command, desk / "one", hint="generate more: cinesynth generate --count 50 --out COHORT")
    desk.works(*generate, "--count", 2, "--out", desk / "two")
    desk.works(*command, desk / "two")


def test_a_folder_that_is_no_cohort(desk: Desk, phantoms: Path) -> None:
    command = ("evaluate", "--real", phantoms, "--out", desk / "out", "--synthetic", desk / "nothing")
    desk.fails(*command, hint="generate a cohort: cinesynth generate --count 50 --out COHORT")


def test_a_report_that_is_none(desk: Desk, weights: Path) -> None:
    hint = "cinesynth evaluate --real DATASET --synthetic COHORT --out FOLDER"
    desk.fails("card", desk.write("report.json", "{}"), "--weights", weights, "--out", desk / "card.md", hint=hint)


# --- Weights ---------------------------------------------------------------------------------------------------------


def test_default_weights_that_are_gone(desk: Desk, weights: Path) -> None:
    copy = desk / "weights"
    shutil.copytree(weights, copy)
    desk.works("weights", "set-default", copy)
    shutil.rmtree(copy)
    hint = desk.fails("weights", "verify", hint="or the package's: cinesynth weights set-default --reset")
    desk.works(*hint.rpartition("cinesynth ")[2].split())
    desk.works("weights", "list")


def test_default_weights_without_a_name(desk: Desk) -> None:
    hint = desk.fails("weights", "set-default", hint="`cinesynth weights list` shows the names")
    told = desk.works(*hint.split("`")[1].split()[1:])
    (name,) = [line.split()[0] for line in told.splitlines() if "(default)" in line]
    desk.works("weights", "set-default", name)
    desk.works("weights", "set-default", "--reset")


def test_weights_that_were_altered(desk: Desk, weights: Path) -> None:
    copy = desk / "weights"
    shutil.copytree(weights, copy)
    with (copy / "vae.safetensors").open("ab") as file:
        file.write(b"x")
    command = ("generate", "--weights", copy, "--edv", 150, "--frames", 2, "--steps", 1, "--no-match-volumes")
    desk.fails(*command, "--out", desk / "case", hint="copy")
    shutil.rmtree(copy)
    shutil.copytree(weights, copy)
    desk.works(*command, "--max-attempts", 1, "--no-pictures", "--out", desk / "case")


def test_scores_that_are_none(desk: Desk) -> None:
    path = desk.write("scores.json", json.dumps({}))
    desk.fails("weights", "compare", path, path, hint="write it again: cinesynth score ...--out SCORES.json")


def test_a_training_index_that_is_none(desk: Desk) -> None:
    ingest([small(f"s{i}") for i in range(10)], desk / "data")
    path = desk.write("index.safetensors", "")
    quick = ("--frames", 2, "--steps", 1, "--no-match-volumes", "--max-attempts", 1, "--no-pictures")
    command = ("generate", "--weights", "small", "--edv", 150, *quick, "--training-index", path, "--out", desk / "case")
    hint = desk.fails(*command, hint="write it again: cinesynth training-index")
    desk.works(hint.split()[-1], "--dataset", desk / "data", "--weights", "small", "--out", path)
    desk.works(*command)


@pytest.fixture
def kept(desk: Desk, cine: Cine) -> Path:
    save_case(cine, desk / "kept", pictures=False)
    return desk / "kept"


def test_an_anatomy_of_other_weights(desk: Desk, kept: Path, weights: Path) -> None:
    quick = ("--frames", 2, "--steps", 1, "--no-match-volumes", "--no-pictures", "--precision", "fp32")
    command = ("generate", "--keep-anatomy", kept, "--out", desk / "case", *quick, "--weights")
    desk.fails(*command, "small", hint="give those weights by --weights")
    desk.works(*command, weights)
