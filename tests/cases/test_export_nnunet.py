"""nnU-Net's raw dataset: what its own check accepts, nobody on both sides, and no guess where nobody drew."""

import csv
import json
import os
import subprocess
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from cinesynth.cases.export_items import ExportItem, case_items, dataset_items
from cinesynth.cases.export_nnunet import IGNORE, export_nnunet
from cinesynth.cli import main
from cinesynth.data.dataset_table import DatasetTable
from cinesynth.data.ingest import ingest
from cinesynth.data.terms import Terms
from cinesynth.errors import DataError, InputError, OutputError
from cinesynth.types import Label, Study
from tests.cases.exports import as_item, cohort, save_generated, scanned, small
from tests.conftest import Run
from tests.external import nnunet_python
from tests.limits import files_below

NAME = "Dataset027_Cine"


def volume(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj)


def table(out: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((out / "cases.csv").open()))


def three(tmp_path: Path) -> list[ExportItem]:
    """Two persons to train on, one of them generated, one to validate on and one to test on."""
    people = [("a", "train"), ("b", "validation"), ("c", "test")]
    case = save_generated(tmp_path / "case")
    return [*(as_item(small(name), split) for name, split in people), *case_items([case])]


def without_rv(study: Study) -> Study:
    """As Sunnybrook: no RV, and the last slice not looked at."""
    coverage, label = study.coverage.copy(), study.label.copy()
    coverage[..., 0] = False
    coverage[:, -1] = False
    label[label == Label.RV] = 0
    label[..., -1] = 0
    return replace(study, coverage=coverage, label=label)


def test_layout_and_numbers(tmp_path: Path) -> None:
    out = tmp_path / "raw" / NAME
    done = export_nnunet(three(tmp_path), out)
    about = json.loads((out / "dataset.json").read_text())
    assert about["labels"] == {"background": 0, "RV": 1, "MYO": 2, "LV": 3}
    assert (about["numTraining"], about["file_ending"], about["channel_names"]) == (10, ".nii.gz", {"0": "cine MRI"})
    assert done.cases == {"train": 8, "validation": 2, "test": 2}
    for part, count in (("Tr", 10), ("Ts", 2)):
        images = {p.name.removesuffix("_0000.nii.gz") for p in (out / f"images{part}").iterdir()}
        assert images == {p.name.removesuffix(".nii.gz") for p in (out / f"labels{part}").iterdir()}
        assert len(images) == count
    study = small("a")
    assert np.array_equal(volume(out / "imagesTr/drawn_a_frame03_0000.nii.gz"), study.image[2])
    assert np.array_equal(volume(out / "labelsTr/drawn_a_frame03.nii.gz"), study.label[2])


def test_the_terms_of_all_that_is_in_it_bind(tmp_path: Path) -> None:
    people = [replace(as_item(small("a")), terms=Terms("CC0-1.0", "One")), as_item(small("b"))]
    people += [replace(as_item(small("c")), terms=Terms("CC-BY-NC-SA-4.0", "Two"))]
    for kept, licence in ((people, "unknown terms"), (people[::2], "CC-BY-NC-SA-4.0")):
        out = tmp_path / licence.replace(" ", "-") / NAME
        export_nnunet(kept, out)
        about = json.loads((out / "dataset.json").read_text())
        assert (about["licence"], about["reference"]) == (licence, "One; Two")


def test_both_label_orders(tmp_path: Path) -> None:
    for order in ("acdc", "mnms"):
        export_nnunet([as_item(small())], tmp_path / order / NAME, order=order)
    file = f"{NAME}/labelsTr/drawn_subject1_frame01.nii.gz"
    acdc, mnms = (volume(tmp_path / order / file) for order in ("acdc", "mnms"))
    assert np.array_equal(mnms, np.array([0, 3, 2, 1])[acdc])
    labels = json.loads((tmp_path / "mnms" / NAME / "dataset.json").read_text())["labels"]
    assert labels == {"background": 0, "RV": 3, "MYO": 2, "LV": 1}


