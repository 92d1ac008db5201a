"""Whether two revisions give the same bits for the same seed: cases, trained weights, datasets, figures of evaluations.

    CINE_DATA=folder .venv/bin/python benchmarks/identical.py OLD NEW --cache ~/.cache/identical

Checks out each revision in a temporary worktree, runs the same `STEPS` with this interpreter on one thread, compares
what they wrote, and prints one row a step. Exits with 1 if anything differs that `ANNOUNCED` does not list. The steps
use the options of OLD, which NEW must still accept; only the command line is run, so modules may move.

When NEW renames something, add it to a table of `identical_steps.py`: `RENAMED_STAGES`, `RENAMED_TENSORS`,
`RENAMED_KEYS`. When a figure changes on purpose, add it to `ANNOUNCED` with the reason.

Expect minutes of CPU for each revision. ``--cache`` keeps the results of OLD, so that the next comparison runs NEW
alone; it holds what was ingested from `CINE_DATA`, so keep it out of the repository. ``--keep`` keeps those of NEW. A
stopped run goes on from the steps that these folders hold. ``--only case segmenter`` runs the steps whose names start
so, and what they need. Without `CINE_DATA` the dataset of real subjects is skipped.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib.metadata import version
from pathlib import Path

import numpy as np
from identical_steps import ANNOUNCED, LINKS, STEPS, Leaves, Step
from revisions import check_import, child_cpu_s, environment, git, worktree


def chosen(prefixes: Sequence[str], real: bool) -> list[Step]:
    """The steps whose names start with one of ``prefixes``, after those that they need."""
    steps = {step.name: step for step in STEPS}
    names: list[str] = []

    def add(name: str) -> None:
        for needed in steps[name].needs:
            add(needed)
        if name not in names:
            names.append(name)

    for step in STEPS:
        if step.name.startswith(tuple(prefixes)) and (real or not step.real):
            add(step.name)
    return [steps[name] for name in names]


def recipe(step: Step) -> str:
    """What the results of a step depend on besides the revision, as a hash: commands and libraries, here and before."""
    before = [recipe(other) for other in STEPS if other.name in step.needs]
    libraries = [version(name) for name in ("numpy", "torch", "scipy", "monai", "diffusers")]
    known = [step.commands, LINKS if step.real else (), before, sys.version, libraries]
    return hashlib.sha256(json.dumps(known).encode()).hexdigest()


def link_subjects(work: Path) -> None:
    """Links to `LINKS` of `CINE_DATA` in ``work/cine``."""
    for name in LINKS if "CINE_DATA" in os.environ else ():
        link = work / "cine" / name
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.is_symlink():
            link.symlink_to(Path(os.environ["CINE_DATA"]).resolve() / name)


def run_step(step: Step, work: Path, tree: Path) -> None:
    """Run the commands of a step in ``work``; its log says how they ended, and its mark that all went well."""
    shutil.rmtree(work / step.name, ignore_errors=True)
    (work / step.name).parent.mkdir(parents=True, exist_ok=True)
    with (work / f"{step.name}.log").open("w", encoding="utf-8") as log:
        for command in step.commands:
            arguments = [sys.executable, "-m", "cinesynth", *shlex.split(command)]
            if subprocess.run(
                arguments, cwd=work, env=environment(tree), stdout=log, stderr=log, check=False
            ).returncode:
                return
    (work / f"{step.name}.done").write_text(recipe(step))


def is_done(step: Step, work: Path) -> bool:
    mark = work / f"{step.name}.done"
    return mark.is_file() and mark.read_text() == recipe(step)


def produce(commit: str, work: Path, steps: Sequence[Step]) -> None:
    """Run those ``steps`` of a revision that ``work`` does not hold yet."""
    due = [step for step in steps if not is_done(step, work)]
    if not due:
        return
    work.mkdir(parents=True, exist_ok=True)
    link_subjects(work)
    with worktree(commit) as tree:
        check_import(tree)
        for step in due:
            begun, cpu_s = time.perf_counter(), child_cpu_s()
            (work / f"{step.name}.done").unlink(missing_ok=True)
            run_step(step, work, tree)
            ended = "" if is_done(step, work) else " FAILED"
            seconds = f"{time.perf_counter() - begun:.0f} s, {child_cpu_s() - cpu_s:.0f} s of CPU"
            print(f"{commit[:12]} {step.name}: {seconds}{ended}", file=sys.stderr, flush=True)


# --- The comparison


@dataclass(frozen=True)
class Difference:
    """One leaf that differs, and by how much where it is a number; why, where that was announced."""

    path: str
    text: str
    size: float
    reason: str | None


def same_bits(old: object, new: object) -> bool:
    if isinstance(old, np.ndarray) and isinstance(new, np.ndarray):
        return (old.dtype, old.shape) == (new.dtype, new.shape) and old.tobytes() == new.tobytes()
    return isinstance(old, bool) == isinstance(new, bool) and bool(old == new or (old != old and new != new))


def distance(old: object, new: object) -> float:
    """The largest absolute difference of two numbers or arrays; NaN where they cannot be subtracted."""
    try:
        a, b = (np.asarray(value).astype(np.float64) for value in (old, new))
        return float(np.abs(a - b).max()) if a.shape == b.shape else math.nan
    except (TypeError, ValueError):
        return math.nan


def said(value: object) -> str:
    return f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else repr(value)


def compare(step: str, old: Leaves, new: Leaves) -> list[Difference]:
    """Every leaf of a step that is not the same on both sides."""
    found = []
    for path in sorted(old.keys() | new.keys()):
        if path in old and path in new and same_bits(old[path], new[path]):
            continue
        sides = [said(side[path]) if path in side else "absent" for side in (old, new)]
        size = distance(old[path], new[path]) if path in old and path in new else math.nan
        reason = next((why for pattern, why in ANNOUNCED.items() if fnmatchcase(f"{step}: {path}", pattern)), None)
        found.append(Difference(path, " -> ".join(sides), size, reason))
    return found


def failure(step: Step, work: Path) -> str | None:
    """The end of the log of a step that did not finish."""
    if is_done(step, work):
        return None
    lines = (work / f"{step.name}.log").read_text(encoding="utf-8").strip().splitlines()
    return " / ".join(lines[-2:]).replace("|", "/")


def verdict(found: Sequence[Difference], count: int) -> str:
    if not found:
        return f"same | {count}"
    sizes = [difference.size for difference in found if not math.isnan(difference.size)]
    largest = f", largest {max(sizes):.3g}" if sizes else ""
    announced = sum(difference.reason is not None for difference in found)
    return f"{len(found)} differ{largest}{f', {announced} of them announced' if announced else ''} | {count}"


def judge(step: Step, works: Sequence[Path]) -> list[Difference]:
    """Print the row of a step; returns what differs."""
    for side, work in zip(("OLD", "NEW"), works, strict=True):
        if (why := failure(step, work)) is not None:
            print(f"| {step.name} | FAILED in {side}: {why} | - |", flush=True)
            return [Difference(f"{step.name}: failed", why, math.nan, None)]
    old, new = (step.read(work / step.name) for work in works)
    found = compare(step.name, old, new)
    print(f"| {step.name} | {verdict(found, len(old.keys() | new.keys()))} |", flush=True)
    return found


def explain(step: str, found: Sequence[Difference], shown: int) -> None:
    """List what was not announced, and the reasons of what was."""
    unexpected = [difference for difference in found if difference.reason is None]
    for difference in unexpected[:shown]:
        by = "" if math.isnan(difference.size) else f", by {difference.size:.3g}"
        print(f"- `{step}: {difference.path}`: {difference.text}{by}")
    if len(unexpected) > shown:
        print(f"- `{step}`: {len(unexpected) - shown} more")
    for reason in sorted({difference.reason for difference in found if difference.reason}):
        print(f"- `{step}`, announced: {reason}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", metavar="OLD", help="revision whose results count")
    parser.add_argument("new", metavar="NEW", help="revision that should give the same")
    parser.add_argument("--cache", type=Path, help="folder that keeps the results of OLD")
    parser.add_argument("--only", nargs="+", default=[""], metavar="STEP", help="starts of the names of steps to run")
    parser.add_argument("--keep", type=Path, help="folder that keeps the results of NEW, to look at")
    parser.add_argument("--shown", type=int, default=20, help="differences that are listed of each step")
    return parser.parse_args()


def main() -> None:
    arguments = parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # removes the worktree on its way out
    steps = chosen(arguments.only, "CINE_DATA" in os.environ)
    commits = [git("rev-parse", "--verify", f"{name}^{{commit}}").strip() for name in (arguments.old, arguments.new)]
    with tempfile.TemporaryDirectory(prefix="identical-") as temporary:
        folders = (arguments.cache or Path(temporary) / "old", arguments.keep or Path(temporary) / "new")
        works = [(folder / commit).resolve() for folder, commit in zip(folders, commits, strict=True)]
        for commit, work in zip(commits, works, strict=True):
            produce(commit, work, steps)
        print(
            f"\nOLD {commits[0][:12]}, NEW {commits[1][:12]}\n\n| step | result | values |\n|---|---|--:|", flush=True
        )
        found = {step.name: judge(step, works) for step in steps}
    print()
    for name, differences in found.items():
        explain(name, differences, arguments.shown)
    sys.exit(any(difference.reason is None for differences in found.values() for difference in differences))


if __name__ == "__main__":
    main()
