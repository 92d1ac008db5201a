"""The paper's recipe at our size, and what each step from it to ours changes: a ladder, trained with several seeds.

    python benchmarks/ablations.py --data hearts --work ablations --seeds 0 1 2

The ladder is `ablations.yaml`. Each rung trains the stages that its step changes (the others are those of the rung
below), and its weights are scored on the validation people by `cinesynth score`. The figures of each finished rung are
kept in ``--figures`` and it is not run again while the ladder, the people and ``--count`` are the same; what is trained
lies in ``--work``, so that the same command goes on where it was stopped, and without that folder trains what it needs
again. Prints a table: means and standard deviations over the seeds.
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
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from cinesynth.config import STAGES, apply_override
from cinesynth.config.migration import RENAMED_STAGES, migrate_settings, stage_path
from cinesynth.data.dataset_table import DatasetTable
from cinesynth.io.files import write_text
from cinesynth.weights.folder import PARENTS

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
    preset, steps = migrate_settings(tree["preset"]), tree["ladder"]
    names = ["paper", *(step["mends"] for step in steps)]
    meanings = ["the paper's recipe", *(step["means"] for step in steps)]
    retrains = [list(STAGES), *([RENAMED_STAGES.get(stage, stage) for stage in step["retrains"]] for step in steps)]
    rungs = []
    for index, name in enumerate(names):
        config = copy.deepcopy(preset)
        for step in steps[index:]:
            for key, value in step["paper"].items():
                apply_override(config, f"{key}={json.dumps(value)}")
        rungs.append(Rung(name, meanings[index], tuple(retrains[index]), config))
    return rungs


@dataclass(frozen=True)
class Climb:
    """The rungs of one seed, trained in ``work``."""

    rungs: list[Rung]
    data: Path
    work: Path
    seed: int

    def run_of(self, index: int) -> Path:
        """The run of a rung; one that was begun with another recipe is thrown away."""
        rung = self.rungs[index]
        folder = self.work / f"{index}-{rung.name.replace(' ', '-')}"
        preset = folder / "preset.yaml"
        if not preset.is_file() or migrate_settings(yaml.safe_load(preset.read_text())) != rung.config:
            shutil.rmtree(folder, ignore_errors=True)
            (folder / "run").mkdir(parents=True)
            preset.write_text(yaml.safe_dump(rung.config))
        return folder / "run"

    def provide(self, index: int, stage: str) -> None:
        """Have a finished stage in a rung's run: trained there, or taken from the rung below."""
        run = self.run_of(index)
        if stage_path(run, stage, ".json").is_file():
            return
        if stage not in self.rungs[index].retrains:
            self.provide(index - 1, stage)
            share(self.run_of(index - 1), run, stage)
            return
        for needed in PARENTS[stage]:
            self.provide(index, needed)
        preset = run.with_name("preset.yaml")
        given = ["--dataset", str(self.data), "--run", str(run), "--preset", str(preset)]
        cinesynth("train", stage.replace("_", "-"), *given, "--set", f"training.seed={self.seed}")

    def score(self, index: int, count: int) -> dict[str, Any]:
        """What `cinesynth score` finds of the weights of a rung, one try a heart."""
        for stage in STAGES:
            self.provide(index, stage)
        run = self.run_of(index)
        weights, scores = run.with_name("weights"), run.with_name("scores.json")
        shutil.rmtree(weights, ignore_errors=True)
        cinesynth("bundle", str(run), "--dataset", str(self.data), "--out", str(weights))
        asked = [
            "--split",
            "validation",
            "--count",
            str(count),
            "--frames",
            "2",
            "--no-match-volumes",
            "--max-attempts",
            "1",
        ]
        cinesynth("score", "--dataset", str(self.data), "--weights", str(weights), *asked, "--out", str(scores))
        found: dict[str, Any] = json.loads(scores.read_text())
        return found


def share(source: Path, run: Path, stage: str) -> None:
    """Copy a finished stage, and with the codec its latents."""
    if stage == "vae":
        shutil.copytree(source / "latents", run / "latents", copy_function=link, dirs_exist_ok=True)
    for suffix in (".safetensors", ".json"):  # the JSON last: it says that the stage is done
        file = stage_path(source, stage, suffix)
        shutil.copy(file, run / file.name)


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
}


Figures = dict[str, dict[str, float | None]]
"""By rung and column."""


def seed_figures(rungs: list[Rung], seed: int, arguments: argparse.Namespace) -> Figures:
    """The figures of every rung of one seed: those that are kept, and those that are found now."""
    kept = arguments.figures / f"seed{seed}.json"
    people = sorted((row.dataset, row.subject, row.split) for row in DatasetTable.read(arguments.data))
    key = {"ladder": sha256(arguments.ladder.read_bytes()), "people": sha256(json.dumps(people).encode())}
    key["count"] = str(arguments.count)
    known = json.loads(kept.read_text()) if kept.is_file() else {}
    found: Figures = known["figures"] if known.get("of") == key else {}
    climb = Climb(rungs, arguments.data, arguments.work / f"seed{seed}", seed)
    for index, rung in enumerate(rungs):
        if rung.name in found:
            continue
        scores = climb.score(index, arguments.count)
        found[rung.name] = {name: read(scores) for name, read in COLUMNS.items()}
        write_text(kept, json.dumps({"of": key, "figures": found}, indent=1) + "\n")
        print(f"seed {seed}, {rung.name}: done", file=sys.stderr)
    return found


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


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
    parser.add_argument("--count", type=int, default=17, help="hearts that each rung generates")
    parser.add_argument("--ladder", type=Path, default=LADDER)
    parser.add_argument(
        "--figures", type=Path, default=LADDER.parent / "results" / "ablations", help="of finished seeds, small JSON"
    )
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
