"""Stages that decode images: the semi-supervised VAE, residual motion, and fine-tuning of the decoder.

Masks count only where they were annotated (paper, sections 2.1 and 2.2).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from cinesynth.config import Config
from cinesynth.config.training import AutoencodingLosses, DecoderTraining, VAETraining
from cinesynth.data.packed import PackedDataset
from cinesynth.io.reproducibility import stream, uniform
from cinesynth.models.codec import Codec
from cinesynth.models.residual_motion import ResidualNet
from cinesynth.models.vae import VAE, Decoded, Posterior
from cinesynth.training.frames import Batch, FrameSampler, Prefetch, collate
from cinesynth.training.latents import LatentSequence
from cinesynth.training.losses import (
    Discriminator,
    acquired_slices,
    alternate_slices,
    dice_ce,
    gradient,
    l1,
    ramp,
    reconstruction_scores,
    spectrum_distance,
)
from cinesynth.training.preview import save_reconstructions
from cinesynth.training.stages import Loss, evenly_spaced

SHARPNESS_WEIGHT = 0.004
"""Weight of the sharpness error in the validation score, per dB: ten dB weigh as much as 0.04 of L1 or 0.08 of Dice.
The smallest L1 error belongs to blurred images; by itself it would never select the effect of adversarial training."""
DICE = ("dice_rv", "dice_myo", "dice_lv")
"""Dice scores, each present only if the validation split has labels of the structure."""


class ImageLoss:
    """Losses of a decoded image and mask against their frame and, if one is adversarial, a discriminator of images."""

    def __init__(self, network: nn.Module, weights: AutoencodingLosses) -> None:
        self.weights, self.modules = weights, {"model": network}
        self.discriminator = Discriminator() if weights.adversarial > 0 else None
        if self.discriminator is not None:
            self.modules["critic"] = self.discriminator  # its name in checkpoints and metrics

    def __call__(self, decoded: Decoded, batch: Batch, step: int, **penalties: tuple[float, Tensor]) -> Iterator[Loss]:
        """The network's loss, then the discriminator's; ``penalties`` are further losses with their weights."""
        image, slice_mask, weights = batch["image"], batch["slice_mask"], self.weights
        parts = {
            "l1": l1(decoded.image, image, slice_mask),
            "gradient": gradient(decoded.image, image, slice_mask),
            "dice_ce": dice_ce(decoded.logits, batch["label"], batch["coverage"]),
        }
        if weights.spectrum > 0:
            parts["spectrum"] = spectrum_distance(*(acquired_slices(x, slice_mask) for x in (decoded.image, image)))
        critic = self.discriminator if step >= weights.adversarial_start_step else None
        if critic is not None:
            fake, real = (alternate_slices(x, slice_mask, step) for x in (decoded.image, image))
            features_real = critic(real)
            parts["adversarial"], parts["perceptual"] = critic.g_loss(fake, features_real)
        total = torch.stack([getattr(weights, name) * value for name, value in parts.items()]).sum()
        for name, (weight, value) in penalties.items():
            parts[name] = value
            total = total + weight * value
        yield Loss("model", total, {name: float(value.detach()) for name, value in parts.items()})
        if critic is not None:
            yield Loss("critic", critic.d_loss(fake, features_real))


def case_noise(seed: int, purpose: str, step: int, cases: range, shape: Sequence[int]) -> Tensor:
    """Normal noise of ``shape`` for each case, ``B ...``."""
    # One stream a case, so that a case's noise depends neither on the batch nor on the number of processes.
    streams = [stream(seed, purpose, step, case) for case in cases]
    return torch.stack([torch.randn(*shape, generator=generator) for generator in streams])


class VAEStage:
    """Stage 1: trains a VAE."""

    name = "vae"

    def __init__(
        self, vae: VAE, config: Config, data: PackedDataset, device: torch.device, settings: VAETraining | None = None
    ) -> None:
        self.config, self.device = config, device
        self.settings, self.seed = settings or config.training.vae, config.training.seed
        parts = (data.split(split) for split in ("train", "validation"))
        self.frames, self.held_out = (FrameSampler(part, self.seed, self.settings.phantom_share) for part in parts)
        self.batches = Prefetch(self._batch, self.settings.steps)
        self.loss = ImageLoss(vae, self.settings.losses)
        self.modules = self.loss.modules

    def losses(self, step: int, cases: range) -> Iterator[Loss]:
        """The VAE's loss, then the discriminator's."""
        weights, penalties = self.settings.losses, {}
        batch = {name: tensor.to(self.device) for name, tensor in self.batches(step, cases).items()}
        posterior, decoded = self._autoencode(batch, step, cases)
        if weights.kl > 0:
            weight = weights.kl * ramp(step, weights.kl_start_step, weights.kl_anneal_steps)
            penalties["kl"] = weight, posterior.kl(batch["slice_mask"])
        yield from self.loss(decoded, batch, step, **penalties)

    def _batch(self, step: int, cases: range) -> Batch:
        strength = 1.0 if self.settings.augment else 0.0
        return collate([self.frames.augmented(step, case, self.settings.crop, strength) for case in cases])

    def _autoencode(self, batch: Batch, step: int, cases: range) -> tuple[Posterior, Decoded]:
        noise = self._noise(step, cases, batch)
        result: tuple[Posterior, Decoded] = self.modules["model"](batch["image"], batch["slice_mask"], noise)
        return result

    def _noise(self, step: int, cases: range, batch: Batch) -> Tensor:
        """Noise on the latents of a batch, ``B C x y Z``."""
        stride, (x, y, z) = self.config.vae.stride, batch["image"].shape[2:]
        shape = (self.config.vae.latent_channels, x // stride, y // stride, z)
        return case_noise(self.seed, "vae noise", step, cases, shape).to(self.device)

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Reconstruction and segmentation of validation frames, whole and unaugmented."""
        scores = [reconstruction_scores(self._reconstruct(model, batch), batch) for batch in self._validation_batches()]
        found = {name: [s[name] for s in scores if name in s] for name in ("l1", "psnr", "sharpness_db", *DICE)}
        mean = {name: sum(values) / len(values) for name, values in found.items() if values}
        dices = [mean[name] for name in DICE if name in mean]
        dice = sum(dices) / max(1, len(dices))
        blur = SHARPNESS_WEIGHT * abs(mean["sharpness_db"])
        return {**mean, "score": mean["l1"] + 0.5 * (1.0 - dice) + blur}

    def preview(self, model: nn.Module, path: Path) -> None:
        """Validation slices above their reconstructions."""
        batches = self._validation_batches()[:4]
        save_reconstructions(path, [(batch, self._reconstruct(model, batch)) for batch in batches])

    def _reconstruct(self, model: nn.Module, batch: Batch) -> Decoded:
        assert isinstance(model, VAE)
        return model.decode(model.encode(batch["image"], batch["slice_mask"]).mean, batch["slice_mask"])

    def _validation_batches(self) -> list[Batch]:
        held = self.held_out
        subjects = held.patients or held.phantoms
        pairs = [(s, frame) for s in subjects for frame in (held.record(s).ed, held.record(s).es)]
        return [collate([held.item(*pair)], self.device) for pair in evenly_spaced(pairs, 24)]


