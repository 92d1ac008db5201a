"""Stage 1: the semi-supervised VAE (paper, section 2.1). Masks count only where they were annotated."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from cinesynth.config import Config, DecoderTraining, VAETraining
from cinesynth.data.packed import PackedDataset
from cinesynth.io.seeds import stream, uniform
from cinesynth.models.codec import Codec
from cinesynth.models.vae import VAE, Decoded, Posterior
from cinesynth.training.frames import Frames, collate
from cinesynth.training.losses import Discriminator, judged_slices, ramp, reconstruction, reconstruction_scores
from cinesynth.training.preview import save_reconstructions
from cinesynth.training.stages import Loss

VALIDATION_FRAMES = 24
SHARPNESS_WEIGHT = 0.004
"""Of the score, per dB: the smallest L1 error belongs to blurred images, and would never choose what a critic taught.
Ten dB count as much as 0.04 of grey value or 0.08 of Dice."""
DICE = ("dice_rv", "dice_myo", "dice_lv")
"""Scores of structures that nobody of the validation split is labelled for are left out."""


class VAEStage:
    """Trains a VAE and, where the losses ask for one, its critic."""

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
        self.frames = Frames(data.split("train"), seed, self.settings.phantom_share)
        self.held_out = Frames(data.split("validation"), seed, self.settings.phantom_share)
        self.modules: dict[str, nn.Module] = {"model": vae}
        self.critic = Discriminator() if self.settings.losses.adversarial > 0 else None
        if self.critic is not None:
            self.modules["critic"] = self.critic

    def losses(self, step: int, cases: range) -> Iterator[Loss]:
        """The VAE's loss, then the critic's."""
        weights = self.settings.losses
        strength = 1.0 if self.settings.augment else 0.0
        items = [self.frames.augmented(step, case, self.settings.crop, strength) for case in cases]
        batch = collate(items, self.device)
        posterior, decoded = self._autoencode(batch, step, cases)
        total, parts = reconstruction(decoded, batch, weights, self.critic, step)
        if weights.kl > 0:
            parts["kl"] = posterior.kl(batch["slice_mask"])
            total = total + weights.kl * ramp(step, weights.kl_start_step, weights.kl_anneal_steps) * parts["kl"]
        yield Loss("model", total, {name: float(value.detach()) for name, value in parts.items()})
        if self.critic is not None and step >= weights.adversarial_start_step:
            yield Loss("critic", self._judge(decoded, batch, step))

    def _autoencode(self, batch: dict[str, Tensor], step: int, cases: range) -> tuple[Posterior, Decoded]:
        found: tuple[Posterior, Decoded] = self.modules["model"](
            batch["image"], batch["slice_mask"], self._noise(step, cases, batch)
        )
        return found

    def _judge(self, decoded: Decoded, batch: dict[str, Tensor], step: int) -> Tensor:
        assert self.critic is not None
        mask = batch["slice_mask"]
        return self.critic.judge(*(judged_slices(x, mask, step) for x in (decoded.image, batch["image"])))

    def _noise(self, step: int, cases: range, batch: dict[str, Tensor]) -> Tensor:
        stride, channels = self.config.vae.stride, self.config.vae.latent_channels
        _, _, x, y, z = batch["image"].shape
        size = (channels, x // stride, y // stride, z)
        seed = self.config.training.seed
        return torch.stack([torch.randn(size, generator=stream(seed, "vae noise", step, c)) for c in cases]).to(
            self.device
        )

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
        kept = pairs[:: max(1, len(pairs) // VALIDATION_FRAMES)][:VALIDATION_FRAMES]
        return [collate([held.item(*pair)], self.device) for pair in kept]


def _mean(values: list[float]) -> float:
    return sum(values) / max(1, len(values))


# --- The decoder alone, on noisy latents of the frozen encoder -------------------------------------------------------


USUAL = 0.5
"""Noise at which validation looks, as a share of the largest."""


class DecoderStage(VAEStage):
    """Trains the decoder of a codec further; its encoder, and so every latent, stays what it is bit for bit."""

    name = "decoder"

    def __init__(
        self, codec: Codec, config: Config, settings: DecoderTraining, data: PackedDataset, device: torch.device
    ) -> None:
        super().__init__(codec.vae, config, data, device, settings)
        self.latent_noise = settings.latent_noise
        self.unit = codec.latent_std.to(device)[None, :, None, None, None]
        codec.vae.encoder.requires_grad_(False)

    def _autoencode(self, batch: dict[str, Tensor], step: int, cases: range) -> tuple[Posterior, Decoded]:
        seed = self.config.training.seed
        drawn = [uniform(stream(seed, "decoder noise", step, case), 0.0, self.latent_noise) for case in cases]
        spread = torch.tensor(drawn, device=self.device)[:, None, None, None, None] * self.unit
        found: tuple[Posterior, Decoded] = self.modules["model"](
            batch["image"], batch["slice_mask"], self._noise(step, cases, batch), spread
        )
        return found

    def _reconstruct(self, model: VAE, batch: dict[str, Tensor]) -> Decoded:
        noise = self._noise(0, range(len(batch["image"])), batch)
        decoded: Decoded = model(batch["image"], batch["slice_mask"], noise, USUAL * self.latent_noise * self.unit)[1]
        return decoded
