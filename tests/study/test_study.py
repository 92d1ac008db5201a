"""A whole study of analytic hearts: generators, hearts, cells, report; killed, gone on with, changed."""

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
from cinesynth.study import runs as cells
from cinesynth.study.metrics import judged
from cinesynth.study.report import write_report
from cinesynth.study.run import StudyRun
from cinesynth.study.runs import Task
from cinesynth.study.spec import MixSpec, NnunetSpec, read_spec
from cinesynth.training.frames import Frames
from cinesynth.training.trainer import Report
from cinesynth.types import Label, LabelArray, volumes_ml
from tests.conftest import Run
from tests.training.tiny import TINY

SEGMENTER = ["training.segmenter.steps=4", "training.segmenter.batch_size=1", "grid.size=[96, 96, 12]"]
QUICK = {
    "train": {"vendors": ["phantom-A", "phantom-B"], "splits": ["train"]},
    "tests": {
        "home": {"vendors": ["phantom-A", "phantom-B"], "splits": ["test"]},
        "away": {"vendors": ["phantom-C"], "unseen": True},
    },
    "people": [4],
    "ratios": [0.5],
    "judged_ratio": 0.5,
    "plain": False,
    "synthetic_only": False,
    "seeds": [0, 1],
    "engine": {
        "name": "unet",
        "preset": "smoke",
        "set": ["training.segmenter.steps=4", "training.segmenter.batch_size=1", "grid.size=[96, 96, 12]"],
    },
    "generator": {"preset": "smoke", "set": TINY},
    "cohort": {"frames": 2, "control": False, "tries": 1, "accepted_only": False},
}


def quiet(name: str, done: int, total: int, figures: dict[str, float]) -> None:
    """Nobody watches."""


def written(folder: Path, data: Path, **changes: object) -> Path:
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump({"data": str(data), **QUICK, **changes}))
    return path


@pytest.fixture(scope="module")
def done(twenty: Path, tmp_path_factory: pytest.TempPathFactory) -> StudyRun:
    """The study with all its cells."""
    folder = tmp_path_factory.mktemp("done")
    run = StudyRun(read_spec(written(folder, twenty)), folder / "out", quiet)
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


def test_half_as_many_generated_hearts_as_people(done: StudyRun) -> None:
    rows = DatasetTable.read(done.pool(4)).rows
    assert [row.dataset for row in rows] == ["people"] * 4 + ["generated"] * 2
    learned = {
        cell.arm.name: json.loads(done.task(cell).scores.read_text())["learned_from"] for cell in done.results().found
    }
    assert learned["real"] == [f"people_{row.subject}" for row in done.people.labelled(4)]
    assert learned["x0.5"] == [*learned["real"], "generated_case_0000", "generated_case_0001"]


def test_the_generator_knows_nobody_else(done: StudyRun) -> None:
    (weights,) = (done.out / "generators").rglob("bundle.json")
    index = json.loads(weights.read_text())
    (regime,) = (done.out / "regimes").iterdir()
    assert {row.subject for row in DatasetTable.read(regime)} <= {row.subject for row in done.people.train}
    from cinesynth.data.dataset_table import data_hash

    assert index["data_hash"] == data_hash(regime)


def test_labels_lie_on_the_scanners_voxels(done: StudyRun) -> None:
    cell = next(iter(done.results().found))
    folder = done.task(cell).folder / "labels"
    rows = done.people.tests["away"]
    assert len(list(folder.glob("away_*.npz"))) == len(rows)
    for row in rows:
        study = judged(load_study(done.people.data, row))
        with np.load(folder / f"away_people_{row.subject}.npz", allow_pickle=False) as content:
            assert content["label"].shape == study.label.shape


def test_finished_cells_are_left_alone_and_other_code_makes_new_ones(
    done: StudyRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path: path.stat().st_mtime_ns for path in done.out.rglob("*") if path.is_file()}
    for unit in done.units():
        done.unit(unit.name)
    assert {path: path.stat().st_mtime_ns for path in done.out.rglob("*") if path.is_file()} == before
    monkeypatch.setattr(cells, "code_digest", lambda: "other")
    assert done.finished() == {"hearts-4"}


def test_other_people_are_tested_by_the_segmenters_that_are_there(done: StudyRun, tmp_path: Path) -> None:
    shutil.copytree(done.out, tmp_path / "out")
    tests = {"away": done.spec.tests["away"]}
    run = StudyRun(done.spec.model_copy(update={"tests": tests}), tmp_path / "out", quiet)
    assert run.finished() == {"hearts-4"}
    cell = next(cells.cells_of(run.spec))
    weights = run.task(cell).folder / "segmenter.safetensors"
    before = weights.stat().st_mtime_ns
    run.cell(cell)
    assert weights.stat().st_mtime_ns == before
    ((_, scored),) = run.results().found.items()
    assert np.array_equal(scored["away"]["dice"], done.results().found[cell]["away"]["dice"], equal_nan=True)


