"""The paper's recipe at our size, and what each step from it to ours changes: a ladder, trained with several seeds.

    python benchmarks/ablations.py --data hearts --work ablations --seeds 0 1 2

The ladder is `ablations.yaml`. Each rung trains the stages that its step changes (the others are those of the rung
below), and its weights are scored on the validation people by `cinesynth score`. What is trained and scored is kept in
``--work``, so that the same command goes on where it was stopped. The figures of a finished seed are kept in
``--figures``, and the seed is not run again while the ladder, the data and ``--count`` are the same. Prints a table:
means and standard deviations over the seeds.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import json
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from cinesynth.config import STAGES, apply_override
from cinesynth.data.manifest import data_hash

LADDER = Path(__file__).with_suffix(".yaml")


@dataclass(frozen=True)
class Rung:
    """One recipe, and which stages it does not share with the rung below."""

    name: str
    means: str
    retrains: tuple[str, ...]
    config: dict[str, Any]


def ladder(tree: dict[str, Any]) -> list[Rung]:
    """From the paper's recipe to ours: rung ``n`` keeps the paper's way of all that is mended above it."""
    steps = tree["ladder"]
    names = ["paper", *(step["mends"] for step in steps)]
    meanings = ["the paper's recipe", *(step["means"] for step in steps)]
    retrains = [list(STAGES), *(step["retrains"] for step in steps)]
    rungs = []
    for index, name in enumerate(names):
        config = copy.deepcopy(tree["preset"])
        for step in steps[index:]:
            for key, value in step["paper"].items():
                apply_override(config, f"{key}={json.dumps(value)}")
        rungs.append(Rung(name, meanings[index], tuple(retrains[index]), config))
    return rungs


def run_rung(rung: Rung, below: Path | None, folder: Path, seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Train and score one rung of one seed in ``folder``; what lies there already is kept."""
    scores, seconds, preset, run = (folder / name for name in ("scores.json", "seconds.json", "preset.yaml", "run"))
    if scores.is_file():
        kept = json.loads(scores.read_text())
        if yaml.safe_load(preset.read_text()) != rung.config or kept["about"]["cases"] != arguments.count:
            sys.exit(f"{folder} was made with another ladder or --count: give the same, or another --work")
        return kept | {"seconds": json.loads(seconds.read_text())}
    if not preset.is_file() or yaml.safe_load(preset.read_text()) != rung.config:
        shutil.rmtree(folder, ignore_errors=True)
        begin_rung(rung, below, folder)
    spent: dict[str, float] = json.loads(seconds.read_text())
    data = ["--data", str(arguments.data)]
    for stage in rung.retrains:  # a stage that is done is left at once, one that was stopped goes on
        begun = time.monotonic()
        cinesynth("train", stage, *data, "--run", str(run), "--preset", str(preset), "--set", f"training.seed={seed}")
        spent[stage] = max(spent.get(stage, 0.0), time.monotonic() - begun)
        seconds.write_text(json.dumps(spent))
    shutil.rmtree(folder / "weights", ignore_errors=True)
    cinesynth("bundle", str(run), *data, "--out", str(folder / "weights"))
    asked = ["--split", "validation", "--count", str(arguments.count), "--frames", "2", "--no-control"]
    cinesynth("score", *data, "--weights", str(folder / "weights"), *asked, "--out", str(folder / "made.json"))
    (folder / "made.json").rename(scores)  # the last thing: a rung that has it is done
    return json.loads(scores.read_text()) | {"seconds": spent}


def begin_rung(rung: Rung, below: Path | None, folder: Path) -> None:
    """The stages that the rung does not train, with the time that they took, and its preset."""
    (folder / "run").mkdir(parents=True)
    spent: dict[str, float] = {}
    if below is not None:
        kept = [stage for stage in STAGES if stage not in rung.retrains]
        share(below / "run", folder / "run", kept)
        before = json.loads((below / "seconds.json").read_text())
        spent = {stage: before[stage] for stage in kept}
    (folder / "seconds.json").write_text(json.dumps(spent))
    (folder / "preset.yaml").write_text(yaml.safe_dump(rung.config))


