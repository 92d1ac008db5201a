import csv
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from cinesynth.cases.cohort import COLUMNS
from cinesynth.cases.writing import save_case
from cinesynth.errors import InputError, OutputError
from cinesynth.io.files import file_sha256
from cinesynth.io.tasks import ProgressCallback
from cinesynth.synthesis.cohort import Share, draw_requests, generate_cohort
from cinesynth.synthesis.pipeline import CinePipeline
from cinesynth.synthesis.planning import Plan
from cinesynth.synthesis.request import Request
from cinesynth.types import Cine, ClinicalPrior, Diagnosis


@pytest.fixture(scope="module")
def requests(pipe: CinePipeline) -> list[Request]:
    drawn = draw_requests(pipe, 2, seed=4, frames=3, max_attempts=1)
    return [*drawn, Request(ClinicalPrior(Diagnosis.NOR), seed=9, frames=3, max_attempts=1)]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_cohort_is_cases_and_a_table(pipe: CinePipeline, requests: list[Request], tmp_path: Path) -> None:
    steps: list[tuple[str, int, int]] = []
    rows = generate_cohort(
        pipe,
        requests,
        tmp_path,
        workers=1,
        pictures=False,
        progress=lambda task, done, total, _: steps.append((task, done, total)),
    )
    assert [step for step in steps if step[0] == "generate"] == [("generate", done, 3) for done in range(4)]
    assert {task for task, _, _ in steps} == {"generate", "case: anatomy", "case: motion"}
    with (tmp_path / "cohort.csv").open() as stream:
        table = list(csv.DictReader(stream))
    assert list(table[0]) == list(COLUMNS)
    assert [row["case"] for row in table] == ["case_0000", "case_0001", "case_0002"]
    for row, request in zip(table, requests, strict=True):
        assert row["requested_diagnosis"] == request.prior.diagnosis.value
        assert row["seed"] == str(request.seed)
        assert row["accepted"] in ("True", "False")
    for row in table:
        for name in ("image", "label"):
            assert row[f"{name}_sha256"] == file_sha256(tmp_path / row["case"] / f"{name}.nii.gz")
    assert float(table[0]["requested_lv_edv_ml"]) == requests[0].prior.lv_edv_ml
    assert float(table[0]["achieved_lv_edv_ml"]) == rows[0]["achieved_lv_edv_ml"] > 0
    assert table[2]["requested_lv_edv_ml"] == ""  # unknown is empty, not 0
    assert table[2]["requested_slices"] == ""
    assert int(table[2]["achieved_slices"]) > 0


def test_a_case_of_a_cohort_is_the_case_alone(pipe: CinePipeline, requests: list[Request], tmp_path: Path) -> None:
    generate_cohort(pipe, requests, tmp_path / "cohort")
    save_case(next(pipe.generate(requests[1:2])), tmp_path / "alone")
    assert contents(tmp_path / "cohort" / "case_0001") == contents(tmp_path / "alone")


def test_processes_give_the_voxels_of_one_process(pipe: CinePipeline, requests: list[Request], tmp_path: Path) -> None:
    for workers in (1, 2):
        generate_cohort(pipe, requests, tmp_path / str(workers), workers=workers, pictures=False)
    assert contents(tmp_path / "1") == contents(tmp_path / "2")


