"""Scripts that users copy."""

import os
import subprocess
from pathlib import Path

import pytest

from cinesynth.study.spec import read_spec

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
STUB = """#!/bin/bash
echo "$RANK of $WORLD_SIZE, $OMP_NUM_THREADS threads:" "$@"
"""


@pytest.fixture
def submit(tmp_path: Path):
    """What ``cinesynth`` would be called with, and among which variables, by one task of an array."""
    (tmp_path / "cinesynth").write_text(STUB)
    (tmp_path / "cinesynth").chmod(0o755)
    outside = {k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE", "OMP_NUM_THREADS")}
    outside["PATH"] = f"{tmp_path}:{outside['PATH']}"

    def run(*arguments: str, **slurm: int) -> subprocess.CompletedProcess[str]:
        variables = {f"SLURM_{name.upper()}": str(value) for name, value in slurm.items()}
        command = ["bash", str(EXAMPLES / "cohort.sbatch"), *arguments]
        return subprocess.run(command, env={**outside, **variables}, capture_output=True, text=True, check=False)

    return run


def test_scripts_are_shell() -> None:
    scripts = list(EXAMPLES.glob("*.sbatch"))
    assert scripts
    for script in scripts:
        assert subprocess.run(["bash", "-n", str(script)], check=False).returncode == 0


def test_the_tasks_of_an_array_are_the_shares_of_a_cohort(submit) -> None:
    told = [
        submit("a b.csv", "out", "--seed", "1", array_task_id=i, array_task_count=3, array_task_min=0, cpus_per_task=4)
        for i in range(3)
    ]
    command = "generate --cohort a b.csv --out out --seed 1"
    assert [t.stdout for t in told] == [f"{rank} of 3, 4 threads: {command}\n" for rank in range(3)]
    assert {(t.returncode, t.stderr) for t in told} == {(0, "")}


def test_an_array_may_count_from_anywhere(submit) -> None:
    """As ``--array=1-2`` and ``--array=10-16:3`` do."""
    for first, step, count in ((1, 1, 2), (10, 3, 3)):
        counts = {"array_task_min": first, "array_task_step": step, "array_task_count": count}
        told = [submit("c.csv", "out", array_task_id=first + step * i, **counts).stdout for i in range(count)]
        assert [text.split(",")[0] for text in told] == [f"{rank} of {count}" for rank in range(count)]


def test_what_is_missing_is_told(submit) -> None:
    assert submit("c.csv", array_task_id=0, array_task_count=1).returncode == 2
    assert "SLURM_ARRAY_TASK_ID" in submit("c.csv", "out").stderr


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("study*.yaml")), ids=lambda path: path.stem)
def test_the_studies_are_some(path: Path) -> None:
    spec = read_spec(path)
    assert spec.generator.config.grid.size[2] >= 12  # stacks of that many slices are in the data they name
    assert [name for name, group in spec.tests.items() if group.unseen] == ["Philips", "GE"]
