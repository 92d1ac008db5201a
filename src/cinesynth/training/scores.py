"""What a decoded batch gets wrong, in the units that people compare."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from cinesynth.models.vae import Decoded
from cinesynth.training.losses import acquired_slices
from cinesynth.training.spectrum import sharpness_db
from cinesynth.types import STRUCTURES


def reconstruction_scores(decoded: Decoded, batch: dict[str, Tensor]) -> dict[str, float]:
    """L1, PSNR (dB, range 2) and sharpness (dB) of acquired slices, Dice of each structure where it was annotated."""
    found, target = (acquired_slices(x, batch["slice_mask"]) for x in (decoded.image.clamp(-1, 1), batch["image"]))
    error = found - target
    mse = float(error.square().mean())
    scores = {"l1": float(error.abs().mean()), "psnr": 10.0 * math.log10(4.0 / max(mse, 1e-12))}
    scores["sharpness_db"] = sharpness_db(found, target)
    return scores | dice_scores(decoded.logits.argmax(dim=1), batch["label"][:, 0].long(), batch["coverage"])


def dice_scores(predicted: Tensor, truth: Tensor, coverage: Tensor) -> dict[str, float]:
    """Dice of each structure of ``B X Y Z`` labels over the slices that cover it (``B Z S``).

    A structure that neither label has there is left out.
    """
    scores = {}
    for i, structure in enumerate(STRUCTURES):
        covered = coverage[:, None, None, :, i]
        a, b = (predicted == structure) & covered, (truth == structure) & covered
        size = float(a.sum() + b.sum())
        if size > 0:
            scores[f"dice_{structure.name.lower()}"] = 2.0 * float(torch.logical_and(a, b).sum()) / size
    return scores
