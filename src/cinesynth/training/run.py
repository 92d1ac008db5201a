"""Train one stage, all four in order, or the segmenter of the evaluation, in a run folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from cinesynth.config import STAGES, Config
from cinesynth.config.migration import stage_path
from cinesynth.data.geometry import Grid
from cinesynth.data.packed import PackedDataset, Record, prepare
from cinesynth.errors import ConfigError, InputError, WeightsError
from cinesynth.io.reproducibility import git_revision
from cinesynth.io.tasks import ProgressCallback
from cinesynth.models.build import build_anatomy_diffusion, build_codec, build_motion_diffusion, build_residual_motion
from cinesynth.models.codec import Codec
from cinesynth.models.layers import resolve_precision
from cinesynth.models.residual_motion import FrameCode, ResidualMotion
from cinesynth.models.segmenter import SliceUNet
from cinesynth.training.frames import FrameSampler, collate, with_vendors
from cinesynth.training.latents import CacheSpec, LatentSequence, cached_sequences
from cinesynth.training.run_dir import RunDir
from cinesynth.training.stages import Deadline, Stage
from cinesynth.training.stages.diffusion import (
    DiffusionStage,
    TrainableDiffusion,
    anatomy_examples,
    motion_examples,
    residuals_of,
)
from cinesynth.training.stages.residual_motion import ResidualMotionStage
from cinesynth.training.stages.segmenter import SegmenterStage
from cinesynth.training.stages.vae import DecoderStage, VAEStage
from cinesynth.training.trainer import Trainer
from cinesynth.weights.folder import load_stage, save_stage, stage_info

MIN_REAL_CYCLES = 5
"""Patients with whole cycles that suffice to measure the temporal modes; with fewer, phantoms are used as well."""


@dataclass
class Session:
    """What the stages of one invocation share."""

    config: Config
    data: PackedDataset
    run: RunDir
    accelerator: Accelerator
    report: ProgressCallback
    clock: Deadline
    initial: Path | None = None
    """Weights folder or run whose networks training starts from."""

    def start(self, stage: str, module: nn.Module) -> dict[str, Any]:
        """Fill ``module`` with the initial weights, if there are any; returns what to record about them.

        Raises `ConfigError` if the stage was begun from other weights, `WeightsError` if they do not fit.
        """
        started: dict[str, Any] = {}
        if self.initial is not None:
            try:
                started = {"started_from": load_stage(self.initial, stage, module)["id"]}
            except WeightsError as error:
                raise WeightsError(
                    f"{stage} cannot start from {self.initial}: {error.message}",
                    hint="start from weights of the same preset and conditions, or leave out --initial",
                ) from None
        self.run.check_start(stage, started)
        return started

    def frames(self, split: str) -> FrameSampler:
        """The frames of a split."""
        return FrameSampler(self.data.split(split), self.config.training.seed, 1.0)

    def codec(self) -> Codec:
        """The trained codec of this run, frozen."""
        codec = build_codec(self.config)
        load_stage(self.run.path, "vae", codec)
        return codec.eval().requires_grad_(False).to(self.accelerator.device)

    def sequences(
        self, split: str, spec: CacheSpec, phantoms: bool = True
    ) -> tuple[FrameSampler, list[LatentSequence]]:
        """The frames of a split and their cached latents; without ``phantoms``, of patients only (if any)."""
        frames = self.frames(split)
        subjects = sorted([*frames.patients, *(frames.phantoms if phantoms or not frames.patients else [])])
        vae = stage_info(self.run.path, "vae")["id"][:12]
        path = self.run.path / "latents" / f"{split}-{vae}-{spec}-{len(subjects)}"

        with self.accelerator.main_process_first(), self.accelerator.autocast():
            return frames, cached_sequences(path, self.codec(), frames, subjects, spec, self.report, self.clock)

    def train(self, stage: Stage) -> nn.Module:
        """Train a stage in its folder of the run; returns its best model."""
        return Trainer(stage, stage_path(self.run.path, stage.name), self.accelerator, self.report, self.clock).run()

    def finish(self, stage: str, module: nn.Module, trained_on: dict[str, Any]) -> None:
        """Write the weights of a finished stage, with what it was trained on."""
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            environment = self.run.record_environment(stage)
            info = {"data_hash": self.data.data_hash, "trained_on": trained_on, "environment": environment}
            save_stage(self.run.path, stage, module.cpu(), self.config, info)
        self.accelerator.wait_for_everyone()


def train_stage(
    stage: str,
    data: Path,
    run: Path,
    config: Config,
    report: ProgressCallback,
    clock: Deadline | None = None,
    initial: Path | None = None,
) -> dict[str, Any]:
    """Train one stage, or resume it; a finished one is left alone. Returns the JSON of the finished stage.

    ``initial`` is a weights folder or a run of the same shape whose networks training starts from. Raises
    `TimeLimitReached` if ``clock`` is over before the stage is finished.
    """
    clock = clock or Deadline()
    accelerator = Accelerator(mixed_precision=resolve_precision(config.training.precision))
    if clock.limited and accelerator.num_processes > 1:
        raise InputError(
            f"--minutes works with one process only, found {accelerator.num_processes}",
            hint="leave out --minutes, or train with one process",
        )
    torch.manual_seed(config.training.seed)
    git_revision()  # before the checkout can change under a long run
    with accelerator.main_process_first():
        packed = prepare(data, Grid.from_config(config.grid))
        config = with_vendors(config, packed.split("train").records)
        folder = RunDir(run, config, packed.data_hash)
    if not stage_path(folder.path, stage, ".json").is_file():
        _TRAIN[stage](Session(config, packed, folder, accelerator, report, clock, initial))
    return stage_info(folder.path, stage)


def stages_of(config: Config) -> tuple[str, ...]:
    """The stages that ``train all`` trains."""
    return (*STAGES, "decoder") if config.training.decoder is not None else STAGES


def train_all(
    data: Path,
    run: Path,
    config: Config,
    report: ProgressCallback,
    clock: Deadline | None = None,
    initial: Path | None = None,
) -> None:
    """Train the four stages in order from ``initial``, then fine-tune the decoder if the config asks for it."""
    for stage in stages_of(config):
        train_stage(stage, data, run, config, report, clock, initial if stage in STAGES else None)


def _train_vae(session: Session) -> None:
    codec = build_codec(session.config)
    started = session.start("vae", codec)
    stage = VAEStage(codec.vae, session.config, session.data, session.accelerator.device)
    codec.vae.load_state_dict(session.train(stage).state_dict())
    codec.eval().to(session.accelerator.device)
    frames = session.frames("train")
    codec.measure_scale(_scale_batches(frames, session.accelerator.device))
    session.finish("vae", codec, _describe(session) | started)


def _train_decoder(session: Session) -> None:
    """Fine-tune the decoder of this run's VAE."""
    settings = session.config.training.decoder
    if settings is None:
        raise ConfigError(
            f"preset {session.config.preset} has no settings for the stage decoder",
            hint="set them, e.g. --set training.decoder.steps=1000; the stage is optional, as the VAE has a decoder",
        )
    codec = build_codec(session.config)
    load_stage(session.run.path, "vae", codec)
    session.run.check_start("decoder", {})
    stage = DecoderStage(codec, session.config, settings, session.data, session.accelerator.device)
    codec.vae.load_state_dict(session.train(stage).state_dict())
    session.finish("decoder", codec.eval(), _describe(session))


