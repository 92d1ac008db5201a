"""nnU-Net as an engine: the real package plans, trains for a moment and predicts."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cinesynth.data.dataset_table import DatasetTable
from cinesynth.data.ingest import ingest
from cinesynth.data.packed import load_study
from cinesynth.errors import ExternalError, InputError
from cinesynth.io.tasks import no_progress
from cinesynth.study.engines import RUN, NnunetEngine
from cinesynth.study.generation import segmenter_dataset
from cinesynth.study.metrics import ed_es_frames
from cinesynth.study.plan import SegmenterTask, subjects_of
from cinesynth.study.spec import NnunetSpec
from tests.external import nnunet_python
from tests.study.test_subjects import spec_of


def small_task(twenty: Path, folder: Path, augment: bool = True) -> SegmenterTask:
    subjects = subjects_of(spec_of(twenty))
    made = segmenter_dataset(subjects, subjects.labelled(4), [], folder / "4")
    return SegmenterTask(folder / "run", folder / "run" / "scores.json", made, subjects.labelled(4), augment, 0)


def test_without_nnunet_the_error_says_how_to_get_it(twenty: Path, tmp_path: Path) -> None:
    engine = NnunetEngine(NnunetSpec(name="nnunet", device="cpu", bin=tmp_path))
    with pytest.raises(InputError, match="nnUNetv2_extract_fingerprint was not found in"):
        engine.train(small_task(twenty, tmp_path), no_progress)


def test_the_output_of_a_failed_command_is_shown(twenty: Path, tmp_path: Path) -> None:
    program = tmp_path / "bin" / "nnUNetv2_extract_fingerprint"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho no space for $nnUNet_raw\nexit 3\n")
    program.chmod(0o755)
    engine = NnunetEngine(NnunetSpec(name="nnunet", device="cpu", bin=program.parent))
    with pytest.raises(ExternalError, match=r"nnUNetv2_extract_fingerprint failed:\nno space for .*run/raw"):
        engine.train(small_task(twenty, tmp_path), no_progress)


@pytest.mark.slow
def test_nnunet_trains_and_segments_on_the_scanners_voxels(twenty: Path, tmp_path: Path) -> None:
    """Without augmentation: this overrides most of nnU-Net, and predicts fastest."""
    folder = Path(nnunet_python()).parent
    engine = NnunetEngine(NnunetSpec(name="nnunet", device="cpu", bin=folder, epochs=1, iterations=2))
    task = small_task(twenty, tmp_path, augment=False)
    engine.train(task, no_progress)
    log = (task.folder / "nnunet.log").read_bytes()
    engine.train(task, no_progress)  # finished: nothing is repeated
    assert (task.folder / "nnunet.log").read_bytes() == log
    assert not (task.folder / "raw").exists()
    rows = subjects_of(spec_of(twenty)).tests["away"][:1]
    (label,) = engine.segment(task, twenty, rows)
    assert label.shape == ed_es_frames(load_study(twenty, rows[0])).label.shape
    assert set(np.unique(label)) <= {0, 1, 2, 3}


@pytest.mark.slow
def test_all_arms_share_one_plan(twenty: Path, tmp_path: Path) -> None:
    """Generated hearts with larger voxels are trained on, but do not change the plan."""
    engine = NnunetEngine(NnunetSpec(name="nnunet", device="cpu", bin=Path(nnunet_python()).parent, memory_gb=1))
    few = [load_study(twenty, row) for row in subjects_of(spec_of(twenty)).labelled(4)[:3]]
    larger = np.diag([2.0, 2.0, 1.0, 1.0])
    generated = [replace(study, dataset="generated", affine=study.affine @ larger) for study in few]
    ingest([*few, *generated], tmp_path / "dataset", fractions=(1.0, 0.0, 0.0))
    rows = DatasetTable.read(tmp_path / "dataset").rows
    plans = {}
    for name, chosen in (("alone", [row for row in rows if row.dataset == "people"]), ("both", rows)):
        task = SegmenterTask(
            tmp_path / name, tmp_path / name / "scores.json", tmp_path / "dataset", tuple(chosen), True, 0
        )
        engine._prepare(task, no_progress)
        plans[name] = json.loads((task.folder / "preprocessed" / RUN[1] / "nnUNetPlans.json").read_text())
        seen = task.folder / "preprocessed" / RUN[1] / plans[name]["configurations"]["2d"]["data_identifier"]
        assert len(list(seen.glob("*.pkl"))) == 6 * len(chosen)  # every frame
    assert plans["alone"] == plans["both"]
    middle = sorted(study.spacing_mm[0] for study in few)[1]
    assert plans["both"]["configurations"]["2d"]["spacing"] == pytest.approx([middle, middle])