def test_an_interrupted_cohort_goes_on(
    pipe: CinePipeline, requests: list[Request], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(task: str, done: int, *_: object) -> None:
        if (task, done) == ("generate", 2):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate_cohort(pipe, requests, tmp_path / "a", workers=1, pictures=False, progress=interrupt)
    first = {name: (tmp_path / "a" / name / "case.json").stat().st_mtime_ns for name in ("case_0000", "case_0001")}
    assert not (tmp_path / "a" / "case_0002").exists()
    generate_cohort(pipe, requests, tmp_path / "a", pictures=False)
    assert all((tmp_path / "a" / name / "case.json").stat().st_mtime_ns == time for name, time in first.items())
    generate_cohort(pipe, requests, tmp_path / "b", pictures=False)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    monkeypatch.setattr(CinePipeline, "_case", lambda *_: pytest.fail("nothing was left to do"))
    generate_cohort(pipe, requests, tmp_path / "a", pictures=False)


def test_shares_make_the_whole(pipe: CinePipeline, requests: list[Request], tmp_path: Path) -> None:
    for share in (Share(1, 2), Share(0, 2)):
        generate_cohort(pipe, requests, tmp_path / "shared", share=share, pictures=False)
    generate_cohort(pipe, requests, tmp_path / "one", pictures=False)
    assert contents(tmp_path / "shared") == contents(tmp_path / "one")
    with pytest.raises(InputError, match="share 2 is outside 0-1"):
        Share(2, 2)


@pytest.mark.slow
@pytest.mark.parametrize("asked", ["count", "file"])
def test_two_processes_make_the_cohort_of_one(weights: Path, tmp_path: Path, asked: str) -> None:
    """As torchrun and accelerate launch start them: the same command with a rank each."""
    file = tmp_path / "cohort.yaml"
    file.write_text("cases: [{diagnosis: DCM, edv: [200, 300], count: 2}, {seed: 5}, {edv: 130, ef: draw}]")

    def start(out: Path, rank: int, of: int) -> subprocess.Popen[bytes]:
        options = ["--count", "4"] if asked == "count" else ["--cohort", str(file)]
        options += ["--frames", "3", "--max-attempts", "1", "--no-pictures", "--seed", "3"]
        command = [sys.executable, "-m", "cinesynth", "generate", "--weights", str(weights), "--out", str(out)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "RANK": str(rank), "WORLD_SIZE": str(of)}
        return subprocess.Popen([*command, *options], env=environment)

    processes = [start(tmp_path / "two", 0, 2), start(tmp_path / "two", 1, 2), start(tmp_path / "one", 0, 1)]
    assert [process.wait(timeout=300) for process in processes] == [0, 0, 0]
    assert len(list((tmp_path / "two").glob("case_*"))) == 4
    assert contents(tmp_path / "two") == contents(tmp_path / "one")


def test_another_request_never_replaces_a_case(pipe: CinePipeline, requests: list[Request], tmp_path: Path) -> None:
    generate_cohort(pipe, requests[:1], tmp_path, pictures=False)
    before = contents(tmp_path)
    other = [Request(requests[0].prior, seed=1, frames=3, max_attempts=1), requests[1]]
    with pytest.raises(OutputError, match=f"case_0000 holds another case: seed {requests[0].seed} there, 1 requested"):
        generate_cohort(pipe, other, tmp_path, pictures=False)
    assert contents(tmp_path) == before
    (tmp_path / "case_0001").mkdir()
    (tmp_path / "case_0001" / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match="case_0001 is not empty"):
        generate_cohort(pipe, requests[:2], tmp_path, pictures=False)


def test_a_cohort_of_an_earlier_version_is_not_continued_with_other_seeds(
    pipe: CinePipeline, requests: list[Request], tmp_path: Path
) -> None:
    short = replace(requests[0], seed=requests[0].seed >> 32)  # what the seed of this case was
    generate_cohort(pipe, [short], tmp_path, pictures=False)
    with pytest.raises(OutputError, match="case_0000 holds another case: seed") as error:
        generate_cohort(pipe, requests[:2], tmp_path, pictures=False)
    assert "finish it with the version that began it" in error.value.hint
    assert not (tmp_path / "case_0001").exists()


def test_a_case_that_another_process_finishes_meanwhile_counts_as_done(
    pipe: CinePipeline, requests: list[Request], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before it is begun here, and while it is computed here."""
    generate_cohort(pipe, requests, tmp_path / "one", pictures=False)
    computed = []

    def both_at_once(self: CinePipeline, plan: Plan, callback: ProgressCallback) -> Cine:
        computed.append(plan.request)
        if len(computed) == 1:  # the other process is faster with this case and the next one
            for name in ("case_0000", "case_0001"):
                shutil.copytree(tmp_path / "one" / name, tmp_path / "two" / name)
        return case(self, plan, callback)

    case = CinePipeline._case
    monkeypatch.setattr(CinePipeline, "_case", both_at_once)
    assert len(generate_cohort(pipe, requests, tmp_path / "two", workers=1, pictures=False)) == 3
    assert computed == [requests[0], requests[2]]
    assert contents(tmp_path / "two") == contents(tmp_path / "one")


def test_drawn_requests_are_hearts_of_the_training_set(pipe: CinePipeline) -> None:
    requests = draw_requests(pipe, 12, seed=1, frames=4)
    assert requests == draw_requests(pipe, 12, seed=1, frames=4)
    assert requests[:5] == draw_requests(pipe, 5, seed=1, frames=4)  # a longer cohort begins with the shorter
    assert len({request.seed for request in requests}) == 12
    for prior in (request.prior for request in requests):
        assert None not in (prior.lv_edv_ml, prior.lv_esv_ml, prior.slices)
    assert {r.prior.diagnosis for r in draw_requests(pipe, 5, diagnosis=Diagnosis.DCM)} == {Diagnosis.DCM}
    with pytest.raises(InputError, match="0 cases"):
        draw_requests(pipe, 0)