def _scale_batches(frames: FrameSampler, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    """Images ``1 1 X Y Z`` and slice masks ``1 Z`` of ED and ES of every subject, to measure the latent scale on."""
    for subject in [*frames.patients, *frames.phantoms]:
        record = frames.record(subject)
        for frame in (record.ed, record.es):
            batch = collate([frames.item(subject, frame)], device)
            yield batch["image"], batch["slice_mask"]


def _train_residual_motion(session: Session) -> None:
    motion = build_residual_motion(session.config)
    started = session.start("residual_motion", motion)
    train = session.sequences("train", CacheSpec(whole_cycle=True))
    validation = session.sequences("validation", CacheSpec(whole_cycle=True))
    stage = ResidualMotionStage(motion.network, session.codec(), session.config, train, validation)
    motion.network.load_state_dict(session.train(stage).state_dict())
    motion.eval().cpu()
    _measure_code(motion, *train)
    session.finish("residual_motion", motion, _describe(session) | started)


def _measure_code(motion: ResidualMotion, frames: FrameSampler, sequences: list[LatentSequence]) -> None:
    """Measure the scale and, for harmonics, the temporal modes of the residuals on the training subjects.

    With whole cycles of `MIN_REAL_CYCLES` patients, phantoms do not take part in measuring the modes.
    """
    pairs = [(residuals_of(motion, s), s.phases) for s in sequences]
    if isinstance(motion.code, FrameCode):
        motion.code.measure([residuals for residuals, _ in pairs])
        return
    # More frames than the 2K coefficients of the harmonics determine the whole course.
    whole = [len(s.phases) > 2 * motion.config.harmonics for s in sequences]
    real = [w and s.subject in frames.patients for w, s in zip(whole, sequences, strict=True)]
    used = real if sum(real) >= MIN_REAL_CYCLES else whole
    cycles = [pair for pair, is_used in zip(pairs, used, strict=True) if is_used]
    motion.code.measure(cycles, [pair for pair, is_used in zip(pairs, used, strict=True) if not is_used])


def _train_anatomy_diffusion(session: Session) -> None:
    settings = session.config.training.anatomy_diffusion
    with_phantoms = settings.phantom_share > 0
    spec = CacheSpec(whole_cycle=False, affine_copies=settings.affine_copies)
    frames, sequences = session.sequences("train", spec, with_phantoms)
    held, held_sequences = session.sequences("validation", CacheSpec(whole_cycle=False), with_phantoms)
    model = TrainableDiffusion(build_anatomy_diffusion(session.config))
    started = session.start("anatomy_diffusion", model.diffusion)
    train = anatomy_examples(sequences, set(frames.phantoms))
    validation = anatomy_examples(held_sequences, set(held.phantoms))
    stage = DiffusionStage("anatomy_diffusion", model, session.config, train, validation)
    stage.codec = session.codec()
    _train_diffusion(session, stage, {"examples": len(train)} | started)


def _train_motion_diffusion(session: Session) -> None:
    settings = session.config.training.motion_diffusion
    motion = build_residual_motion(session.config)
    load_stage(session.run.path, "residual_motion", motion)
    spec = CacheSpec(True, settings.affine_copies, settings.amplitude_copies)
    frames, sequences = session.sequences("train", spec)
    held, held_sequences = session.sequences("validation", CacheSpec(whole_cycle=True))
    train = motion_examples(motion.eval(), sequences, set(frames.phantoms))
    validation = motion_examples(motion, held_sequences, set(held.phantoms))
    model = TrainableDiffusion(build_motion_diffusion(session.config))
    started = session.start("motion_diffusion", model.diffusion)
    stage = DiffusionStage("motion_diffusion", model, session.config, train, validation)
    stage.codec, stage.motion = session.codec(), motion
    _train_diffusion(session, stage, {"examples": len(train)} | started)


def _train_diffusion(session: Session, stage: DiffusionStage, record: dict[str, Any]) -> None:
    best = session.train(stage)
    assert isinstance(best, TrainableDiffusion)
    session.finish(stage.name, best.diffusion, _describe(session) | record)


def _train_segmenter(session: Session) -> None:
    network = SliceUNet(session.config.segmenter)
    started = session.start("segmenter", network)
    train, held_out = (session.data.split(split) for split in ("train", "validation"))
    stage = SegmenterStage(network, session.config, train, held_out, session.accelerator.device)
    network.load_state_dict(session.train(stage).state_dict())
    seen = stage.frames
    subjects = [*seen.patients, *(seen.phantoms if seen.phantom_share > 0 else [])]
    session.finish("segmenter", network, _describe(session, [seen.record(i) for i in subjects]) | started)


def _describe(session: Session, records: list[Record] | None = None) -> dict[str, Any]:
    """Which subjects a stage was trained on: ``records``, by default those of the whole training split."""
    records = session.data.split("train").records if records is None else records
    by_dataset = Counter(record.dataset for record in records)
    return {"split": "train", "subjects": dict(by_dataset), "frames": sum(len(r.phases) for r in records)}


_TRAIN = {
    "vae": _train_vae,
    "decoder": _train_decoder,
    "residual_motion": _train_residual_motion,
    "anatomy_diffusion": _train_anatomy_diffusion,
    "motion_diffusion": _train_motion_diffusion,
    "segmenter": _train_segmenter,
}
