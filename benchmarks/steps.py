"""Seconds of a training step of each stage of the preset compact on a CPU, with the code of any revision.

    PYTHONPATH=TREE/src python benchmarks/steps.py TREE --steps 5

Uses ``benchmarks/training.py`` of ``TREE``, a checkout, and makes the stages that it cannot: older ones time no
decoder, and that of ffe2e86 cannot make its segmenter. Prints one JSON with the median step of each stage, in the order
of `STAGES`, and the time of the machine's processors in it.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch
from accelerate import Accelerator

STAGES = ("vae", "decoder", "residual_motion", "anatomy_diffusion", "motion_diffusion", "segmenter")
BEFORE = {"residual_motion": "motion", "anatomy_diffusion": "anatomy", "motion_diffusion": "dynamics"}
"""Names of stages in revisions before 0.2."""
WARM_UP = 2


def stage_of(benchmark: Any, name: str, config: Any, data: Any, device: torch.device) -> Any:
    """A stage as the benchmark of a revision makes it, or as it would if it could."""
    torch.manual_seed(0)
    makers = benchmark.MAKERS
    if name == "segmenter":
        parts = [data.split(split) for split in ("train", "validation")]
        return benchmark.SegmenterStage(benchmark.SliceUNet(config.segmenter), config, *parts, device)
    if name == "decoder" and name not in makers:
        make = importlib.import_module("cinesynth.training.stage_decoder").DecoderStage
        return make(benchmark.build(config).codec.to(device), config, config.training.decoder, data, device)
    return makers[name if name in makers else BEFORE[name]](config, data, device)


def measure(benchmark: Any, stage: Any, accelerator: Accelerator, steps: int) -> dict[str, float]:
    """Median seconds, by the clock and of all processors, of ``steps`` of the last steps: there every loss counts."""
    first = max(0, stage.settings.steps - steps - WARM_UP)
    found = []
    with tempfile.TemporaryDirectory() as folder:
        trainer = benchmark.Trainer(stage, Path(folder), accelerator, lambda *_: None)
        for step in range(WARM_UP + steps):
            begun = time.perf_counter(), time.process_time()
            trainer._step(first + step)
            found.append((time.perf_counter() - begun[0], time.process_time() - begun[1]))
    clock, used = (median(times) for times in zip(*found[WARM_UP:], strict=True))
    return {"step_s": round(clock, 4), "processor_s": round(used, 4)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tree", type=Path)
    parser.add_argument("--stages", nargs="+", default=STAGES, choices=STAGES)
    parser.add_argument("--steps", type=int, default=5)
    arguments = parser.parse_args()
    sys.path.insert(0, str(arguments.tree / "benchmarks"))
    benchmark: Any = importlib.import_module("training")
    config = benchmark.load_config("compact")
    precision = benchmark.resolve_precision(config.training.precision)
    names = getattr(benchmark, "MIXED_PRECISION", {})  # older revisions resolve to the name itself
    accelerator = Accelerator(mixed_precision=names.get(precision, precision), cpu=True)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        data = benchmark.dataset(Path(folder) / "phantoms", config)
        for name in arguments.stages:
            stage = stage_of(benchmark, name, config, data, accelerator.device)
            rows.append({"stage": name, **measure(benchmark, stage, accelerator, arguments.steps)})
    print(json.dumps({"rows": rows}, indent=1))


if __name__ == "__main__":
    main()