def test_splits_keep_people_whole_and_generated_cases_in_training(tmp_path: Path) -> None:
    data, out = tmp_path / "data", tmp_path / NAME
    ingest([small(f"s{i}") for i in range(12)], data)
    generated = case_items([save_generated(tmp_path / "case")])
    assert export_nnunet([*dataset_items(data), *generated], out).folds == 1
    (fold,) = json.loads((out / "splits_final.json").read_text())
    sides, rows = defaultdict(set), table(out)
    for side, names in fold.items():
        for row in rows:
            if row["case"] in names:
                sides[row["dataset"], row["subject"]].add(side)
    for row in DatasetTable.read(data):
        expected = {"train": {"train"}, "validation": {"val"}, "test": set()}[row.split]
        assert sides["drawn", row.subject] == expected
    assert sides["generated", "case"] == {"train"}
    assert sum(map(len, fold.values())) == len(list((out / "labelsTr").iterdir()))
    assert {row["synthetic"] for row in rows if row["dataset"] == "generated"} == {"yes"}


def sides(out: Path) -> list[dict[str, set[str]]]:
    """The subjects on each side of each fold."""
    subject = {row["case"]: row["subject"] for row in table(out)}
    folds = json.loads((out / "splits_final.json").read_text())
    return [{side: {subject[case] for case in cases} for side, cases in fold.items()} for fold in folds]


def test_without_validation_subjects_folds_hold_out_whole_subjects(tmp_path: Path) -> None:
    """Without a file nnU-Net draws its folds by case, and ED would validate what ES has taught."""
    people = [as_item(small(f"s{i}")) for i in range(7)]
    cases = case_items([save_generated(tmp_path / "case")])
    done = export_nnunet([*people, *cases], tmp_path / NAME)
    folds = sides(tmp_path / NAME)
    assert (done.folds, len(folds)) == (5, 5)
    for fold in folds:
        assert not fold["train"] & fold["val"]
        assert fold["train"] | fold["val"] == {*(f"s{i}" for i in range(7)), "case"}
        assert "case" in fold["train"]
    held_out = [subject for fold in folds for subject in fold["val"]]
    assert sorted(held_out) == [f"s{i}" for i in range(7)]


def test_near_duplicates_are_on_one_side_of_each_fold(tmp_path: Path) -> None:
    twin = small("twin", image=small("s3").image)
    export_nnunet([*(as_item(small(f"s{i}")) for i in range(6)), as_item(twin)], tmp_path / NAME)
    for fold in sides(tmp_path / NAME):
        assert any({"s3", "twin"} <= subjects for subjects in fold.values())


def test_a_cohort_alone_is_folded_by_case_and_one_subject_is_on_both_sides(tmp_path: Path) -> None:
    export_nnunet(case_items([cohort(tmp_path / "cohort")]), tmp_path / NAME)
    a, b = "cohort_case_0000", "cohort_case_0002"
    assert sides(tmp_path / NAME) == [{"train": {b}, "val": {a}}, {"train": {a}, "val": {b}}]
    export_nnunet([as_item(small())], tmp_path / "Dataset001_One")
    assert sides(tmp_path / "Dataset001_One") == [{"train": {"subject1"}, "val": {"subject1"}}]


def test_rejected_cases_are_left_out_unless_requested(tmp_path: Path) -> None:
    items = [as_item(small()), *case_items([cohort(tmp_path / "cohort")])]
    done = export_nnunet(items, tmp_path / NAME)
    assert done.rejected == ("generated_cohort_case_0001",)
    verdicts = {row["subject"]: row["accepted"] for row in table(tmp_path / NAME)}
    assert verdicts == {"subject1": "", "cohort_case_0000": "yes", "cohort_case_0002": "yes"}
    assert not list((tmp_path / NAME / "imagesTr").glob("*case_0001*"))
    done = export_nnunet(items, tmp_path / "Dataset001_All", include_rejected=True)
    assert done.rejected == ()
    verdicts = {row["subject"]: row["accepted"] for row in table(tmp_path / "Dataset001_All")}
    assert verdicts["cohort_case_0001"] == "no"


@pytest.mark.parametrize("to", ["nnunet", "nifti", "dicom"])
def test_every_export_leaves_rejected_cases_out(tmp_path: Path, run: Run, to: str) -> None:
    out, case = tmp_path / NAME, cohort(tmp_path / "cohort")
    code, told, _ = run("export", "--to", to, "--case", case, "--out", out)
    assert code == 0
    assert "left out: 1 study that failed the acceptance rules; see --include-rejected" in told
    assert not list(out.rglob("*case_0001*"))
    code, _, told = run("export", "--to", to, "--case", case / "case_0001", "--out", tmp_path / "Dataset001_One")
    assert code == 2
    assert "nothing to export: the case fails the acceptance rules" in told
    again = ("export", "--to", to, "--case", case / "case_0001", "--include-rejected")
    assert run(*again, "--out", tmp_path / "Dataset001_One")[0] == 0
    assert list((tmp_path / "Dataset001_One").rglob("*case_0001*"))


