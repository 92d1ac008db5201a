"""What a generated cine costs: ours beside the paper's algorithm with the same weights, and how it grows.

    python benchmarks/generation.py --weights compact
    python benchmarks/generation.py --weights compact --device cuda

Four tables: (a) one cine by our default and frame by frame (a guided trajectory of 30 steps for the anatomy and for
each later frame, one frame a call: the paper's algorithm, section 2.4) with the same networks; (b) counted
FLOPs and network calls of our presets and of the paper's; (c) time against frames, slices and sampling steps;
(d) peak memory. Times are medians; control is off and one try is made, so that each run does the same work.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from statistics import median

import torch
from torch import Tensor

from cinesynth.config import load_config
from cinesynth.models.build import network_calls, sequence_flops
from cinesynth.synthesis.pipeline import CinePipeline
from cinesynth.synthesis.planning import Plan
from cinesynth.synthesis.request import Request
from cinesynth.synthesis.sampler import Sampler
from cinesynth.types import ClinicalPrior, Diagnosis

PAPER_STEPS, PAPER_GUIDANCE = 30, 3.0
PRESETS = ("small", "compact", "base", "paper")


class FrameByFrame(Sampler):
    """A trajectory of its own for every frame, one frame a call."""

    def __init__(self, sampler: Sampler) -> None:
        super().__init__(sampler.bundle, sampler.device)
        self.frames_per_call = 1

    def _trajectory(
        self, plan: Plan, anatomy: Tensor, start: Tensor, step: Callable[..., None]
    ) -> Callable[[Tensor], Tensor]:
        def at(phases: Tensor) -> Tensor:
            one = super(FrameByFrame, self)._trajectory
            return torch.cat([one(plan, anatomy, start, step)(p[None]) for p in phases])

        return at


def request_of(frames: int, slices: int, steps: int | None = None) -> Request:
    prior = ClinicalPrior.from_ef(Diagnosis.DCM, 220.0, 30.0, slices)
    return Request(prior, seed=7, frames=frames, steps=steps, max_attempts=1, match_volumes=False)


def seconds(pipe: CinePipeline, request: Request, repeats: int) -> float:
    """Median time of a cine, the first of all not counted."""
    found = []
    for _ in range(repeats + 1):
        begin = time.perf_counter()
        list(pipe.generate([request]))
        if pipe.device.type == "cuda":
            torch.cuda.synchronize()
        found.append(time.perf_counter() - begin)
    return median(found[1:])


def against_the_paper(pipe: CinePipeline, frames: int, slices: int, repeats: int) -> Iterator[str]:
    request = request_of(frames, slices)
    ours = seconds(pipe, request, repeats)
    sampler = pipe.sampler
    pipe.sampler = FrameByFrame(sampler)
    try:
        theirs = seconds(pipe, replace(request, steps=PAPER_STEPS, guidance=PAPER_GUIDANCE), 1)
    finally:
        pipe.sampler = sampler
    yield f"| {frames} frames, {slices} slices | s | ratio |\n|---|---|---|"
    yield f"| whole cycle, {_steps(pipe)} steps | {ours:.2f} | 1 |"
    yield f"| frame by frame, {PAPER_STEPS} guided steps each | {theirs:.1f} | {theirs / ours:.1f} |"


def _steps(pipe: CinePipeline) -> str:
    config = pipe.bundle.config
    return f"{config.anatomy_diffusion.diffusion.sampling_steps} + {config.motion_diffusion.diffusion.sampling_steps}"


def counted(frames: int) -> Iterator[str]:
    paper = sequence_flops(load_config("paper"), frames)
    yield f"| preset, {frames} frames, all slices | TFLOP | calls of denoisers | decodes | paper's FLOPs over these |"
    yield "|---|---|---|---|---|"
    for preset in PRESETS:
        config = load_config(preset)
        flops = sequence_flops(config, frames)
        cells = (f"{flops / 1e12:.3g}", network_calls(config, frames), frames, f"{paper / flops:.0f}")
        yield f"| {preset} | {' | '.join(map(str, cells))} |"


def growth(pipe: CinePipeline, repeats: int) -> Iterator[str]:
    yield "| frames | slices | steps | s |\n|---|---|---|---|"
    for frames, slices, steps in ((2, 10, None), (10, 10, None), (30, 10, None), (30, 5, None), (30, 16, None)):
        if slices <= pipe.grid.size[2]:
            yield f"| {frames} | {slices} | default | {seconds(pipe, request_of(frames, slices, steps), repeats):.2f} |"
    for steps in (4, 8, 16, 32):
        yield f"| 2 | 10 | {steps} | {seconds(pipe, request_of(2, 10, steps), repeats):.2f} |"


def peak_gib(weights: str | None, device: str, frames: int, slices: int) -> float:
    """Of a fresh process that makes one cine, steered and with tries as usual."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak, (weights, device, frames, slices))


def _peak(weights: str | None, device: str, frames: int, slices: int) -> float:
    pipe = CinePipeline.from_pretrained(weights, device=device)
    list(pipe.generate([replace(request_of(frames, slices), match_volumes=True, max_attempts=3)]))
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default=None)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--frames", type=int, default=30)
    parser.add_argument("--slices", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    pipe = CinePipeline.from_pretrained(arguments.weights, device=arguments.device)
    size = f"{arguments.frames} frames, {arguments.slices} slices of {pipe.grid.size[0]} x {pipe.grid.size[1]}"
    print(f"{size}, {arguments.device}, {torch.get_num_threads()} threads, torch {torch.__version__}\n")
    tables = (
        against_the_paper(pipe, arguments.frames, arguments.slices, arguments.repeats),
        counted(arguments.frames),
        growth(pipe, arguments.repeats),
    )
    for table in tables:
        print("\n".join(table), end="\n\n", flush=True)
    peak = peak_gib(arguments.weights, arguments.device, arguments.frames, arguments.slices)
    print(f"peak memory of a process that makes one steered cine: {peak:.2f} GiB")


if __name__ == "__main__":
    main()