class DecoderStage(VAEStage):
    """Fine-tunes the decoder of a codec on noisy latents (see `DecoderTraining`).

    The encoder, and with it every latent, stays the same bit for bit.
    """

    name = "decoder"

    def __init__(
        self, codec: Codec, config: Config, settings: DecoderTraining, data: PackedDataset, device: torch.device
    ) -> None:
        super().__init__(codec.vae, config, data, device, settings)
        self.latent_noise = settings.latent_noise
        self.unit = codec.latent_std.to(device)[None, :, None, None, None]  # 1 C 1 1 1
        codec.vae.encoder.requires_grad_(False)

    def _autoencode(self, batch: Batch, step: int, cases: range) -> tuple[Posterior, Decoded]:
        levels = [uniform(stream(self.seed, "decoder noise", step, case), 0.0, self.latent_noise) for case in cases]
        noise_std = torch.tensor(levels, device=self.device)[:, None, None, None, None] * self.unit  # B C 1 1 1
        noise = self._noise(step, cases, batch)
        result: tuple[Posterior, Decoded] = self.modules["model"](batch["image"], batch["slice_mask"], noise, noise_std)
        return result

    def _reconstruct(self, model: nn.Module, batch: Batch) -> Decoded:
        noise = self._noise(0, range(len(batch["image"])), batch)
        noise_std = 0.5 * self.latent_noise * self.unit  # the mean of the training levels
        decoded: Decoded = model(batch["image"], batch["slice_mask"], noise, noise_std)[1]
        return decoded