def test_another_question_makes_new_cells_and_keeps_the_generator(done: StudyRun) -> None:
    engine = done.spec.engine.model_copy(update={"set": ("training.segmenter.steps=5",)})
    assert StudyRun(done.spec.model_copy(update={"engine": engine}), done.out, quiet).finished() == {"hearts-4"}
    hearts = done.spec.cohort.model_copy(update={"seed": 9})
    kept = StudyRun(done.spec.model_copy(update={"cohort": hearts}), done.out, quiet).finished()
    assert kept == {"4-real-0", "4-real-1"}  # people alone


class Picky:
    """Sees the masks of every second case, and nothing in the others."""

    def train(self, task: Task, report: Report) -> None:
        """Nothing to learn."""
        assert {row.dataset for row in task.rows} == {"people"}

    def labels(self, task: Task, data: Path, people: Sequence[SubjectRow]) -> Iterator[LabelArray]:
        for number, row in enumerate(people):
            yield judged(load_study(data, row)).label * np.uint8(number % 2)


def test_hearts_are_kept_whose_masks_are_seen_and_stand_in_peoples_chests(done: StudyRun) -> None:
    mix = MixSpec(agreeing=0.5, surroundings=True)
    run = StudyRun(done.spec.model_copy(update={"mix": mix}), done.out, quiet)
    run.__dict__["engine"] = Picky()
    rows = [row for row in DatasetTable.read(run.pool(4)).rows if row.dataset == "generated"]
    assert [row.subject for row in rows] == ["case_0001", "case_0003"]
    first, second = (load_study(run.pool(4), row) for row in rows)
    before = load_study(done.pool(4), DatasetTable.read(done.pool(4)).rows[-1])  # the same heart by itself
    assert before.subject == first.subject
    (width, wide), ml = (study.image.shape[1] for study in (before, first)), before.voxel_ml
    assert wide == round(1.5 * width)
    assert np.array_equal(volumes_ml(first.label, Label.LV, first.voxel_ml), volumes_ml(before.label, Label.LV, ml))
    beside = (wide - width) // 2
    assert not np.array_equal(first.image[0, :beside, :, 0], second.image[0, :beside, :, 0])  # another person


def test_people_are_as_much_of_a_batch_as_is_said(done: StudyRun) -> None:
    mix = MixSpec(people_share=0.75)
    run = StudyRun(done.spec.model_copy(update={"mix": mix}), done.out, quiet)
    shares = {cell.arm.name: run.task(cell).people_share for cell in cells.cells_of(run.spec)}
    assert shares == {"real": None, "x0.5": 0.75}
    pool = prepare(done.pool(4), Grid.from_config(done.spec.engine.config.grid))
    for apart, expected in ((None, 2 / 6), (0.25, 0.25), (0.9, 0.9)):
        frames = Frames(pool, 0, 0.0, apart)
        drawn = [frames.record(frames.draw("frames", step, 0)[0]).dataset for step in range(600)]
        assert drawn.count("generated") / 600 == pytest.approx(expected, abs=0.06)
    with pytest.raises(ValidationError, match="nnU-Net draws everybody as often"):
        done.spec.model_validate({**done.spec.model_dump(), "engine": {"name": "nnunet"}, "mix": mix.model_dump()})


def test_what_stands_in_a_preset_counts_and_not_its_name(twenty: Path, tmp_path: Path) -> None:
    """A file of the same name with other steps makes other hearts and other cells; a place to install, none."""
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


def test_the_report_says_what_was_found(done: StudyRun) -> None:
    page = write_report(done, "cinesynth study study.yaml --out out").read_text()
    assert "4 of 4 cells are finished" in page
    assert page.count("the paper says") == 4  # of the unseen vendor alone
    assert "| real + 0.5 x generated |" in page
    assert "6 of " not in page
    for name in ("gains-home", "gains-away", "worst-home", "worst-away"):
        assert f"![{name}]({name}.png)" in page
        assert (done.out / f"{name}.png").read_bytes()[:4] == b"\x89PNG"
    content = json.loads((done.out / "results.json").read_text())
    assert content["cells"] == {"finished": 4, "all": 4}
    assert str(done.people.data) not in json.dumps(content)
    gains = [f["gain"]["mean"]["value"] for f in content["found"] if f["group"] == "away" and f["arm"] == "x0.5"]
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
    """kill -9 until it is through: the scores are those of a study that nobody disturbed."""
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
    for path in (done.out / "cells").rglob("scores-*.json"):
        assert (tmp_path / path.relative_to(done.out)).read_text() == path.read_text()
