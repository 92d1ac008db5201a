"""The units of a study as jobs: submitted through submitit, each after the unit it depends on."""

from pathlib import Path
from typing import ClassVar

import pytest

from cinesynth.errors import InputError
from cinesynth.io.tasks import no_progress
from cinesynth.study.run import StudyRun, command, parse_options, submit
from cinesynth.study.spec import read_spec
from tests.study.test_study import written


class Executor:
    """Records what submitit is asked to run."""

    asked: ClassVar[list[dict]] = []

    def __init__(self, folder: Path, cluster: str) -> None:
        self.given: dict = {"folder": folder, "cluster": cluster}

    def update_parameters(self, **parameters: object) -> None:
        self.given |= parameters

    def submit(self, function: object) -> object:
        self.given["command"] = function.command  # type: ignore[attr-defined]
        Executor.asked.append(self.given)
        return type("Job", (), {"job_id": str(100 + len(Executor.asked))})()


def test_runs_wait_for_their_hearts(twenty: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("submitit.AutoExecutor", Executor)
    monkeypatch.setattr(Executor, "asked", [])
    spec = written(tmp_path, twenty, n_labelled=[4, "all"], seeds=[0])
    run = StudyRun(read_spec(spec), tmp_path / "out", no_progress)
    jobs = submit(run, spec, parse_options(["partition=gpu", "gres=gpu:1", "timeout_min=90"]))
    assert jobs == {"hearts-4": "101", "hearts-all": "102", "4-real-0": "103", "4-x0.5-0": "104",
                    "all-real-0": "105", "all-x0.5-0": "106"}  # fmt: skip
    hearts, real = Executor.asked[0], Executor.asked[4]
    assert hearts["timeout_min"] == 90
    assert hearts["slurm_additional_parameters"] == {"partition": "gpu", "gres": "gpu:1"}
    assert "dependency" not in real["slurm_additional_parameters"]  # real subjects alone: nothing to wait for
    assert real["command"] == command(spec, tmp_path / "out", "all-real-0")
    assert real["command"][-2:] == ["--unit", "all-real-0"]
    assert Executor.asked[5]["slurm_additional_parameters"]["dependency"] == "afterok:102"


def test_a_job_is_a_process_of_its_own(twenty: Path, tmp_path: Path) -> None:
    """submitit's local cluster runs jobs as Slurm does, without Slurm."""
    import submitit

    executor = submitit.AutoExecutor(folder=tmp_path / "jobs", cluster="local")
    executor.update_parameters(timeout_min=5)
    spec = written(tmp_path, twenty)
    job = executor.submit(submitit.helpers.CommandFunction(command(spec, tmp_path / "out", "nothing")))
    with pytest.raises(Exception, match="the study has no unit 'nothing'"):
        job.result()


@pytest.mark.parametrize("text", ["gpu", "=gpu", "a-b=1"])
def test_options_are_keys_and_values(text: str) -> None:
    with pytest.raises(InputError, match="is not of the form KEY=VALUE"):
        parse_options([text])
