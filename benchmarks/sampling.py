"""Solver, steps and guidance of a diffusion model, tried on what validation people had: no mask is steered.

    python benchmarks/sampling.py --data hearts --model anatomy_diffusion --steps 12 24 --guidance 1 1.25 2
    python benchmarks/sampling.py --data hearts --model anatomy_diffusion --solver euler heun unipc --steps 4 8 16 50

Every combination uses the same requests and start noise; the other model stays as the weights have it. Prints how ED
and ES (``--model anatomy_diffusion``: above all the EDV) follow the request, how many hearts pass the rules of anatomy,
and how far the images are from those of the last combination (RMS of grey values in [-1, 1]): list the finest last to
see the error of the solver. Then: `cinesynth bundle --set anatomy_diffusion.diffusion.guidance=...`.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, median

import numpy as np
from numpy.typing import NDArray

from cinesynth.data.geometry import Grid
from cinesynth.data.packed import prepare
from cinesynth.evaluation.agreement import Agreement, agree
from cinesynth.evaluation.cases import without_phantoms
from cinesynth.evaluation.generation import generate, requests_of
from cinesynth.synthesis.pipeline import CinePipeline
from cinesynth.synthesis.request import Request
from cinesynth.types import Cine

QUANTITIES = ("EDV mL", "ESV mL", "EF %", "RV EDV mL", "mass g")
Images = list[NDArray[np.float16]]


@dataclass(frozen=True)
class Setting:
    """One way to sample, and what came of it."""

    name: str
    agreements: list[Agreement]
    accepted: int
    seconds: float
    images: Images

    def row(self, finest: Images) -> str:
        by_name = {a.quantity: a for a in self.agreements}
        cells = [f"{a.r:.3f}, {a.slope:.2f}, {a.bias:+.0f}, {a.mae:.1f}" for q in QUANTITIES if (a := by_name.get(q))]
        accepted = f"{self.accepted}/{len(self.images)}"
        apart = f"{distance(self.images, finest):.3f}"
        return f"| {' | '.join([self.name, accepted, *cells, apart, f'{self.seconds:.2g}'])} |"


def distance(images: Images, others: Images) -> float:
    """Mean over hearts of the RMS difference of grey values in [-1, 1]."""
    pairs = zip(images, others, strict=True)
    return fmean(float(np.sqrt(np.square(a.astype(np.float32) - b.astype(np.float32)).mean())) for a, b in pairs)


def tried(pipe: CinePipeline, requests: list[Request], name: str, frame: str) -> Setting:
    images: Images = []

    def keep(cine: Cine) -> None:
        images.append(cine.image[getattr(cine, frame)].astype(np.float16))

    found = generate(pipe, requests, seen=keep)
    print(f"{name}: {median(found.seconds):.2g} s a heart", file=sys.stderr)
    return Setting(name, agree(found.pairs), found.accepted, median(found.seconds), images)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", default=None)
    parser.add_argument("--model", choices=("anatomy_diffusion", "motion_diffusion"), required=True)
    parser.add_argument("--steps", type=int, nargs="+", required=True)
    parser.add_argument("--guidance", type=float, nargs="+", default=[None], help="by default the weights'")
    parser.add_argument("--solver", nargs="+", default=["default"])
    parser.add_argument("--interval", type=float, nargs=2, default=None, help="times between which guidance is used")
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    pipe = CinePipeline.from_pretrained(arguments.weights, device="cpu")
    people = without_phantoms(prepare(arguments.data, Grid.from_config(pipe.bundle.config.grid)).split("validation"))
    requests = requests_of(people, arguments.count, arguments.seed, pipe.condition_set, pipe.prior, match_volumes=False)
    requests = [replace(request, max_attempts=1) for request in requests]
    model = getattr(pipe.bundle, arguments.model)
    before = model.config
    settings = []
    for solver, steps, guidance in itertools.product(arguments.solver, arguments.steps, arguments.guidance):
        scale = before.guidance if guidance is None else guidance
        interval = arguments.interval or before.guidance_interval
        changes = {"solver": solver, "sampling_steps": steps, "guidance": scale, "guidance_interval": tuple(interval)}
        model.config = type(before)(**{**before.model_dump(), **changes})
        name = f"{model.config.solver_name}, {steps}, {scale:g}"
        settings.append(
            tried(pipe, requests, name, "ed_index" if arguments.model == "anatomy_diffusion" else "es_index")
        )
    asked = f"{len(people.records)} people, {len(requests)} hearts, one try each, seed {arguments.seed}"
    print(f"{arguments.model}: {asked}; r, slope, bias, MAE")
    print(f"| solver, steps, guidance | accepted | {' | '.join(QUANTITIES)} | from the last | s a heart |")
    print("|---" * (len(QUANTITIES) + 4) + "|")
    for setting in settings:
        print(setting.row(settings[-1].images))


if __name__ == "__main__":
    main()
