"""Train one stage, all four in order, or the segmenter of the evaluation, in a run folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from cinesynth.config import Config, stages_of
from cinesynth.config.migration import stage_path
from cinesynth.data.geometry import Grid
from cinesynth.data.packed import prepare
from cinesynth.data.readiness import check_readiness
from cinesynth.errors import ConfigError, InputError
from cinesynth.io.reproducibility import git_revision
from cinesynth.io.tasks import ProgressCallback
from cinesynth.memorisation.trained_on import check_held_out
from cinesynth.models.build import (
    build_anatomy_diffusion,
    build_codec,
    build_motion_diffusion,
    build_residual_motion,
    build_texture,
)
from cinesynth.models.precision import MIXED_PRECISION, resolve_precision
from cinesynth.models.residual_motion import FrameCode
from cinesynth.training.checkpoint import open_run
from cinesynth.training.frames import FrameSampler, collate, with_vendors
from cinesynth.training.latents import CacheSpec
from cinesynth.training.session import Session
from cinesynth.training.stages import Deadline
from cinesynth.training.stages.diffusion import (
    DiffusionStage,
    TrainableDiffusion,
    anatomy_examples,
    motion_examples,
    residuals_of,
)
from cinesynth.training.stages.reconstruction import DecoderStage, ResidualMotionStage, VAEStage
from cinesynth.training.stages.segmenter import SegmenterStage, SliceUNet
from cinesynth.training.stages.texture import TextureStage
from cinesynth.training.texture_of_people import continuity, detail_of_people, persistence
from cinesynth.weights.folder import (
    DECODES,
    fingerprints_in,
    has_texture,
    load_stage,
    stage_info,
)

OPTIONAL = ("decoder", "texture")
"""Stages that presets may do without."""
MIN_REAL_CYCLES = 5
"""Patients with whole cycles that suffice to measure the temporal modes; with fewer, phantoms are used as well."""


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

    ``initial`` is a weights folder or a run of the same shape whose networks training starts from. Raises `DataError`
    if the dataset lacks what this stage or the weights folder at the end needs or holds out patients whom ``initial``
    has seen, and `TimeLimitReached` if ``clock`` is over before the stage is finished.
    """
    clock = clock or Deadline()
    accelerator = Accelerator(mixed_precision=MIXED_PRECISION[resolve_precision(config.training.precision)])
    if clock.limited and accelerator.num_processes > 1:
        hint = "leave out --minutes, or train with one process"
        raise InputError(f"--minutes works with one process only, found {accelerator.num_processes}", hint=hint)
    torch.manual_seed(config.training.seed)
    git_revision()  # before the checkout can change under a long run
    with accelerator.main_process_first():
        if stage in OPTIONAL:
            _optional(config, stage)
        check_readiness(data, stage)
        packed = prepare(data, Grid.from_config(config.grid), report)
        config = with_vendors(config, packed.split("train").records)
        folder = open_run(run, config, packed.data_hash, stage)
    if not stage_path(folder, stage, ".json").is_file():
        if initial is not None:
            check_held_out(packed, fingerprints_in(initial), initial)
        _TRAIN[stage](Session(config, packed, folder, accelerator, report, clock, initial))
    return stage_info(folder, stage)


def train_all(
    data: Path,
    run: Path,
    config: Config,
    report: ProgressCallback,
    clock: Deadline | None = None,
    *,
    initial: Path | None = None,
) -> None:
    """Train the four stages in order from ``initial``, then the decoder and the texture if the config asks for them."""
    for stage in stages_of(config):
        train_stage(stage, data, run, config, report, clock, initial)


def _train_vae(session: Session) -> None:
    device = session.accelerator.device
    codec = build_codec(session.config)
    started = session.start("vae", codec)
    session.train(VAEStage(codec.vae, session.config, session.data, device))
    codec.eval().to(device)
    frames = FrameSampler(session.data.split("train"), session.config.training.seed, 1.0)
    # The latent scale is measured on ED and ES of every subject.
    records = [(subject, frames.record(subject)) for subject in (*frames.patients, *frames.phantoms)]
    pairs = ((subject, frame) for subject, record in records for frame in (record.ed, record.es))
    batches = (collate([frames.item(*pair)], device) for pair in pairs)
    codec.measure_scale((batch["image"], batch["slice_mask"]) for batch in batches)
    session.finish("vae", codec, **started)


def _optional(config: Config, stage: str) -> Any:
    """The settings of a stage that presets may do without; `ConfigError` where this one does."""
    settings = getattr(config.training, stage)
    if settings is None:
        keys = f"--set training.{stage}.steps=1000 --set training.{stage}.batch_size=4"
        hint = f"set them, for example {keys}; the stage is optional"
        raise ConfigError(f"preset {config.preset} has no settings for the stage {stage}", hint=hint)
    return settings


def _train_decoder(session: Session) -> None:
    """Fine-tune the decoder of this run's VAE."""
    settings = _optional(session.config, "decoder")
    codec = build_codec(session.config)
    load_stage(session.path, "vae", codec)
    session.start("decoder", None)  # from this run's VAE, whatever the other stages start from
    session.train(DecoderStage(codec, session.config, settings, session.data, session.accelerator.device))
    session.finish("decoder", codec.eval())


