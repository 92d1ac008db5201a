"""Stage 1: the semi-supervised VAE (paper, section 2.1). Masks count only where they were annotated."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from cinesynth.config import Config, DecoderTraining, VAETraining
from cinesynth.data.packed import PackedDataset
from cinesynth.io.reproducibility import stream, uniform
from cinesynth.models.codec import Codec
from cinesynth.models.vae import VAE, Decoded, Posterior
from cinesynth.training.frames import Batch, FrameSampler, Prefetch, collate
from cinesynth.training.losses import Discriminator, alternate_slices, ramp, reconstruction, reconstruction_scores
from cinesynth.training.preview import save_reconstructions
from cinesynth.training.stages import Loss, evenly_spaced

SHARPNESS_WEIGHT = 0.004
"""Weight of the sharpness error in the validation score, per dB: ten dB weigh as much as 0.04 of L1 or 0.08 of Dice.
The smallest L1 error belongs to blurred images; by itself it would never select the effect of adversarial training."""
DICE = ("dice_rv", "dice_myo", "dice_lv")
"""Dice scores, each present only if the validation split has labels of the structure."""


class VAEStage:
    """Trains a VAE and, if there is an adversarial loss, its discriminator."""

    name = "vae"

    def __init__(
        self,
        vae: VAE,
        config: Config,
        data: PackedDataset,
        device: torch.device,
        settings: VAETraining | None = None,
    ) -> None:
        self.config, self.device = config, device
        self.settings = settings or config.training.vae
        seed = config.training.seed
        self.frames = FrameSampler(data.split("train"), seed, self.settings.phantom_share)
        self.held_out = FrameSampler(data.split("validation"), seed, self.settings.phantom_share)
        self.batches = Prefetch(self._batch, self.settings.steps)
        self.modules: dict[str, nn.Module] = {"model": vae}
        self.discriminator = Discriminator() if self.settings.losses.adversarial > 0 else None
        if self.discriminator is not None:
            self.modules["critic"] = self.discriminator  # its name in checkpoints and metrics

    def losses(self, step: int, cases: range) -> Iterator[Loss]:
        """The VAE's loss, then the discriminator's."""
        weights = self.settings.losses
        batch = {name: tensor.to(self.device) for name, tensor in self.batches(step, cases).items()}
        posterior, decoded = self._autoencode(batch, step, cases)
        total, parts = reconstruction(decoded, batch, weights, self.discriminator, step)
        if weights.kl > 0:
            parts["kl"] = posterior.kl(batch["slice_mask"])
            total = total + weights.kl * ramp(step, weights.kl_start_step, weights.kl_anneal_steps) * parts["kl"]
        yield Loss("model", total, {name: float(value.detach()) for name, value in parts.items()})
        if self.discriminator is not None and step >= weights.adversarial_start_step:
            mask = batch["slice_mask"]
            fake, real = (alternate_slices(x, mask, step) for x in (decoded.image, batch["image"]))
            yield Loss("critic", self.discriminator.d_loss(fake, real))

    def _batch(self, step: int, cases: range) -> Batch:
        strength = 1.0 if self.settings.augment else 0.0
        return collate([self.frames.augmented(step, case, self.settings.crop, strength) for case in cases])

    def _autoencode(self, batch: dict[str, Tensor], step: int, cases: range) -> tuple[Posterior, Decoded]:
        noise = self._noise(step, cases, batch)
        result: tuple[Posterior, Decoded] = self.modules["model"](batch["image"], batch["slice_mask"], noise)
        return result

    def _noise(self, step: int, cases: range, batch: dict[str, Tensor]) -> Tensor:
        """Noise on the latents of a batch, ``B C x y Z``."""
        stride, channels = self.config.vae.stride, self.config.vae.latent_channels
        _, _, x, y, z = batch["image"].shape
        size = (channels, x // stride, y // stride, z)
        # One stream a case, so that a case's noise depends neither on the batch nor on the number of processes.
        streams = [stream(self.config.training.seed, "vae noise", step, case) for case in cases]
        return torch.stack([torch.randn(size, generator=generator) for generator in streams]).to(self.device)

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Reconstruction and segmentation of validation frames, whole and unaugmented."""
        assert isinstance(model, VAE)
        scores = [reconstruction_scores(self._reconstruct(model, batch), batch) for batch in self._validation_batches()]
        found = {k: [s[k] for s in scores if k in s] for k in ("l1", "psnr", "sharpness_db", *DICE)}
        mean = {k: _mean(values) for k, values in found.items() if values}
        dice = _mean([mean[k] for k in DICE if k in mean])
        blur = SHARPNESS_WEIGHT * abs(mean["sharpness_db"])
        return {**mean, "score": mean["l1"] + 0.5 * (1.0 - dice) + blur}

    def preview(self, model: nn.Module, path: Path) -> None:
        """Validation slices above their reconstructions."""
        assert isinstance(model, VAE)
        batches = self._validation_batches()[:4]
        save_reconstructions(path, [(batch, self._reconstruct(model, batch)) for batch in batches])

    def _reconstruct(self, model: VAE, batch: dict[str, Tensor]) -> Decoded:
        return model.decode(model.encode(batch["image"], batch["slice_mask"]).mean, batch["slice_mask"])

    def _validation_batches(self) -> list[dict[str, Tensor]]:
        held = self.held_out
        subjects = held.patients or held.phantoms
        pairs = [(s, frame) for s in subjects for frame in (held.record(s).ed, held.record(s).es)]
        return [collate([held.item(*pair)], self.device) for pair in evenly_spaced(pairs, 24)]


def _mean(values: list[float]) -> float:
    return sum(values) / max(1, len(values))


# --- Fine-tuning the decoder on noisy latents of the frozen encoder --------------------------------------------------


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

    def _autoencode(self, batch: dict[str, Tensor], step: int, cases: range) -> tuple[Posterior, Decoded]:
        seed = self.config.training.seed
        levels = [uniform(stream(seed, "decoder noise", step, case), 0.0, self.latent_noise) for case in cases]
        noise_std = torch.tensor(levels, device=self.device)[:, None, None, None, None] * self.unit  # B C 1 1 1
        noise = self._noise(step, cases, batch)
        result: tuple[Posterior, Decoded] = self.modules["model"](batch["image"], batch["slice_mask"], noise, noise_std)
        return result

    def _reconstruct(self, model: VAE, batch: dict[str, Tensor]) -> Decoded:
        noise = self._noise(0, range(len(batch["image"])), batch)
        noise_std = 0.5 * self.latent_noise * self.unit  # the mean of the training levels
        decoded: Decoded = model(batch["image"], batch["slice_mask"], noise, noise_std)[1]
        return decoded
