"""Losses of the stages that decode images. Slices that were not acquired never count."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from monai.losses import DiceCELoss, PatchAdversarialLoss
from monai.networks.nets import PatchDiscriminator
from torch import Tensor, nn

from cinesynth.config import AutoencodingLosses
from cinesynth.models.layers import broadcast_mask
from cinesynth.models.vae import Decoded

GRADIENT_SCALES = (1, 2, 4)


def l1(image: Tensor, target: Tensor, slice_mask: Tensor) -> Tensor:
    """Mean absolute error over acquired slices, ``B 1 X Y Z`` images."""
    mask = broadcast_mask(slice_mask, image).expand_as(image)
    return ((image - target).abs() * mask).sum() / mask.sum().clamp(min=1)


def gradient(image: Tensor, target: Tensor, slice_mask: Tensor) -> Tensor:
    """Mean absolute error of in-plane finite differences at three scales: edges, whatever their height."""
    error = acquired_slices(image - target, slice_mask)  # N 1 X Y
    total = error.new_zeros(())
    for scale in GRADIENT_SCALES:
        pooled = F.avg_pool2d(error, scale) if scale > 1 else error
        total = total + pooled.diff(dim=2).abs().mean() + pooled.diff(dim=3).abs().mean()
    return total


def dice_ce(logits: Tensor, label: Tensor, labelled: Tensor) -> Tensor:
    """Soft Dice and cross-entropy (MONAI) over the labelled cases of ``B 4 X Y Z`` logits; 0 where there are none."""
    if not bool(labelled.any()):
        return logits.sum() * 0.0
    loss = DiceCELoss(to_onehot_y=True, softmax=True, include_background=False, batch=True)
    value: Tensor = loss(logits[labelled], label[labelled].long())
    return value


def acquired_slices(volume: Tensor, slice_mask: Tensor) -> Tensor:
    """The acquired slices of ``B C X Y Z`` as images ``N C X Y``."""
    return volume.movedim(-1, 1)[slice_mask]


def ramp(step: int, start: int, length: int) -> float:
    """0 before ``start``, then linearly to 1 over ``length`` steps."""
    return 0.0 if step < start else 1.0 if length == 0 else min(1.0, (step - start) / length)


class Critic(nn.Module):
    """A patch discriminator of single slices (least squares), which also compares features."""

    def __init__(self, channels: int = 32) -> None:
        super().__init__()
        self.network = PatchDiscriminator(
            spatial_dims=2, in_channels=1, channels=channels, num_layers_d=3, norm=("GROUP", {"num_groups": 8})
        )
        self.criterion = PatchAdversarialLoss(criterion="least_squares")

    def forward(self, slices: Tensor) -> list[Tensor]:
        """Features of each layer of ``N 1 X Y`` slices; the last are the verdicts."""
        features: list[Tensor] = self.network(slices)
        return features

    def judge(self, fake: Tensor, real: Tensor) -> Tensor:
        """The critic's own loss."""
        verdict_fake, verdict_real = self(fake.detach())[-1], self(real)[-1]
        wrong = self.criterion(verdict_fake, target_is_real=False, for_discriminator=True)
        right = self.criterion(verdict_real, target_is_real=True, for_discriminator=True)
        loss: Tensor = 0.5 * (wrong + right)
        return loss

    def persuade(self, fake: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
        """The generator's adversarial loss and the distance of features (feature matching, Wang et al., 2018)."""
        features = self(fake)
        with torch.no_grad():
            wanted = self(real)
        adversarial = self.criterion(features[-1], target_is_real=True, for_discriminator=False)
        distances = [F.l1_loss(a, b) for a, b in zip(features[:-1], wanted[:-1], strict=True)]
        return adversarial, torch.stack(distances).mean()


def reconstruction(
    decoded: Decoded, batch: dict[str, Tensor], weights: AutoencodingLosses, critic: Critic | None, step: int
) -> tuple[Tensor, dict[str, Tensor]]:
    """Weighted sum of what a decoded image and mask get wrong, and its parts."""
    image, slice_mask = batch["image"], batch["slice_mask"]
    parts: dict[str, Any] = {
        "l1": l1(decoded.image, image, slice_mask),
        "gradient": gradient(decoded.image, image, slice_mask),
        "dice_ce": dice_ce(decoded.logits, batch["label"], batch["labelled"]),
    }
    if critic is not None and step >= weights.adversarial_start_step:
        fake, real = acquired_slices(decoded.image, slice_mask), acquired_slices(image, slice_mask)
        parts["adversarial"], parts["perceptual"] = critic.persuade(fake, real)
    total = torch.stack([getattr(weights, name) * value for name, value in parts.items()]).sum()
    return total, parts
