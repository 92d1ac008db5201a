"""How much faster one revision of this repository is than another: whole processes, in turn, on one machine.

    CINE_DATA=folder .venv/bin/python benchmarks/against.py ffe2e86 HEAD --work ~/.cache/against --only case help

Checks out both revisions in temporary worktrees and runs the same commands with this interpreter: old, new, old, new,
... `--repeats` times after one run that is not counted. Prints a row for each claim: median seconds and their range,
the ratio with its target, and the peak memory of the process with its workers. Nothing else may run on the machine
meanwhile.

Commands use the options of OLD, which NEW must still accept. The row ``evaluate`` runs each revision's own benchmark,
rows named ``step`` run it through `steps.py`. Rows that need patients are left out without `CINE_DATA`. ``--work``
keeps the datasets of both revisions for the next time; they hold what was ingested from `CINE_DATA`, so keep them out
of the repository.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from statistics import median

from revisions import check_import, environment, git, worktree
from steps import STAGES

Read = Callable[[str], float]
"""Seconds from what a command printed, where the whole process is not what counts."""


@dataclass(frozen=True)
class Row:
    """One claim: NEW runs ``command`` at least ``target`` times as fast as OLD."""

    name: str
    command: str
    target: float
    cases: int = 1
    """Seconds are divided by it."""
    setup: tuple[str, ...] = ()
    """Commands that are run once for each revision and not timed."""
    read: Read | None = None
    real: bool = False
    """Whether it needs `CINE_DATA`."""
    repeats: int | None = None
    """Runs of each revision, where those that were asked for would take hours."""


@dataclass(frozen=True)
class Run:
    """What one run took."""

    seconds: float
    peak_gib: float


def last_json(printed: str) -> dict[str, object]:
    """The JSON object at the end of a benchmark's output."""
    found: dict[str, object] = json.loads(printed[printed.rindex("\n{\n") if "\n{\n" in printed else 0 :])
    return found


def step_of(stage: int) -> Read:
    """Reads the seconds of a training step; `STAGES` numbers the stages."""
    return lambda printed: float(last_json(printed)["rows"][stage]["step_s"])  # type: ignore[index]


CINESYNTH = "-m cinesynth"
CASE = f"{CINESYNTH} generate --diagnosis NOR --edv 130 --ef 62 --slices 10 --frames 30 --seed 5 --out case --overwrite"
COHORT = f"{CINESYNTH} generate --count 20 --frames 20 --seed 1 --out cohort"
HEARTS = (
    f"{CINESYNTH} ingest acdc cine/acdc --out hearts --on-error skip",
    f"{CINESYNTH} ingest nifti cine/mnms_edes --layout mnms_edes --out hearts --on-error skip",
    f"{CINESYNTH} prepare --data hearts --preset compact",
)
SCORE = f"{CINESYNTH} score --data hearts --weights compact --split test --count 0 --out score.json"
EVALUATE = "{tree}/benchmarks/evaluate.py --work evaluation"
STEPS = f"{Path(__file__).resolve().with_name('steps.py')} {{tree}} --steps 5"
ROWS = (
    Row("help", f"{CINESYNTH} --help", 2.0),
    Row("import", "-c 'from cinesynth import CinePipeline'", 2.4),
    Row("case", CASE, 6.0),
    Row("case-open", f"{CASE} --no-control", 4.0),
    Row("cohort", COHORT, 8.0, cases=20, repeats=1),
    Row("score", SCORE, 4.0, setup=HEARTS, real=True, repeats=1),
    Row("evaluate", EVALUATE, 3.0, read=lambda printed: float(str(last_json(printed)["cold_s"])), repeats=2),
    *(
        Row(f"step-{name.replace('_', '-')}", STEPS, 1.5, read=step_of(number), repeats=1)
        for number, name in enumerate(STAGES)
    ),
)
FRESH = ("cohort",)
"""Folders that are emptied before each run: a cohort that is there is not generated again."""


def start(command: str, tree: Path, work: Path, printed: Path) -> Run:
    """Run one command in ``work`` with the code of ``tree``; `SystemExit` with its last lines where it fails."""
    for name in FRESH:
        shutil.rmtree(work / name, ignore_errors=True)
    arguments = [sys.executable, *shlex.split(command.format(tree=tree))]
    begun = time.perf_counter()
    with printed.open("w", encoding="utf-8") as out:
        process = subprocess.Popen(arguments, cwd=work, env=environment(tree, threads=None), stdout=out, stderr=out)
        together_gib = 0.0
        while not (ended := os.wait4(process.pid, os.WNOHANG))[0]:
            together_gib = max(together_gib, memory_gib(process.pid))
            time.sleep(0.02 if time.perf_counter() < begun + 1.0 else 0.2)
    seconds, (_, status, used) = time.perf_counter() - begun, ended
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        lines = printed.read_text(encoding="utf-8").strip().splitlines()
        raise SystemExit(f"{command} failed with the code of {tree}:\n" + "\n".join(lines[-5:]))
    return Run(seconds, max(used.ru_maxrss / 2**20, together_gib))  # kilobytes on Linux


