"""The texture stage: trains the network that adds texture to decoded images (`cinesynth.models.texture`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cinesynth.config import Config
from cinesynth.config.training import TextureTraining
from cinesynth.data.packed import PackedDataset
from cinesynth.io.reproducibility import stream, uniform
from cinesynth.models.codec import Codec
from cinesynth.models.precision import quicken, resolve_precision
from cinesynth.models.texture import TextureNet
from cinesynth.models.vae import Decoded
from cinesynth.training.adversary import Critics
from cinesynth.training.frames import Batch, FrameSampler, Prefetch, collate
from cinesynth.training.losses import (
    acquired_slices,
    reconstruction_scores,
    spectrum_distance,
    spectrum_error_db,
)
from cinesynth.training.preview import save_reconstructions
from cinesynth.training.stages import Loss, evenly_spaced
from cinesynth.training.stages.reconstruction import case_noise
from cinesynth.training.texture_of_people import COARSE, missing_detail_db, reconstructed


class TextureStage:
    """Trains the texture network on what a frozen codec makes of frames, against the frames themselves."""

    name = "texture"

    def __init__(
        self, network: TextureNet, codec: Codec, config: Config, settings: TextureTraining, data: PackedDataset
    ) -> None:
        self.codec, self.device = codec, codec.latent_mean.device
        precision = resolve_precision(config.training.precision, self.device.type)
        for part in (codec.vae.encoder, *codec.vae.decoders):
            quicken(part, self.device.type, precision)
        self.settings, self.seed = settings, config.training.seed
        parts = (data.split(split) for split in ("train", "validation"))
        self.frames, self.held_out = (FrameSampler(part, self.seed, settings.phantom_share) for part in parts)
        self.batches = Prefetch(self._batch, settings.steps)
        self.critics = Critics()
        self.modules: dict[str, nn.Module] = {"model": network, "critic": self.critics}
        self.noise_channels = network.noise_channels

    def losses(self, step: int, cases: range) -> Iterator[Loss]:
        """The network's loss, then the discriminators'."""
        weights, critics = self.settings.losses, self.critics
        batch = {name: tensor.to(self.device) for name, tensor in self.batches(step, cases).items()}
        with torch.no_grad():
            image = self._decoded(batch, step, cases).image
        noise = self._noise("texture noise", step, cases, image)
        detail = missing_detail_db(image, batch)
        decoded, real, noise = (acquired_slices(x, batch["slice_mask"]) for x in (image, batch["image"], noise))
        made = self.modules["model"](decoded, noise, detail).float()  # N 1 P Q
        parts = {
            "coarse": F.l1_loss(F.avg_pool2d(made, COARSE), F.avg_pool2d(real, COARSE)),
            "pixel": F.l1_loss(made, real),
            "spectrum": spectrum_distance(made, real),
        }
        parts["adversarial"], parts["perceptual"] = critics.g_loss(made, real, decoded)
        total = torch.stack([getattr(weights, name) * value for name, value in parts.items()]).sum()
        yield Loss("model", total, {name: float(value.detach()) for name, value in parts.items()})
        yield Loss("critic", critics.d_loss(made, real, decoded))

    def _batch(self, step: int, cases: range) -> Batch:
        # Other appearances are not those of people: views are cropped, and nothing else.
        return collate([self.frames.augmented(step, case, self.settings.crop, 0.0) for case in cases])

    def _decoded(self, batch: Batch, step: int, cases: range) -> Decoded:
        """What the codec makes of frames, with noise on their latents."""
        latent = self.codec.encode(batch["image"], batch["slice_mask"])
        levels = [self._level(step, case) for case in cases]
        noise = case_noise(self.seed, "texture latent", step, cases, latent.shape[1:]).to(latent)
        noisy = latent + torch.tensor(levels).to(latent)[:, None, None, None, None] * noise
        return self.codec.decode(noisy, batch["slice_mask"])

    def _level(self, step: int, case: int) -> float:
        return uniform(stream(self.seed, "texture level", step, case), 0.0, self.settings.latent_noise)

    def _noise(self, purpose: str, step: int, cases: range, like: Tensor) -> Tensor:
        """The network's noise for a batch of images, ``B K X Y Z``."""
        shape: Sequence[int] = (self.noise_channels, *like.shape[2:])
        return case_noise(self.seed, purpose, step, cases, shape).to(like)

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Errors of validation frames with texture; the score is how far their spectra are from the frames' own, dB."""
        assert isinstance(model, TextureNet)
        scores = []
        for batch in self._validation_batches():
            decoded = self._textured(model, batch)
            spectra = [acquired_slices(x, batch["slice_mask"]) for x in (decoded.image, batch["image"])]
            scores.append({**reconstruction_scores(decoded, batch), "score": spectrum_error_db(*spectra)})
        return {name: sum(s[name] for s in scores) / len(scores) for name in ("l1", "psnr", "sharpness_db", "score")}

    def preview(self, model: nn.Module, path: Path) -> None:
        """Validation slices above their reconstructions with texture."""
        assert isinstance(model, TextureNet)
        save_reconstructions(path, [(batch, self._textured(model, batch)) for batch in self._validation_batches()[:4]])

    def _textured(self, model: TextureNet, batch: Batch) -> Decoded:
        decoded = reconstructed(self.codec, batch)
        noise = self._noise("texture validation", 0, range(len(batch["image"])), decoded.image)
        slices, fields = (x.movedim(-1, 1).flatten(0, 1) for x in (decoded.image, noise))
        detail = missing_detail_db(decoded.image, batch)[:1].expand(len(slices))  # that of the only case
        made = model(slices, fields, detail).float().unflatten(0, (len(batch["image"]), -1)).movedim(1, -1)
        return Decoded(made, decoded.logits)

    def _validation_batches(self) -> list[Batch]:
        held = self.held_out
        pairs = [(s, held.record(s).ed) for s in held.patients or held.phantoms]
        return [collate([held.item(*pair)], self.device) for pair in evenly_spaced(pairs, 24)]