class ResidualMotionStage:
    """Stage 2: trains M through the frozen codec on pairs of latents, of ED and of another frame of one subject."""

    name = "residual_motion"

    def __init__(
        self,
        model: ResidualNet,
        codec: Codec,
        config: Config,
        train: tuple[FrameSampler, list[LatentSequence]],
        validation: tuple[FrameSampler, list[LatentSequence]],
    ) -> None:
        self.codec, self.device = codec, codec.latent_mean.device
        self.settings, self.seed = config.training.residual_motion, config.training.seed
        self.frames, sequences = train
        self.sequences = {s.subject: s for s in sequences}
        self.held_out, self.held_out_sequences = validation
        self.batches = Prefetch(self._batch, self.settings.steps)
        self.loss = ImageLoss(model, self.settings.losses)
        self.modules = self.loss.modules

    def losses(self, step: int, cases: range) -> Iterator[Loss]:
        """M's loss, then the discriminator's."""
        weights, model = self.settings.losses, self.modules["model"]
        batch = {name: tensor.to(self.device) for name, tensor in self.batches(step, cases).items()}
        residual = model(batch["ed"], batch["frame"], batch["slice_mask"])  # B C x y Z
        # The noise on the residual decays to 0 over training.
        level = weights.residual_noise * (1.0 - step / self.settings.steps)
        noise = case_noise(self.seed, "motion noise", step, cases, residual.shape[1:]).to(residual)
        decoded = self.codec.decode(batch["ed"] + (residual + noise * level), batch["slice_mask"])
        still = model(batch["ed"], batch["ed"], batch["slice_mask"])  # should be 0: M(z, z) = 0
        energy = (weights.residual_energy, residual.square().mean())
        identity = (weights.identity, still.square().mean())
        yield from self.loss(decoded, batch, step, residual_energy=energy, identity=identity)

    def _batch(self, step: int, cases: range) -> Batch:
        pairs = []
        for case in cases:
            subject, generator = self.frames.draw("pairs", step, case)
            sequence = self.sequences[subject]
            pairs.append(_pair(self.frames, sequence, int(uniform(generator, 1, len(sequence.frames)))))
        return collate(pairs)

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Reconstruction from z_ED + M(z_ED, z_t) instead of z_t, on validation subjects."""
        scores = [reconstruction_scores(self._reconstruct(model, batch), batch) for batch in self._validation_batches()]
        mean = {name: sum(s[name] for s in scores) / len(scores) for name in ("l1", "psnr")}
        return {**mean, "score": mean["l1"]}

    def preview(self, model: nn.Module, path: Path) -> None:
        """Validation frames above their reconstruction from ED and residual."""
        batches = self._validation_batches()[:4]
        save_reconstructions(path, [(batch, self._reconstruct(model, batch)) for batch in batches])

    def _reconstruct(self, model: nn.Module, batch: Batch) -> Decoded:
        residual = model(batch["ed"], batch["frame"], batch["slice_mask"])
        return self.codec.decode(batch["ed"] + residual, batch["slice_mask"])

    def _validation_batches(self) -> list[Batch]:
        kept = self.held_out_sequences[:16]
        return [collate([_pair(self.held_out, s, len(s.frames) // 2)], self.device) for s in kept]


def _pair(frames: FrameSampler, sequence: LatentSequence, position: int) -> dict[str, Tensor]:
    """The frame at ``position`` of a sequence as `FrameSampler.item`, with latents of ED and of itself, ``C x y Z``."""
    item = frames.item(sequence.subject, sequence.frames[position])
    return {**item, "ed": sequence.latents[0], "frame": sequence.latents[position]}