def test_what_nobody_drew_is_ignored(tmp_path: Path) -> None:
    study = without_rv(small())
    done = export_nnunet([as_item(study), as_item(small("whole"))], tmp_path / NAME)
    label = volume(tmp_path / NAME / "labelsTr/drawn_subject1_frame01.nii.gz")
    drawn = study.label[0] > 0
    assert np.array_equal(label[drawn], study.label[0][drawn])
    assert (label[~drawn] == IGNORE).all()
    assert IGNORE not in volume(tmp_path / NAME / "labelsTr/drawn_whole_frame01.nii.gz")
    assert json.loads((tmp_path / NAME / "dataset.json").read_text())["labels"]["ignore"] == IGNORE
    assert done.with_ignored == 2
    assert [row["ignored_slices"] for row in table(tmp_path / NAME)] == ["4", "4", "0", "0"]


def test_ed_and_es_alone(tmp_path: Path) -> None:
    case = case_items([save_generated(tmp_path / "case")])
    export_nnunet(case, tmp_path / NAME, frames="edes")
    assert [(row["frame_number"], row["phase"]) for row in table(tmp_path / NAME)] == [("1", "ED"), ("3", "ES")]


def test_what_has_no_labels_is_named(tmp_path: Path) -> None:
    done = export_nnunet([as_item(scanned()), as_item(small())], tmp_path / NAME)
    assert done.unlabelled == ["drawn_scanned1"]
    with pytest.raises(DataError, match="no labelled training frame"):
        export_nnunet([as_item(scanned())], tmp_path / "Dataset001_None")
    assert not (tmp_path / "Dataset001_None").exists()


@pytest.mark.parametrize("name", ["cine", "Dataset27_Cine", "Dataset027"])
def test_nnunet_wants_a_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="not a valid nnU-Net dataset name"):
        export_nnunet([as_item(small())], tmp_path / name)


def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    with files_below(2048), pytest.raises(OutputError):
        export_nnunet([as_item(small())], tmp_path / NAME)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--to", "nifti"], "13 studies in"),
        (["--to", "nifti", "--split", "test"], "4 studies in"),
        (["--to", "nnunet", "--label-order", "mnms", "--frames", "edes"], "18 train, 2 validation, 6 test"),
        (["--to", "dicom", "--no-segmentations", "--subject", "s3", "--subject", "s4"], "3 studies in"),
    ],
)
def test_the_verb(
    tmp_path: Path,
    flags: list[str],
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A dataset and a generated case in one export."""
    ingest([small(f"s{i}") for i in range(12)], tmp_path / "data")
    inputs = ["--dataset", str(tmp_path / "data"), "--case", str(save_generated(tmp_path / "case"))]
    monkeypatch.setattr("sys.argv", ["cinesynth", "export", *inputs, *flags, "--out", str(tmp_path / NAME)])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code in (0, None)
    assert told in capsys.readouterr().out
    assert any((tmp_path / NAME).iterdir())


CHECK = """
import sys
from nnunetv2.experiment_planning.verify_dataset_integrity import verify_dataset_integrity
verify_dataset_integrity(sys.argv[1], num_processes=1)
"""


@pytest.mark.parametrize("order", ["acdc", "mnms"])
def test_nnunets_own_check_accepts_it(tmp_path: Path, order: str) -> None:
    """Whole and partial labels, real and generated, oblique and upright."""
    python = nnunet_python()
    out = tmp_path / "raw" / NAME
    tilted = replace(small("tilted"), affine=scanned().affine)
    items = [*three(tmp_path), as_item(without_rv(small("partial"))), as_item(tilted)]
    export_nnunet(items, out, order=order)
    folders = {name: str(tmp_path / name) for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")}
    command = [python, "-c", CHECK, str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **folders})
    told = done.stdout + done.stderr
    assert done.returncode == 0, told
    assert "verify_dataset_integrity Done" in told
    assert "Error:" not in told
    assert "Warning" not in told