def _train_residual_motion(session: Session) -> None:
    motion = build_residual_motion(session.config)
    started = session.start("residual_motion", motion)
    train = session.sequences("train", CacheSpec(whole_cycle=True))
    validation = session.sequences("validation", CacheSpec(whole_cycle=True))
    session.train(ResidualMotionStage(motion.network, session.codec(), session.config, train, validation))
    motion.eval().cpu()
    frames, sequences = train
    pairs = [(residuals_of(motion, s), s.phases) for s in sequences]
    if isinstance(motion.code, FrameCode):
        motion.code.measure([residuals for residuals, _ in pairs])
    else:
        # More frames than the 2K coefficients of the harmonics determine the whole course. With enough patients,
        # phantoms do not take part in measuring the modes.
        whole = [len(s.phases) > 2 * motion.config.harmonics for s in sequences]
        real = [w and s.subject in frames.patients for w, s in zip(whole, sequences, strict=True)]
        used = real if sum(real) >= MIN_REAL_CYCLES else whole
        cycles, partial = ([p for p, u in zip(pairs, used, strict=True) if u == wanted] for wanted in (True, False))
        motion.code.measure(cycles, partial)
    session.finish("residual_motion", motion, **started)


def _train_anatomy_diffusion(session: Session) -> None:
    settings = session.config.training.anatomy_diffusion
    with_phantoms = settings.phantom_share > 0
    spec = CacheSpec(whole_cycle=False, affine_copies=settings.affine_copies)
    frames, sequences = session.sequences("train", spec, with_phantoms)
    held, held_sequences = session.sequences("validation", CacheSpec(whole_cycle=False), with_phantoms)
    train = anatomy_examples(sequences, set(frames.phantoms))
    validation = anatomy_examples(held_sequences, set(held.phantoms))
    model = TrainableDiffusion(build_anatomy_diffusion(session.config))
    stage = DiffusionStage("anatomy_diffusion", model, session.config, train, validation)
    _train_diffusion(session, stage, model, len(train))


def _train_motion_diffusion(session: Session) -> None:
    settings = session.config.training.motion_diffusion
    motion = build_residual_motion(session.config)
    load_stage(session.path, "residual_motion", motion)
    spec = CacheSpec(True, settings.affine_copies, settings.amplitude_copies)
    frames, sequences = session.sequences("train", spec)
    held, held_sequences = session.sequences("validation", CacheSpec(whole_cycle=True))
    train = motion_examples(motion.eval(), sequences, set(frames.phantoms))
    validation = motion_examples(motion, held_sequences, set(held.phantoms))
    model = TrainableDiffusion(build_motion_diffusion(session.config))
    stage = DiffusionStage("motion_diffusion", model, session.config, train, validation)
    stage.motion = motion
    _train_diffusion(session, stage, model, len(train))


def _train_diffusion(session: Session, stage: DiffusionStage, model: TrainableDiffusion, examples: int) -> None:
    started = session.start(stage.name, model.diffusion)
    stage.codec = session.codec()
    session.train(stage)
    session.finish(stage.name, model.diffusion, examples=examples, **started)


def _train_texture(session: Session) -> None:
    """Train the texture network on what this run's decoder makes; from nothing where ``initial`` has none."""
    settings = _optional(session.config, "texture")
    codec, texture = session.codec(DECODES), build_texture(session.config)
    known = session.initial is None or has_texture(session.initial)
    started = session.start("texture", texture if known else None)
    stage = TextureStage(texture.network, codec, session.config, settings, session.data)
    session.train(stage)
    frames = stage.frames
    subjects = [*frames.patients, *(frames.phantoms if frames.phantom_share > 0 else [])]
    texture.persistence.fill_(persisting := persistence(codec, frames, subjects))
    if session.config.texture.continuity:
        texture.continuity.fill_(continuity(codec, frames, subjects, persisting))
    if texture.has_detail:
        texture.detail_db.copy_(detail_of_people(codec, frames, subjects, texture.vendors))
    session.finish("texture", texture, [frames.record(i) for i in subjects], **started)


def _train_segmenter(session: Session) -> None:
    network = SliceUNet(session.config.segmenter)
    started = session.start("segmenter", network)
    train, held_out = (session.data.split(split) for split in ("train", "validation"))
    stage = SegmenterStage(network, session.config, train, held_out, session.accelerator.device)
    session.train(stage)
    seen = stage.frames
    subjects = [*seen.patients, *(seen.phantoms if seen.phantom_share > 0 else [])]
    session.finish("segmenter", network, [seen.record(i) for i in subjects], **started)


_TRAIN = {
    "vae": _train_vae,
    "decoder": _train_decoder,
    "residual_motion": _train_residual_motion,
    "anatomy_diffusion": _train_anatomy_diffusion,
    "motion_diffusion": _train_motion_diffusion,
    "texture": _train_texture,
    "segmenter": _train_segmenter,
}
