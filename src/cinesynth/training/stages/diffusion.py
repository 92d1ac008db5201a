"""Stages 3 and 4: the diffusion models of anatomy and motion, on cached codes (paper, sections 2.3 and 2.4)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from cinesynth.config import Config
from cinesynth.config.migration import original_name
from cinesynth.config.schema import DiffusionConfig
from cinesynth.config.training import DiffusionTraining
from cinesynth.io.reproducibility import stream
from cinesynth.models.codec import Codec
from cinesynth.models.conditioning import CORE, Conditions, ConditionSet, drop, encode_priors
from cinesynth.models.diffusion import LatentDiffusion
from cinesynth.models.residual_motion import HarmonicCode, ResidualMotion
from cinesynth.training.latents import LatentSequence
from cinesynth.training.preview import save_samples
from cinesynth.training.stages import Loss, evenly_spaced
from cinesynth.types import ClinicalPrior


@dataclass(frozen=True)
class Example:
    """One clean code with its conditions."""

    clean: Tensor  # C x y Z
    prior: ClinicalPrior
    slice_mask: Tensor  # Z
    anatomy: Tensor | None = None  # C x y Z, the ED latent
    observed: Tensor | None = None  # 2K 2K, projector onto what the subject's frames show of its cycle
    phase: float | None = None
    phantom: bool = False

    @property
    def whole_cycle(self) -> bool:
        """Whether the subject's frames determine its whole cycle."""
        # The trace of a projector is its rank.
        return self.observed is not None and float(self.observed.trace()) > len(self.observed) - 0.5


class DiffusionStage:
    """Trains a latent diffusion model on examples."""

    def __init__(
        self, name: str, model: nn.Module, config: Config, train: Sequence[Example], validation: Sequence[Example]
    ) -> None:
        self.name = name
        self.address = original_name(name)  # random streams are addressed by it: a renaming must draw the same numbers
        self.seed = config.training.seed
        self.condition_set = ConditionSet.of(config)
        self.settings: DiffusionTraining = getattr(config.training, name)
        self.diffusion: DiffusionConfig = getattr(config, name).diffusion
        self.crops = getattr(config, name).denoiser.norm == "layer"  # group norms average over the padding too
        self.patients = [e for e in train if not e.phantom]
        self.shares = [
            (self.settings.phantom_share, [e for e in train if e.phantom]),
            (self.settings.whole_cycle_share, [e for e in self.patients if e.whole_cycle]),
        ]
        self.validation = validation
        self.modules = {"model": model}
        self.codec: Codec | None = None
        self.motion: ResidualMotion | None = None

    def losses(self, step: int, cases: range) -> Iterator[Loss]:
        """The denoising loss of one batch."""
        examples = [self._draw(step, case) for case in cases]
        streams = [stream(self.seed, self.address, "noise", step, case) for case in cases]
        # A time and dropout of the case and of each core condition: B 6
        uniforms = torch.stack([torch.rand(6, generator=g, dtype=torch.float64) for g in streams])
        noise = torch.stack([torch.randn(e.clean.shape, generator=g) for e, g in zip(examples, streams, strict=True)])
        names, rates = self.condition_set.names, (self.diffusion.condition_dropout, self.diffusion.field_dropout)
        # Conditions beyond the core draw after the noise, and so change no other draw.
        count = len(names) - len(CORE.names)
        further = [torch.rand(count, generator=g, dtype=torch.float64).tolist() for g in streams]
        chances = [[*core[1:].tolist(), *more] for core, more in zip(uniforms, further, strict=True)]
        priors = [drop(e.prior, chance, *rates, names) for e, chance in zip(examples, chances, strict=True)]
        yield Loss("model", self._loss(self.modules["model"], examples, priors, noise, uniforms[:, 0].float()))

    def _draw(self, step: int, case: int) -> Example:
        """The example of a case: from a group with a share of its own, else from all patients."""
        generator = stream(self.seed, self.address, "example", step, case)
        group, member = torch.rand(2, generator=generator, dtype=torch.float64).tolist()
        chosen = self.patients or self.shares[0][1]
        reached = 0.0
        for share, examples in self.shares:
            if reached <= group < reached + share and examples:
                chosen = examples
            reached += share
        return chosen[int(member * len(chosen))]

    def _loss(
        self, model: nn.Module, examples: Sequence[Example], priors: list[ClinicalPrior], noise: Tensor, times: Tensor
    ) -> Tensor:
        device = next(model.parameters()).device
        masks = torch.stack([e.slice_mask for e in examples])
        window = acquired_window(masks) if self.crops else slice(None)
        batch = {
            "clean": torch.stack([e.clean for e in examples])[..., window],
            "noise": noise[..., window],
            "uniforms": times,
            "slice_mask": masks[:, window],
        }
        if examples[0].anatomy is not None:
            batch["anatomy"] = torch.stack([e.anatomy for e in examples if e.anatomy is not None])[..., window]
        if examples[0].observed is not None:
            batch["observed"] = torch.stack([e.observed for e in examples if e.observed is not None])
        conditions = conditions_of(examples, priors, self.condition_set).to(device)
        loss: Tensor = model(conditions=conditions, **{k: v.to(device) for k, v in batch.items()})
        return loss

    def validate(self, model: nn.Module) -> dict[str, float]:
        """The denoising loss on validation subjects, with fixed noise and evenly spread times."""
        losses = []
        for index, example in enumerate(evenly_spaced(self.validation, 32)):
            noise = torch.randn(example.clean.shape, generator=stream(self.seed, self.address, "validation", index))
            time = torch.tensor([(index * 0.6180339887 + 0.5) % 1.0])  # golden ratio: evenly spread for any count
            losses.append(float(self._loss(model, [example], [example.prior], noise[None], time)))
        return {"score": sum(losses) / len(losses)}

    def preview(self, model: nn.Module, path: Path) -> None:
        """Hearts generated for the priors of validation subjects: ED, and for the motion model ES too."""
        if self.codec is None:
            return
        assert isinstance(model, TrainableDiffusion)
        kept, device = self.validation[:4], self.codec.latent_mean.device
        shape = (len(kept), *kept[0].clean.shape)
        noise = torch.randn(shape, generator=stream(self.seed, self.address, "preview")).to(device)
        mask = torch.stack([e.slice_mask for e in kept]).to(device)
        conditions = conditions_of(kept, [e.prior for e in kept], self.condition_set).to(device)
        anatomy = [e.anatomy for e in kept if e.anatomy is not None]
        given = torch.stack(anatomy).to(device) if anatomy else None
        sample = model.diffusion.sample(noise, conditions, mask, given)
        latents = [sample] if given is None else [given, given + self._at_es(sample, conditions)]
        save_samples(path, [self.codec.decode(latent, mask) for latent in latents], mask)

    def _at_es(self, code: Tensor, conditions: Conditions) -> Tensor:
        """Residuals of generated codes at ES, or at the phases of ``conditions`` if codes are per frame."""
        assert self.motion is not None
        motion = self.motion.code.to(code.device)
        if isinstance(motion, HarmonicCode):
            return motion.decode(code, torch.ones(1))[:, 0]  # B T C x y Z at the only T
        assert conditions.phase is not None
        return motion.decode(code, conditions.phase)