def share(source: Path, run: Path, stages: Sequence[str]) -> None:
    """Copy finished stages and the latents of their codec."""
    for stage in stages:
        for file in source.glob(f"{stage}.*"):
            shutil.copy(file, run / file.name)
    if "vae" in stages:
        shutil.copytree(source / "latents", run / "latents", copy_function=link)


def link(source: str, target: str) -> None:
    Path(target).hardlink_to(source)


def cinesynth(*arguments: str) -> None:
    done = subprocess.run([sys.executable, "-m", "cinesynth", *arguments], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"cinesynth {' '.join(arguments)}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")


def figure(scores: dict[str, Any], name: str) -> float:
    value: float = scores["codec"]["all"]["figures"][name]["mean"]
    return value


COLUMNS: dict[str, Callable[[dict[str, Any]], float | None]] = {
    "PSNR dB": lambda s: figure(s, "PSNR"),
    "Dice LV": lambda s: figure(s, "Dice LV"),
    "Dice MYO": lambda s: figure(s, "Dice MYO"),
    "Dice RV": lambda s: figure(s, "Dice RV"),
    "cycle RMSE %": lambda s: s["cycles"]["rmse_ends"],
    "EDV r": lambda s: s["control"]["EDV mL"]["r"],
    "EDV MAE mL": lambda s: s["control"]["EDV mL"]["mae"],
    "EF r": lambda s: s["control"]["EF %"]["r"],
    "EF MAE": lambda s: s["control"]["EF %"]["mae"],
    "accepted": lambda s: s["accepted"]["rate"],
    "copies": lambda s: s["memorisation"]["image"]["rate"],
    "s a case": lambda s: s["seconds_per_case"],
    "training min": lambda s: sum(s["seconds"].values()) / 60,
}


Figures = dict[str, dict[str, float | None]]
"""By rung and column."""


def seed_figures(rungs: list[Rung], seed: int, arguments: argparse.Namespace) -> Figures:
    """The figures of every rung of one seed: those that are kept, or trained and scored now."""
    kept = arguments.figures / f"seed{seed}.json"
    ladder_sha256 = hashlib.sha256(arguments.ladder.read_bytes()).hexdigest()
    key = {"ladder": ladder_sha256, "data_hash": data_hash(arguments.data), "count": arguments.count}
    if kept.is_file() and (known := json.loads(kept.read_text()))["of"] == key:
        figures: Figures = known["figures"]
        return figures
    found, below = {}, None
    for index, rung in enumerate(rungs):
        folder = arguments.work / f"seed{seed}" / f"{index}-{rung.name.replace(' ', '-')}"
        scores = run_rung(rung, below, folder, seed, arguments)
        found[rung.name] = {name: read(scores) for name, read in COLUMNS.items()}
        print(f"seed {seed}, {rung.name}: done", file=sys.stderr)
        below = folder
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps({"of": key, "figures": found}, indent=1) + "\n")
    return found


def cell(values: list[float | None]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    spread = f" ± {statistics.stdev(known):.2g}" if len(known) > 1 else ""
    return f"{statistics.fmean(known):.3g}{spread}" + (f" ({len(known)})" if len(known) < len(values) else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--count", type=int, default=34, help="hearts that each rung generates")
    parser.add_argument("--ladder", type=Path, default=LADDER)
    parser.add_argument("--figures", type=Path, default=LADDER.with_suffix(""), help="of finished seeds, small JSON")
    arguments = parser.parse_args()
    rungs = ladder(yaml.safe_load(arguments.ladder.read_text()))
    seeds = [seed_figures(rungs, seed, arguments) for seed in arguments.seeds]
    print(f"{len(seeds)} seeds\n\n| | {' | '.join(COLUMNS)} |\n|---{'|---' * len(COLUMNS)}|")
    for rung in rungs:
        print(
            f"| {rung.name} | {' | '.join(cell([figures[rung.name][name] for figures in seeds]) for name in COLUMNS)} |"
        )
    for rung in rungs:
        print(f"\n- {rung.name}: {rung.means}", end="")
    print()


if __name__ == "__main__":
    main()
