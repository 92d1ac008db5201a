"""Stage 2: the deterministic residual-motion model, through the frozen codec (paper, section 2.2)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from cinesynth.config import Config
from cinesynth.io.reproducibility import stream, uniform
from cinesynth.models.codec import Codec
from cinesynth.models.residual_motion import ResidualNet
from cinesynth.models.vae import Decoded
from cinesynth.training.frames import Batch, FrameSampler, Prefetch, collate
from cinesynth.training.latents import LatentSequence
from cinesynth.training.losses import Discriminator, alternate_slices, reconstruction, reconstruction_scores
from cinesynth.training.preview import save_reconstructions
from cinesynth.training.stages import Loss


class ResidualMotionStage:
    """Trains M on pairs (ED, another frame) of one subject: latents go in, decoded images are compared."""

    name = "residual_motion"

    def __init__(
        self,
        model: ResidualNet,
        codec: Codec,
        config: Config,
        train: tuple[FrameSampler, list[LatentSequence]],
        validation: tuple[FrameSampler, list[LatentSequence]],
    ) -> None:
        self.config, self.codec = config, codec
        self.settings = config.training.residual_motion
        self.frames, sequences = train
        self.sequences = {s.subject: s for s in sequences}
        self.held_out, self.held_out_sequences = validation
        self.batches = Prefetch(self._batch, self.settings.steps)
        self.modules: dict[str, nn.Module] = {"model": model}
        self.discriminator = Discriminator() if self.settings.losses.adversarial > 0 else None
        if self.discriminator is not None:
            self.modules["critic"] = self.discriminator  # its name in checkpoints and metrics

    def losses(self, step: int, cases: range) -> Iterator[Loss]:
        """M's loss, then the discriminator's."""
        weights, model = self.settings.losses, self.modules["model"]
        batch = {name: tensor.to(self._device) for name, tensor in self.batches(step, cases).items()}
        residual = model(batch["ed"], batch["frame"], batch["slice_mask"])  # B C x y Z
        noisy = residual + self._noise(step, cases, residual) * self._noise_level(step)
        decoded = self.codec.decode(batch["ed"] + noisy, batch["slice_mask"])
        total, parts = reconstruction(decoded, batch, weights, self.discriminator, step)
        still = model(batch["ed"], batch["ed"], batch["slice_mask"])  # should be 0: M(z, z) = 0
        parts |= {"residual_energy": residual.square().mean(), "identity": still.square().mean()}
        total = total + weights.residual_energy * parts["residual_energy"] + weights.identity * parts["identity"]
        yield Loss("model", total, {name: float(value.detach()) for name, value in parts.items()})
        if self.discriminator is not None and step >= weights.adversarial_start_step:
            mask = batch["slice_mask"]
            fake, real = (alternate_slices(x, mask, step) for x in (decoded.image, batch["image"]))
            yield Loss("critic", self.discriminator.d_loss(fake, real))

    def _batch(self, step: int, cases: range) -> Batch:
        return collate([self._pair(step, case) for case in cases])

    @property
    def _device(self) -> torch.device:
        return self.codec.latent_mean.device

    def _noise_level(self, step: int) -> float:
        """Standard deviation of the noise on the residual, decaying to 0 over training."""
        return self.settings.losses.residual_noise * (1.0 - step / self.settings.steps)

    def _noise(self, step: int, cases: range, like: Tensor) -> Tensor:
        seed = self.config.training.seed
        noise = [torch.randn(like.shape[1:], generator=stream(seed, "motion noise", step, case)) for case in cases]
        return torch.stack(noise).to(like)

    def _pair(self, step: int, case: int) -> dict[str, Tensor]:
        subject, generator = self.frames.draw("pairs", step, case)
        sequence = self.sequences[subject]
        return _pair(self.frames, sequence, int(uniform(generator, 1, len(sequence.frames))))

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Reconstruction from z_ED + M(z_ED, z_t) instead of z_t, on validation subjects."""
        scores = [reconstruction_scores(self._reconstruct(model, batch), batch) for batch in self._validation_batches()]
        mean = {name: sum(s[name] for s in scores) / len(scores) for name in ("l1", "psnr")}
        return {**mean, "score": mean["l1"]}

    def preview(self, model: nn.Module, path: Path) -> None:
        """Validation frames above their reconstruction from ED and residual."""
        pairs = [(batch, self._reconstruct(model, batch)) for batch in self._validation_batches()[:4]]
        save_reconstructions(path, pairs)

    def _reconstruct(self, model: nn.Module, batch: dict[str, Tensor]) -> Decoded:
        residual = model(batch["ed"], batch["frame"], batch["slice_mask"])
        return self.codec.decode(batch["ed"] + residual, batch["slice_mask"])

    def _validation_batches(self) -> list[dict[str, Tensor]]:
        kept = self.held_out_sequences[:16]
        return [collate([_pair(self.held_out, s, len(s.frames) // 2)], self._device) for s in kept]


def _pair(frames: FrameSampler, sequence: LatentSequence, position: int) -> dict[str, Tensor]:
    """The frame at ``position`` of a sequence as `FrameSampler.item`, with latents of ED and of itself, ``C x y Z``."""
    item = frames.item(sequence.subject, sequence.frames[position])
    return {**item, "ed": sequence.latents[0], "frame": sequence.latents[position]}
