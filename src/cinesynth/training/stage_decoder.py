"""The decoder alone, on noisy latents of the frozen encoder: what generated latents get wrong is then not seen."""

from __future__ import annotations

import torch
from torch import Tensor

from cinesynth.config import Config, DecoderTraining
from cinesynth.data.packed import PackedDataset
from cinesynth.models.codec import Codec
from cinesynth.models.vae import VAE, Decoded, Posterior
from cinesynth.training.stage_vae import VAEStage
from cinesynth.training.streams import stream, uniform

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
