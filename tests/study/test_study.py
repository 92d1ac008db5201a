"""A whole study of analytic hearts: generators, hearts, runs, report; killed, resumed, changed."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import yaml
from pydantic import ValidationError

from cinesynth.config import dump_config, load_config
from cinesynth.data.dataset_table import DatasetTable, SubjectRow
from cinesynth.data.geometry import Grid
from cinesynth.data.packed import load_study, prepare
from cinesynth.errors import InputError
from cinesynth.io.tasks import ProgressCallback, no_progress
from cinesynth.study import plan
from cinesynth.study.metrics import ed_es_frames
from cinesynth.study.plan import SegmenterTask
from cinesynth.study.report import write_report
from cinesynth.study.run import StudyRun
from cinesynth.study.spec import MixSpec, NnunetSpec, read_spec
from cinesynth.training.frames import FrameSampler
from cinesynth.types import Label, LabelArray, volumes_ml
from tests.conftest import Run
from tests.training.tiny import TINY

SEGMENTER = [
    "training.segmenter.steps=4",
    "training.segmenter.batch_size=1",
    "grid.size=[64, 64, 12]",
    "grid.spacing_mm=[4, 4, 10]",
]
QUICK = {
    "train": {"vendors": ["phantom-A", "phantom-B"], "splits": ["train"]},
    "tests": {
        "home": {"vendors": ["phantom-A", "phantom-B"], "splits": ["test"]},
        "away": {"vendors": ["phantom-C"], "unseen": True},
    },
    "n_labelled": [4],
    "ratios": [0.5],
    "primary_ratio": 0.5,
    "plain": False,
    "synthetic_only": False,
    "seeds": [0, 1],
    "engine": {
        "name": "unet",
        "preset": "smoke",
        "set": SEGMENTER,
    },
    "generator": {"preset": "smoke", "set": TINY},
    "cohort": {"frames": 2, "match_volumes": False, "max_attempts": 1, "accepted_only": False},
}


def written(folder: Path, data: Path, **changes: object) -> Path:
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump({"data": str(data), **QUICK, **changes}))
    return path


@pytest.fixture(scope="module")
def done(twenty: Path, tmp_path_factory: pytest.TempPathFactory) -> StudyRun:
    """The study with all its runs finished."""
    folder = tmp_path_factory.mktemp("done")
    run = StudyRun(read_spec(written(folder, twenty)), folder / "out", no_progress)
    for unit in run.units():
        run.unit(unit.name)
    return run


def test_units_come_after_what_they_need(done: StudyRun) -> None:
    names = [unit.name for unit in done.units()]
    assert names == ["hearts-4", "4-real-0", "4-x0.5-0", "4-real-1", "4-x0.5-1"]
    assert [unit.after for unit in done.units()] == [None, *[None, "hearts-4"] * 2]
    assert done.finished() == set(names)
    with pytest.raises(InputError, match="no unit 'hearts-5'"):
        done.unit("hearts-5")


def test_half_as_many_generated_hearts_as_subjects(done: StudyRun) -> None:
    rows = DatasetTable.read(done.segmenter_dataset(4)).rows
    assert [row.dataset for row in rows] == ["people"] * 4 + ["generated"] * 2
    learned = {
        each.arm.name: json.loads(done.task(each).scores.read_text())["trained_on"] for each in done.results().scores
    }
    assert learned["real"] == [f"people_{row.subject}" for row in done.subjects.labelled(4)]
    assert learned["x0.5"] == [*learned["real"], "generated_case_0000", "generated_case_0001"]


def test_the_generator_sees_the_training_group_only(done: StudyRun) -> None:
    (weights,) = (done.out / "generators").rglob("bundle.json")
    index = json.loads(weights.read_text())
    (dataset,) = (done.out / "generator-datasets").iterdir()
    assert {row.subject for row in DatasetTable.read(dataset)} <= {row.subject for row in done.subjects.train}
    from cinesynth.data.dataset_table import data_hash

    assert index["data_hash"] == data_hash(dataset)


def test_labels_are_on_the_scanners_voxels(done: StudyRun) -> None:
    first = next(iter(done.results().scores))
    folder = done.task(first).folder / "labels"
    rows = done.subjects.tests["away"]
    assert len(list(folder.glob("away_*.npz"))) == len(rows)
    for row in rows:
        study = ed_es_frames(load_study(done.subjects.data, row))
        with np.load(folder / f"away_people_{row.subject}.npz", allow_pickle=False) as content:
            assert content["label"].shape == study.label.shape


def test_finished_runs_are_left_alone_and_other_code_starts_new_ones(
    done: StudyRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path: path.stat().st_mtime_ns for path in done.out.rglob("*") if path.is_file()}
    for unit in done.units():
        done.unit(unit.name)
    assert {path: path.stat().st_mtime_ns for path in done.out.rglob("*") if path.is_file()} == before
    monkeypatch.setattr(plan, "code_digest", lambda: "other")
    assert done.finished() == {"hearts-4"}


def test_other_test_subjects_reuse_the_segmenters(done: StudyRun, tmp_path: Path) -> None:
    shutil.copytree(done.out, tmp_path / "out")
    tests = {"away": done.spec.tests["away"]}
    run = StudyRun(done.spec.model_copy(update={"tests": tests}), tmp_path / "out", no_progress)
    assert run.finished() == {"hearts-4"}
    first = next(plan.training_runs(run.spec))
    weights = run.task(first).folder / "segmenter.safetensors"
    before = weights.stat().st_mtime_ns
    run.train_and_score(first)
    assert weights.stat().st_mtime_ns == before
    ((_, scored),) = run.results().scores.items()
    assert np.array_equal(scored["away"]["dice"], done.results().scores[first]["away"]["dice"], equal_nan=True)


def test_another_engine_starts_new_runs_and_keeps_the_generator(done: StudyRun) -> None:
    engine = done.spec.engine.model_copy(update={"set": ("training.segmenter.steps=5",)})
    assert StudyRun(done.spec.model_copy(update={"engine": engine}), done.out, no_progress).finished() == {"hearts-4"}
    hearts = done.spec.cohort.model_copy(update={"seed": 9})
    kept = StudyRun(done.spec.model_copy(update={"cohort": hearts}), done.out, no_progress).finished()
    assert kept == {"4-real-0", "4-real-1"}  # real subjects alone


class Picky:
    """Predicts the masks of every second case, and nothing in the others."""

    def train(self, task: SegmenterTask, progress: ProgressCallback) -> None:
        """Needs no training."""
        assert {row.dataset for row in task.rows} == {"people"}

    def segment(self, task: SegmenterTask, data: Path, rows: Sequence[SubjectRow]) -> Iterator[LabelArray]:
        for number, row in enumerate(rows):
            yield ed_es_frames(load_study(data, row)).label * np.uint8(number % 2)


def test_the_best_hearts_are_kept_and_pasted_on_real_backgrounds(done: StudyRun) -> None:
    mix = MixSpec(keep_best_fraction=0.5, paste_on_real_background=True)
    run = StudyRun(done.spec.model_copy(update={"mix": mix}), done.out, no_progress)
    run.__dict__["engine"] = Picky()
    rows = [row for row in DatasetTable.read(run.segmenter_dataset(4)).rows if row.dataset == "generated"]
    assert [row.subject for row in rows] == ["case_0001", "case_0003"]
    first, second = (load_study(run.segmenter_dataset(4), row) for row in rows)
    before = load_study(
        done.segmenter_dataset(4), DatasetTable.read(done.segmenter_dataset(4)).rows[-1]
    )  # the same heart, not pasted
    assert before.subject == first.subject
    (width, wide), ml = (study.image.shape[1] for study in (before, first)), before.voxel_ml
    assert wide == round(1.5 * width)
    assert np.array_equal(volumes_ml(first.label, Label.LV, first.voxel_ml), volumes_ml(before.label, Label.LV, ml))
    beside = (wide - width) // 2
    assert not np.array_equal(first.image[0, :beside, :, 0], second.image[0, :beside, :, 0])  # another background


def test_real_frames_have_their_fraction_of_a_batch(done: StudyRun) -> None:
    mix = MixSpec(real_fraction=0.75)
    run = StudyRun(done.spec.model_copy(update={"mix": mix}), done.out, no_progress)
    fractions = {each.arm.name: run.task(each).real_fraction for each in plan.training_runs(run.spec)}
    assert fractions == {"real": None, "x0.5": 0.75}
    dataset = prepare(done.segmenter_dataset(4), Grid.from_config(done.spec.engine.config.grid))
    for apart, expected in ((None, 2 / 6), (0.25, 0.25), (0.9, 0.9)):
        frames = FrameSampler(dataset, 0, 0.0, apart)
        drawn = [frames.record(frames.draw("frames", step, 0)[0]).dataset for step in range(600)]
        assert drawn.count("generated") / 600 == pytest.approx(expected, abs=0.06)
    with pytest.raises(ValidationError, match="nnU-Net samples all cases equally often"):
        done.spec.model_validate({**done.spec.model_dump(), "engine": {"name": "nnunet"}, "mix": mix.model_dump()})


def test_the_settings_of_a_preset_count_and_not_its_name(twenty: Path, tmp_path: Path) -> None:
    """A preset file with other settings changes hearts and runs; the folder of nnU-Net's installation does not."""
    preset = tmp_path / "mine.yaml"
    spec = written(tmp_path, twenty, engine={"name": "unet", "preset": "mine.yaml", "set": SEGMENTER})
    preset.write_text(dump_config(load_config("smoke")))
    before = read_spec(spec).engine.resolved()
    assert before == read_spec(spec).engine.resolved()
    preset.write_text(dump_config(load_config("smoke", ["segmenter.neighbours=2"])))
    assert read_spec(spec).engine.resolved() != before
    engines = [NnunetSpec(name="nnunet", bin=folder) for folder in (None, tmp_path)]
    assert engines[0].resolved() == engines[1].resolved()
    assert str(tmp_path) not in json.dumps(engines[1].model_dump(mode="json"))


