"""How the cost of a case grows with its frames and slices, and that of a cohort with its cases and processes.

    python benchmarks/scaling.py --quick
    python benchmarks/scaling.py --only frames slices --json scaling.json

frames, slices  one steered case of a loaded pipeline, one attempt, so that each run does the same work
cases           ``cinesynth generate --count``, whole processes, steered cases of drawn priors
processes       the same cohort of ten cases in equal shares, the cores divided among the processes

Each table ends with two fits by least squares: the exponent p of a power law s = c * n^p, and s = a + b * n, whose a is
the part that does not grow. Nothing else may run on the machine meanwhile.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import numpy as np
import torch

from cinesynth.synthesis.pipeline import CinePipeline
from cinesynth.synthesis.request import Request
from cinesynth.types import ClinicalPrior, Diagnosis

FRAMES, SLICES, COHORT_FRAMES, COHORT_CASES = 30, 10, 20, 10


@dataclass(frozen=True)
class Axis:
    """What grows, at which points it is measured, and at which with ``--quick``."""

    name: str
    points: tuple[int, ...]
    quick: tuple[int, ...]


AXES = (
    Axis("frames", (2, 5, 10, 20, 30, 50, 100), (2, 10, 30)),
    Axis("slices", (5, 7, 10, 13, 16), (5, 10, 16)),
    Axis("cases", (1, 2, 5, 10, 20, 50), (1, 2, 4)),
    Axis("processes", (1, 2), (1, 2)),
)


@dataclass(frozen=True)
class Fit:
    """Of seconds against n."""

    exponent: float
    fixed_s: float
    each_s: float


@dataclass(frozen=True)
class Curve:
    """Seconds of every run at each point."""

    name: str
    points: list[int]
    seconds: list[list[float]]
    fit: Fit


def fitted(points: Sequence[int], seconds: Sequence[float]) -> Fit:
    """The exponent on logarithms, and the straight line, by least squares."""
    each_s, fixed_s = np.polyfit(points, seconds, 1)
    exponent, _ = np.polyfit(np.log(points), np.log(seconds), 1)
    return Fit(float(exponent), float(fixed_s), float(each_s))


def case_seconds(pipe: CinePipeline, frames: int, slices: int) -> float:
    """One steered case, with nothing written."""
    prior = ClinicalPrior.from_ef(Diagnosis.NOR, 130.0, 62.0, slices)
    begun = time.perf_counter()
    list(pipe.generate([Request(prior, seed=5, frames=frames, max_attempts=1)]))
    return time.perf_counter() - begun


def cohort_seconds(weights: str, cases: int, processes: int, frames: int) -> float:
    """A cohort by as many processes, each with its share of the cores."""
    threads = str(max(1, (os.cpu_count() or 1) // processes))
    command = [sys.executable, "-m", "cinesynth", "generate", "--count", str(cases), "--frames", str(frames)]
    with tempfile.TemporaryDirectory(prefix="scaling-") as folder:
        command += ["--seed", "1", "--weights", weights, "--out", folder + "/cohort"]
        begun = time.perf_counter()
        running = [
            subprocess.Popen(
                command,
                env=os.environ | {"RANK": str(rank), "WORLD_SIZE": str(processes), "OMP_NUM_THREADS": threads},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            for rank in range(processes)
        ]
        if any([process.wait() for process in running]):
            raise SystemExit(f"{' '.join(command)} failed")
        return time.perf_counter() - begun


def measure_of(name: str, weights: str, pipe: CinePipeline) -> Callable[[int], float]:
    """Seconds at a point of an axis."""
    if name == "cases":
        return lambda n: cohort_seconds(weights, n, 1, COHORT_FRAMES)
    if name == "processes":
        return lambda n: cohort_seconds(weights, COHORT_CASES, n, COHORT_FRAMES)
    case_seconds(pipe, 2, SLICES)  # the first case is slower than others
    if name == "frames":
        return lambda n: case_seconds(pipe, n, SLICES)
    return lambda n: case_seconds(pipe, FRAMES, n)


def curve(name: str, points: Sequence[int], measure: Callable[[int], float], repeats: int) -> Curve:
    """Measure an axis in rounds, so that a slow minute of the machine does not fall on one point alone."""
    rounds = [[measure(point) for point in points] for _ in range(repeats)]
    seconds = [list(runs) for runs in zip(*rounds, strict=True)]
    return Curve(name, list(points), seconds, fitted(points, [median(runs) for runs in seconds]))


def told(found: Curve) -> str:
    """The curve in Markdown."""
    lines = [f"| {found.name} | s | s each |", "|--:|--:|--:|"]
    for point, runs in zip(found.points, found.seconds, strict=True):
        range_s = f" ({min(runs):.1f}-{max(runs):.1f})" if len(runs) > 1 else ""
        lines.append(f"| {point} | {median(runs):.1f}{range_s} | {median(runs) / point:.2f} |")
    fit = found.fit
    lines += ["", f"exponent {fit.exponent:.2f}; {fit.fixed_s:.1f} s + {fit.each_s:.2f} s x {found.name}", ""]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [axis.name for axis in AXES]
    parser.add_argument("--only", nargs="+", choices=names, default=names, help="what grows")
    parser.add_argument("--quick", action="store_true", help="fewer points")
    parser.add_argument("--repeats", type=int, default=1, help="runs at each point")
    parser.add_argument("--weights", default="compact")
    parser.add_argument("--json", type=Path, help="file to write")
    arguments = parser.parse_args()
    machine = {"cores": os.cpu_count(), "threads": torch.get_num_threads(), "platform": platform.platform()}
    machine |= {"torch": str(torch.__version__), "weights": arguments.weights}
    print(", ".join(f"{key} {value}" for key, value in machine.items()), end="\n\n", flush=True)
    pipe, curves = CinePipeline.from_pretrained(arguments.weights), []
    for axis in AXES:
        if axis.name in arguments.only:
            points = axis.quick if arguments.quick else axis.points
            points = [n for n in points if axis.name != "slices" or n <= pipe.grid.size[2]]
            measure = measure_of(axis.name, arguments.weights, pipe)
            curves.append(curve(axis.name, points, measure, arguments.repeats))
            print(told(curves[-1]), flush=True)
    if arguments.json:
        content = {**machine, "curves": [asdict(found) for found in curves]}
        arguments.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
