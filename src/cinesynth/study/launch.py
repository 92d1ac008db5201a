"""The units of a study on a cluster: a Slurm job each, through submitit, those that need others after them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cinesynth.errors import InputError
from cinesynth.study.run import StudyRun

if TYPE_CHECKING:
    from collections.abc import Sequence

LOGS = "jobs"


def submit(run: StudyRun, spec: Path, options: dict[str, Any]) -> dict[str, str]:
    """Hand every unit that is not finished to Slurm; the job of each by its name.

    ``options`` are Slurm's, without dashes: ``partition``, ``gres``, ``time`` and the like. A job is the same command
    with ``--unit``: it may be submitted again, and what is finished is not done again.
    """
    import submitit

    jobs: dict[str, str] = {}
    finished = run.finished()
    for unit in [unit for unit in run.units() if unit.name not in finished]:
        given = dict(options)
        if unit.after in jobs:
            given["dependency"] = f"afterok:{jobs[unit.after]}"
        executor = submitit.AutoExecutor(folder=run.out / LOGS / unit.name, cluster="slurm")
        executor.update_parameters(name=f"cinesynth-{unit.name}", **_as_submitit(given))
        job = executor.submit(submitit.helpers.CommandFunction(command(spec, run.out, unit.name)))
        jobs[unit.name] = str(job.job_id)
    return jobs


def command(spec: Path, out: Path, unit: str) -> list[str]:
    """The command line of one unit."""
    return [sys.executable, "-m", "cinesynth", "study", str(spec), "--out", str(out), "--unit", unit]


def parse_options(texts: Sequence[str]) -> dict[str, Any]:
    """``KEY=VALUE`` each; `InputError` where one is not."""
    options: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key.replace("_", "").isalpha():
            raise InputError(f"--slurm {text!r} is not of the form KEY=VALUE", hint="for example --slurm partition=gpu")
        options[key] = int(value) if value.isdigit() else value
    return options


def _as_submitit(options: dict[str, Any]) -> dict[str, Any]:
    """submitit has a name of its own for the time; the rest is Slurm's."""
    minutes = {"timeout_min": options.pop("timeout_min")} if "timeout_min" in options else {}
    return {**minutes, "slurm_additional_parameters": options}