def test_the_report_of_a_finished_study(done: StudyRun) -> None:
    page = write_report(done, "cinesynth study study.yaml --out out").read_text()
    assert "4 of 4 runs are finished" in page
    assert page.count("; the paper reports ") == 4  # for the unseen vendor only
    assert "| real + 0.5 x generated |" in page
    assert "6 of " not in page
    for name in ("gains-home", "gains-away", "worst-home", "worst-away"):
        assert f"![{name}]({name}.png)" in page
        assert (done.out / f"{name}.png").read_bytes()[:4] == b"\x89PNG"
    content = json.loads((done.out / "results.json").read_text())
    assert content["runs"] == {"finished": 4, "total": 4}
    assert str(done.subjects.data) not in json.dumps(content)
    gains = [f["gain"]["mean"]["value"] for f in content["results"] if f["group"] == "away" and f["arm"] == "x0.5"]
    assert len(gains) == 3


def test_the_command_line(done: StudyRun, run: Run, twenty: Path) -> None:
    spec = done.out.parent / "study.yaml"
    code, out, _ = run("study", spec, "--out", done.out, "--list")
    assert code == 0
    assert out.count("finished") == 5
    code, out, _ = run("study", spec, "--out", done.out)
    assert code == 0
    assert str(done.out / "study.md") in out
    code, _, err = run("study", spec, "--out", done.out, "--unit", "nothing")
    assert code == 2
    assert "the study has no unit 'nothing'" in err
    code, _, err = run("study", twenty / "dataset.csv", "--out", done.out)
    assert code == 2
    assert "holds no settings" in err


@pytest.mark.slow
def test_killed_at_random_moments_it_ends_with_the_same_scores(done: StudyRun, tmp_path: Path) -> None:
    """Killed with SIGKILL until it finishes: the scores are those of an undisturbed study."""
    command = [sys.executable, "-m", "cinesynth", "study", str(done.out.parent / "study.yaml"), "--out", str(tmp_path)]
    moments = np.random.default_rng(0)
    for _ in range(5):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            if process.wait(timeout=float(moments.uniform(6, 25))) == 0:
                break
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            time.sleep(0.1)
    subprocess.run(command, check=True, capture_output=True)
    for path in (done.out / "runs").rglob("scores-*.json"):
        assert (tmp_path / path.relative_to(done.out)).read_text() == path.read_text()