class TrainableDiffusion(nn.Module):
    """A diffusion model whose forward pass is its loss, as data-parallel training requires."""

    def __init__(self, diffusion: LatentDiffusion) -> None:
        super().__init__()
        self.diffusion = diffusion

    def forward(self, conditions: Conditions, observed: Tensor | None = None, **batch: Tensor) -> Tensor:
        """Loss of a batch; the projectors ``observed`` (``B 2K 2K``) keep the part of the error that was seen."""
        if observed is None:
            return self.diffusion.loss(**batch, conditions=conditions)  # type: ignore[arg-type]
        projector, size = observed, observed.shape[1]
        rank = projector.diagonal(dim1=1, dim2=2).sum(dim=1).clamp(min=1.0)  # B
        # The loss is a mean over all 2K maps: scaled so that it is one over the observed directions.
        weight = (size / rank).sqrt()[:, None, None, None, None]

        def project(error: Tensor) -> Tensor:
            maps = error.reshape(len(error), size, -1, *error.shape[2:])  # B 2K C x y z
            return torch.einsum("bjk,bkcxyz->bjcxyz", projector, maps).flatten(1, 2) * weight

        return self.diffusion.loss(**batch, conditions=conditions, project=project)


def acquired_window(masks: Tensor) -> slice:
    """The slices from the first to the last that any case of a batch (``B Z``) acquired."""
    acquired = masks.any(dim=0).nonzero()[:, 0]
    return slice(int(acquired[0]), int(acquired[-1]) + 1)


def conditions_of(examples: Sequence[Example], priors: list[ClinicalPrior], condition_set: ConditionSet) -> Conditions:
    """Conditions of a batch, with phases if the examples have them."""
    conditions = encode_priors(priors, condition_set)
    phases = [e.phase for e in examples if e.phase is not None]
    return conditions.at_phase(torch.tensor(phases, dtype=torch.float32)) if phases else conditions


def anatomy_examples(sequences: list[LatentSequence], phantoms: set[int]) -> list[Example]:
    """ED latents, with their measured volumes as conditions."""
    return [Example(s.latents[0], s.prior, s.slice_mask, phantom=s.subject in phantoms) for s in sequences]


@torch.no_grad()
def residuals_of(motion: ResidualMotion, sequence: LatentSequence) -> Tensor:
    """M's residuals of all frames of a sequence, ``T C x y Z``; that of ED is exactly zero."""
    device = next(motion.parameters()).device
    ed = sequence.latents[:1].to(device)
    mask = sequence.slice_mask[None].to(device)
    frames = [motion.network(ed, frame[None].to(device), mask) for frame in sequence.latents[1:]]
    return torch.cat([torch.zeros_like(ed), *frames]).cpu()


def motion_examples(motion: ResidualMotion, sequences: list[LatentSequence], phantoms: set[int]) -> list[Example]:
    """Motion codes: one a sequence for harmonics, otherwise one a frame after ED."""
    examples = []
    for s in sequences:
        residuals, phantom = residuals_of(motion, s), s.subject in phantoms
        if isinstance(motion.code, HarmonicCode):
            code, observed = motion.code.encode(residuals, s.phases), motion.code.observed(s.phases)
            examples.append(Example(code, s.prior, s.slice_mask, s.latents[0], observed, None, phantom))
        else:
            codes = motion.code.encode(residuals)
            for code, phase in zip(codes[1:], s.phases.tolist()[1:], strict=True):
                examples.append(Example(code, s.prior, s.slice_mask, s.latents[0], None, phase, phantom))
    return examples
