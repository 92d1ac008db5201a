"""nnU-Net as an engine: the real package, planned, trained for a moment and asked."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cinesynth.data.dataset_table import DatasetTable
from cinesynth.data.ingest import ingest
from cinesynth.data.packed import load_study
from cinesynth.errors import ExternalError, InputError
from cinesynth.study.datasets import pool
from cinesynth.study.metrics import judged
from cinesynth.study.nnunet import CELL, Nnunet
from cinesynth.study.runs import Task
from cinesynth.study.spec import NnunetSpec
from cinesynth.study.subjects import people_of
from tests.external import nnunet_python
from tests.study.test_study import quiet
from tests.study.test_subjects import spec_of


def small_task(twenty: Path, folder: Path, augment: bool = True) -> Task:
    people = people_of(spec_of(twenty))
    made = pool(people, people.labelled(4), [], folder / "4")
    return Task(folder / "cell", folder / "cell" / "scores.json", made, people.labelled(4), augment, 0)


def test_without_nnunet_the_error_says_how_to_get_it(twenty: Path, tmp_path: Path) -> None:
    engine = Nnunet(NnunetSpec(name="nnunet", device="cpu", bin=tmp_path))
    with pytest.raises(InputError, match="there is no nnUNetv2_extract_fingerprint in"):
        engine.train(small_task(twenty, tmp_path), quiet)


def test_what_nnunet_says_when_it_fails_is_shown(twenty: Path, tmp_path: Path) -> None:
    program = tmp_path / "bin" / "nnUNetv2_extract_fingerprint"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho no space for $nnUNet_raw\nexit 3\n")
    program.chmod(0o755)
    engine = Nnunet(NnunetSpec(name="nnunet", device="cpu", bin=program.parent))
    with pytest.raises(ExternalError, match=r"nnUNetv2_extract_fingerprint failed:\nno space for .*cell/raw"):
        engine.train(small_task(twenty, tmp_path), quiet)


@pytest.mark.slow
def test_nnunet_learns_and_labels_on_the_scanners_voxels(twenty: Path, tmp_path: Path) -> None:
    """Without augmentation: that overrides most, and predicts fastest."""
    folder = Path(nnunet_python()).parent
    engine = Nnunet(NnunetSpec(name="nnunet", device="cpu", bin=folder, epochs=1, iterations=2))
    task = small_task(twenty, tmp_path, augment=False)
    engine.train(task, quiet)
    said = (task.folder / "nnunet.log").read_bytes()
    engine.train(task, quiet)  # finished: nothing is done again
    assert (task.folder / "nnunet.log").read_bytes() == said
    assert not (task.folder / "raw").exists()
    rows = people_of(spec_of(twenty)).tests["away"][:1]
    (label,) = engine.labels(task, twenty, rows)
    assert label.shape == judged(load_study(twenty, rows[0])).label.shape
    assert set(np.unique(label)) <= {0, 1, 2, 3}


@pytest.mark.slow
def test_arms_are_planned_alike(twenty: Path, tmp_path: Path) -> None:
    """Generated hearts of larger voxels are learned from, and change nothing of the plan."""
    engine = Nnunet(NnunetSpec(name="nnunet", device="cpu", bin=Path(nnunet_python()).parent, memory_gb=1))
    few = [load_study(twenty, row) for row in people_of(spec_of(twenty)).labelled(4)[:3]]
    larger = np.diag([2.0, 2.0, 1.0, 1.0])
    generated = [replace(study, dataset="generated", affine=study.affine @ larger) for study in few]
    ingest([*few, *generated], tmp_path / "pool", fractions=(1.0, 0.0, 0.0))
    rows = DatasetTable.read(tmp_path / "pool").rows
    plans = {}
    for name, chosen in (("alone", [row for row in rows if row.dataset == "people"]), ("both", rows)):
        task = Task(tmp_path / name, tmp_path / name / "scores.json", tmp_path / "pool", tuple(chosen), True, 0)
        engine._prepare(task, quiet)
        plans[name] = json.loads((task.folder / "preprocessed" / CELL[1] / "nnUNetPlans.json").read_text())
        seen = task.folder / "preprocessed" / CELL[1] / plans[name]["configurations"]["2d"]["data_identifier"]
        assert len(list(seen.glob("*.pkl"))) == 6 * len(chosen)  # every frame
    assert plans["alone"] == plans["both"]
    middle = sorted(study.spacing_mm[0] for study in few)[1]
    assert plans["both"]["configurations"]["2d"]["spacing"] == pytest.approx([middle, middle])
