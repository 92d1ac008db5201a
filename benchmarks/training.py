"""How fast each stage of a preset trains here: cases a second, time of a step, peak memory, FLOPs and utilisation.

    python benchmarks/training.py --preset small --steps 10
    python benchmarks/training.py --preset base --device cuda --peak-tflops 790

Phantoms on the preset's grid stand for people, and noise for latents: neither changes what a step costs. FLOPs are
counted in one whole step, backward passes and critic included (not what is recomputed, nor the augmentation).
Prints a table and one JSON. Memory on a CPU is the process's highest so far, so it never falls from stage to stage.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch.utils.flop_counter import FlopCounterMode

from cinesynth.config import STAGES, Config, load_config
from cinesynth.data.geometry import Grid
from cinesynth.data.ingest import ingest
from cinesynth.data.packed import PackedDataset, prepare
from cinesynth.data.phantom import read_phantoms
from cinesynth.models.build import build
from cinesynth.models.precision import MIXED_PRECISION, resolve_precision
from cinesynth.training.frames import FrameSampler
from cinesynth.training.latents import LatentSequence
from cinesynth.training.stages import Stage
from cinesynth.training.stages.diffusion import DiffusionStage, Example, TrainableDiffusion
from cinesynth.training.stages.reconstruction import DecoderStage, ResidualMotionStage, VAEStage
from cinesynth.training.stages.segmenter import SegmenterStage, SliceUNet
from cinesynth.training.trainer import Trainer
from cinesynth.types import ClinicalPrior, Diagnosis

SUBJECTS = 10
WARM_UP = 2
PRIOR = ClinicalPrior(Diagnosis.DCM, 200.0, 120.0, 10)


def vae(config: Config, data: PackedDataset, device: torch.device) -> Stage:
    return VAEStage(build(config).codec.vae, config, data, device)


def decoder(config: Config, data: PackedDataset, device: torch.device) -> Stage:
    settings = config.training.decoder
    if settings is None:
        raise SystemExit(f"preset {config.preset} has no stage decoder: leave it out of --stages")
    return DecoderStage(build(config).codec.to(device), config, settings, data, device)


def residual_motion(config: Config, data: PackedDataset, device: torch.device) -> Stage:
    networks = build(config)
    parts = [(frames, sequences(config, frames)) for frames in (FrameSampler(data.split(s), 0, 1.0) for s in PARTS)]
    codec = networks.codec.eval().requires_grad_(False).to(device)
    return ResidualMotionStage(networks.residual_motion.network, codec, config, parts[0], parts[1])


PARTS = ("train", "validation")


def sequences(config: Config, frames: FrameSampler) -> list[LatentSequence]:
    shape = (2, config.vae.latent_channels, *config.latent_size)
    phases = torch.tensor([0.0, 1.0], dtype=torch.float64)
    chosen = [[record.ed, record.es] for record in frames.data.records]
    return [LatentSequence(i, torch.randn(shape), c, phases, frames.mask(i), PRIOR) for i, c in enumerate(chosen)]


def anatomy_diffusion(config: Config, data: PackedDataset, device: torch.device) -> Stage:
    latent = torch.randn(config.vae.latent_channels, *config.latent_size)
    example = Example(latent, PRIOR, torch.ones(config.grid.size[2], dtype=torch.bool))
    return DiffusionStage(
        "anatomy_diffusion", TrainableDiffusion(build(config).anatomy_diffusion), config, [example], [example]
    )


def motion_diffusion(config: Config, data: PackedDataset, device: torch.device) -> Stage:
    networks = build(config)
    latent = torch.randn(config.vae.latent_channels, *config.latent_size)
    code = torch.randn(networks.residual_motion.code.channels, *config.latent_size)
    phase = None if config.residual_motion.harmonics else 1.0
    example = Example(code, PRIOR, torch.ones(config.grid.size[2], dtype=torch.bool), latent, None, phase)
    return DiffusionStage(
        "motion_diffusion", TrainableDiffusion(networks.motion_diffusion), config, [example], [example]
    )


def segmenter(config: Config, data: PackedDataset, device: torch.device) -> Stage:
    train, held_out = (data.split(split) for split in PARTS)
    return SegmenterStage(SliceUNet(config.segmenter), config, train, held_out, device)


MAKERS: dict[str, Callable[[Config, PackedDataset, torch.device], Stage]] = {
    "vae": vae,
    "decoder": decoder,
    "residual_motion": residual_motion,
    "anatomy_diffusion": anatomy_diffusion,
    "motion_diffusion": motion_diffusion,
    "segmenter": segmenter,
}


def measure(stage: Stage, accelerator: Accelerator, steps: int, peak_tflops: float | None) -> dict[str, Any]:
    """Median step of one stage, from its last steps on: there every loss counts."""
    device, first = accelerator.device, max(0, stage.settings.steps - steps - WARM_UP - 1)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(stage, Path(folder), accelerator, lambda *_: None)
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        for step in range(WARM_UP):
            trainer._step(first + step)
        seconds = sorted(timed(trainer, first + WARM_UP + step, device) for step in range(steps))
        peak = torch.cuda.max_memory_allocated() / 2**30 if device.type == "cuda" else resident_gib()
        with FlopCounterMode(display=False) as counter:
            trainer._step(stage.settings.steps - 1)
    step_s, tflop = seconds[len(seconds) // 2], counter.get_total_flops() / 1e12
    return {
        "stage": stage.name,
        "cases_a_step": stage.settings.batch_size,
        "step_s": round(step_s, 4),
        "cases_per_s": round(stage.settings.batch_size / step_s, 2),
        "peak_gib": round(peak, 2),
        "tflop_a_step": round(tflop, 4),
        "tflop_per_s": round(tflop / step_s, 3),
        "utilisation": None if peak_tflops is None else round(tflop / step_s / peak_tflops, 3),
        "stage_minutes": round(step_s * stage.settings.steps / 60, 1),
    }


def timed(trainer: Trainer, step: int, device: torch.device) -> float:
    begun = time.perf_counter()
    trainer._step(step)
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begun


def resident_gib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def dataset(folder: Path, config: Config) -> PackedDataset:
    ingest(read_phantoms(SUBJECTS, frames=6), folder)
    return prepare(folder, Grid.from_config(config.grid))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="small")
    parser.add_argument("--stages", nargs="+", default=[*STAGES, "segmenter"], choices=list(MAKERS))
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--steps", type=int, default=10, help="timed steps a stage; the median counts")
    parser.add_argument("--peak-tflops", type=float, help="of the device at the precision in use")
    arguments = parser.parse_args()
    config = load_config(arguments.preset)
    precision = resolve_precision(config.training.precision)
    accelerator = Accelerator(mixed_precision=MIXED_PRECISION[precision], cpu=arguments.device == "cpu")
    if arguments.device == "cuda" and accelerator.device.type != "cuda":
        parser.error("--device cuda, but torch finds no CUDA device")
    with tempfile.TemporaryDirectory() as folder:
        data = dataset(Path(folder) / "phantoms", config)
        stages = (MAKERS[name](config, data, accelerator.device) for name in arguments.stages)
        rows = [measure(stage, accelerator, arguments.steps, arguments.peak_tflops) for stage in stages]
    print("| " + " | ".join(rows[0]) + " |\n" + "|---" * len(rows[0]) + "|")
    for row in rows:
        print("| " + " | ".join("-" if value is None else str(value) for value in row.values()) + " |")
    cuda = accelerator.device.type == "cuda"
    machine = torch.cuda.get_device_name() if cuda else f"{os.cpu_count()} cores, {platform.processor()}"
    about = {"preset": config.preset, "device": machine, "precision": precision, "torch": torch.__version__}
    print(json.dumps({**about, "steps": arguments.steps, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
