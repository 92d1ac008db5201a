"""Sampling steps and guidance of a diffusion model, tried on what validation people had: no mask is steered.

    python benchmarks/sampling.py --data hearts --weights compact --model anatomy --steps 12 24 --guidance 1 1.25 2

Every pair is tried with the same requests and start noise; the other model stays as the weights have it. Prints how
ED and ES (``--model anatomy``: the EDV above all) follow the request and how many hearts pass the anatomical rules.
Then: `cinesynth bundle --set anatomy.diffusion.guidance=...`.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from pathlib import Path
from statistics import median

from cinesynth.data.geometry import Grid
from cinesynth.data.packed import prepare
from cinesynth.evaluation.agreement import Agreement, agree
from cinesynth.evaluation.cases import without_phantoms
from cinesynth.evaluation.requests import requests_of, score_control
from cinesynth.synthesis.pipeline import CinePipeline

QUANTITIES = ("EDV mL", "ESV mL", "EF %", "RV EDV mL", "mass g")


def row(name: str, agreements: list[Agreement], accepted: str, seconds: float) -> str:
    by_name = {a.quantity: a for a in agreements}
    cells = [f"{a.r:.3f}, {a.slope:.2f}, {a.bias:+.0f}, {a.mae:.1f}" for q in QUANTITIES if (a := by_name.get(q))]
    return f"| {' | '.join([name, accepted, *cells, f'{seconds:.2g}'])} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", default=None)
    parser.add_argument("--model", choices=("anatomy", "dynamics"), required=True)
    parser.add_argument("--steps", type=int, nargs="+", required=True)
    parser.add_argument("--guidance", type=float, nargs="+", required=True)
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    pipe = CinePipeline.from_pretrained(arguments.weights, device="cpu")
    people = without_phantoms(prepare(arguments.data, Grid.from_config(pipe.bundle.config.grid)).split("validation"))
    requests = requests_of(people, arguments.count, arguments.seed, pipe.told, control=False)
    model = getattr(pipe.bundle, arguments.model)
    before = model.config
    asked = f"{len(people.records)} people, {len(requests)} hearts, seed {arguments.seed}"
    print(f"{arguments.model}: {asked}; r, slope, bias, MAE")
    print(f"| steps, guidance | accepted | {' | '.join(QUANTITIES)} | s a heart |\n|{'---|' * (len(QUANTITIES) + 3)}")
    for steps, guidance in itertools.product(arguments.steps, arguments.guidance):
        model.config = before.model_copy(update={"sampling_steps": steps, "guidance": guidance})
        found = score_control(pipe, requests, lambda *_: None)
        accepted = f"{found.accepted}/{found.cases}"
        print(row(f"{steps}, {guidance:g}", agree(found.pairs), accepted, median(found.seconds)))
        sys.stdout.flush()


if __name__ == "__main__":
    main()