def memory_gib(process: int) -> float:
    """Memory of a process and its workers; what they share counts once. 0 where Linux does not tell."""
    try:
        rollup = Path(f"/proc/{process}/smaps_rollup").read_text(encoding="ascii")
        threads = Path(f"/proc/{process}/task").iterdir()
        children = [child for thread in threads for child in (thread / "children").read_text(encoding="ascii").split()]
    except OSError:  # it has just ended
        return 0.0
    own = next((int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:")), 0)
    return own / 2**20 + sum(memory_gib(int(child)) for child in children)


def prepare(row: Row, tree: Path, work: Path) -> None:
    """Run the set-up of a row that ``work`` does not hold yet."""
    work.mkdir(parents=True, exist_ok=True)
    if row.real and not (work / "cine").exists():
        (work / "cine").symlink_to(Path(os.environ["CINE_DATA"]).resolve())
    for command in row.setup:
        done = work / f"{sha256(command.encode()).hexdigest()[:12]}.done"
        if not done.exists():
            start(command, tree, work, work / "setup.log")
            done.touch()


def timed(row: Row, tree: Path, work: Path, known: dict[tuple[str, Path], tuple[Run, str]]) -> Run:
    """One run of a row; its seconds are those of one case. Rows that read the same output share a run."""
    key = (row.command, tree)
    if row.read is None or row.repeats != 1 or key not in known:
        run = start(row.command, tree, work, work / "printed.log")
        known[key] = run, (work / "printed.log").read_text(encoding="utf-8")
    run, printed = known[key]
    return Run((run.seconds if row.read is None else row.read(printed)) / row.cases, run.peak_gib)


def told(runs: Sequence[Run]) -> str:
    """Median and range of the seconds."""
    seconds = sorted(run.seconds for run in runs)
    return f"{median(seconds):.2f} ({seconds[0]:.2f}-{seconds[-1]:.2f})"


def compare(
    row: Row, sides: Sequence[tuple[Path, Path]], repeats: int, known: dict[tuple[str, Path], tuple[Run, str]]
) -> None:
    """Time both revisions in turn and print the row."""
    for tree, work in sides:
        prepare(row, tree, work)
    count = row.repeats or repeats
    if count > 1:  # disks and caches are warm for both; a row of one run takes so long that it does not matter
        for tree, work in sides:
            timed(row, tree, work, known)
    old: list[Run] = []
    new: list[Run] = []
    for _ in range(count):
        for runs, (tree, work) in zip((old, new), sides, strict=True):
            runs.append(timed(row, tree, work, known))
    ratio = median(run.seconds for run in old) / median(run.seconds for run in new)
    met = "yes" if ratio >= row.target else "no"
    peaks = " | ".join(f"{max(run.peak_gib for run in runs):.2f}" for runs in (old, new))
    print(f"| {row.name} | {told(old)} | {told(new)} | {ratio:.2f} | {row.target:g} | {met} | {peaks} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", metavar="OLD", help="revision to compare with")
    parser.add_argument("new", metavar="NEW", nargs="?", default="HEAD", help="revision that should be faster")
    parser.add_argument("--only", nargs="+", default=[""], metavar="ROW", help="starts of the names of rows to run")
    parser.add_argument("--repeats", type=int, default=5, help="runs of each revision")
    parser.add_argument("--work", type=Path, help="folder that keeps datasets and outputs")
    arguments = parser.parse_args()
    commits = [git("rev-parse", "--verify", f"{name}^{{commit}}").strip() for name in (arguments.old, arguments.new)]
    rows = [row for row in ROWS if row.name.startswith(tuple(arguments.only))]
    with ExitStack() as stack:
        base = arguments.work or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="against-")))
        sides = [(stack.enter_context(worktree(commit)), (base / commit).resolve()) for commit in commits]
        for tree, _ in sides:
            check_import(tree)
        print(f"OLD {commits[0][:12]}, NEW {commits[1][:12]}; {os.cpu_count()} cores\n")
        print("| row | OLD, s | NEW, s | times faster | target | met | OLD, GiB | NEW, GiB |")
        print("|---|--:|--:|--:|--:|---|--:|--:|")
        known: dict[tuple[str, Path], tuple[Run, str]] = {}
        for row in rows:
            if row.real and "CINE_DATA" not in os.environ:
                print(f"| {row.name} | - | - | - | {row.target:g} | CINE_DATA is not set | - | - |")
            else:
                compare(row, sides, arguments.repeats, known)


if __name__ == "__main__":
    main()
