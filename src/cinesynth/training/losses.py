"""Losses of the stages that decode images: images count on acquired slices, masks where they were annotated."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from monai.losses import DiceLoss, PatchAdversarialLoss
from monai.networks.nets import PatchDiscriminator
from torch import Tensor, nn

from cinesynth.models.layers import broadcast_mask
from cinesynth.models.vae import Decoded
from cinesynth.types import STRUCTURES, BatchCoverage, BatchLabel, Image, Logits, PerSlice, Scalar, SliceMask, Slices

_DICE = DiceLoss(to_onehot_y=True, softmax=True, include_background=False, batch=True, reduction="none")


def l1(image: Image, target: Image, slice_mask: SliceMask) -> Scalar:
    """Mean absolute error over acquired slices."""
    mask = broadcast_mask(slice_mask, image).expand_as(image)
    return ((image - target).abs() * mask).sum() / mask.sum().clamp(min=1)


def gradient(image: Image, target: Image, slice_mask: SliceMask, scales: tuple[int, ...] = (1, 2, 4)) -> Scalar:
    """Mean absolute error of in-plane finite differences after pooling by each of ``scales``: edges, not brightness."""
    error = acquired_slices(image - target, slice_mask)  # N 1 X Y
    total = error.new_zeros(())
    for scale in scales:
        pooled = F.avg_pool2d(error, scale) if scale > 1 else error
        total = total + pooled.diff(dim=2).abs().mean() + pooled.diff(dim=3).abs().mean()
    return total


def dice_ce(logits: Logits, label: BatchLabel, coverage: BatchCoverage) -> Scalar:
    """Soft Dice (MONAI) plus cross-entropy, over what was annotated (``coverage``); 0 where nothing was.

    Dice is the mean over the structures annotated anywhere in the batch. Cross-entropy is the mean over the voxels of
    slices in which any structure was annotated.
    """
    cases = coverage.flatten(1).any(dim=1)
    if not bool(cases.any()):
        return logits.sum() * 0.0  # a zero with a gradient: processes that train together must all have one
    covered = coverage[cases].movedim(2, 1)[:, :, None, None]  # B Z S -> B S 1 1 Z
    merged = merge_unannotated(logits[cases], covered)
    target = label[cases].long()
    for i, structure in enumerate(STRUCTURES):  # what was not annotated there is background
        target = target.masked_fill((target == structure) & ~covered[:, i : i + 1], 0)
    dice: Tensor = _DICE(merged, target)[covered.transpose(0, 1).flatten(1).any(dim=1)].mean()
    share = coverage[cases].any(dim=2).float().mean()  # in other slices all classes are merged: cross-entropy 0
    return dice + F.cross_entropy(merged, target[:, 0]) / share


def merge_unannotated(logits: Tensor, covered: Tensor) -> Tensor:
    """``B 4 X Y Z`` logits with one class for the background and every structure that was not annotated there.

    ``covered`` is ``B S 1 1 Z``. The background's logit becomes that of "background or not annotated", those of the
    merged structures minus infinity, so that no loss of the result can tell them apart (partial-label learning).
    """
    if bool(covered.all()):
        return logits
    background, structures = logits[:, :1], logits[:, 1:]
    # log(e^a + e^b) is the logit of "a or b".
    either = torch.cat([background, structures.masked_fill(covered, -torch.inf)], dim=1).logsumexp(dim=1, keepdim=True)
    return torch.cat([either, structures.masked_fill(~covered, -torch.inf)], dim=1)


def acquired_slices(volume: Tensor, slice_mask: SliceMask) -> Tensor:
    """The acquired slices of ``B C X Y Z`` as images ``N C X Y``."""
    planes = volume.movedim(-1, 1).flatten(0, 1)  # (B Z) C X Y
    return planes if bool(slice_mask.all()) else planes[slice_mask.flatten().nonzero()[:, 0]]  # N C X Y


def alternate_slices(volume: Tensor, slice_mask: SliceMask, step: int) -> Tensor:
    """Every second acquired slice, the others at the next step: half of what a discriminator costs."""
    return acquired_slices(volume, slice_mask)[step % 2 :: 2]


def ramp(step: int, start: int, length: int) -> float:
    """0 before ``start``, then linearly to 1 over ``length`` steps."""
    return 0.0 if step < start else 1.0 if length == 0 else min(1.0, (step - start) / length)


class Discriminator(nn.Module):
    """A patch discriminator of single slices (least squares), whose features also measure perceptual distance."""

    def __init__(self) -> None:
        super().__init__()
        norm = ("GROUP", {"num_groups": 8})
        self.network = PatchDiscriminator(spatial_dims=2, in_channels=1, channels=32, num_layers_d=3, norm=norm)
        self.criterion = PatchAdversarialLoss(criterion="least_squares")

    def forward(self, slices: Slices) -> list[Tensor]:
        """Features of each layer; the last ones say how real each patch looks."""
        features: list[Tensor] = self.network(slices)
        return features

    def d_loss(self, fake: Slices, features_real: list[Tensor]) -> Scalar:
        """The discriminator's own loss; ``features_real`` are its features of real slices."""
        score_fake, score_real = self(fake.detach())[-1], features_real[-1]
        loss_fake = self.criterion(score_fake, target_is_real=False, for_discriminator=True)
        loss_real = self.criterion(score_real, target_is_real=True, for_discriminator=True)
        loss: Tensor = 0.5 * (loss_fake + loss_real)
        return loss

    def g_loss(self, fake: Slices, features_real: list[Tensor]) -> tuple[Scalar, Scalar]:
        """The generator's adversarial loss and the distance of features (feature matching, Wang et al., 2018)."""
        self.requires_grad_(False)  # a step of the generator needs no gradients of these weights
        features = self(fake)
        self.requires_grad_(True)
        adversarial = self.criterion(features[-1], target_is_real=True, for_discriminator=False)
        distances = [F.l1_loss(a, b.detach()) for a, b in zip(features[:-1], features_real[:-1], strict=True)]
        return adversarial, torch.stack(distances).mean()


# --- How much detail of each scale images hold --------------------------------------------------------------------


RINGS = 16
"""Rings of equal width between frequency 0 and Nyquist."""
FLOOR = 1e-6
"""About the power of rounding to bytes, which nobody sees and no loss should chase."""


def band_powers(slices: Slices) -> Tensor:
    """Mean power in each ring of frequencies, ``N R`` (Hann window, orthonormal transform), and `FLOOR`."""
    images = slices[:, 0].float()
    x, y = images.shape[-2:]
    window = torch.outer(torch.hann_window(x, periodic=False), torch.hann_window(y, periodic=False)).to(images)
    centred = images - images.mean(dim=(1, 2), keepdim=True)
    power = torch.fft.rfft2(centred * window, norm="ortho").abs().square().flatten(1)  # N F
    bands: Tensor = power @ _rings(x, y).to(power) + FLOOR
    return bands


@lru_cache(maxsize=16)
def _rings(x: int, y: int) -> Tensor:
    """Weights ``F R`` that average the coefficients of an ``x`` by ``y`` image over rings."""
    radius = torch.hypot(torch.fft.fftfreq(x)[:, None], torch.fft.rfftfreq(y)[None]).flatten() / 0.5  # 1 at Nyquist
    # The corners beyond Nyquist get a ring of their own.
    ring = torch.where(radius < 1.0, (radius * RINGS).long(), RINGS)
    member = F.one_hot(ring, RINGS + 1)[:, :RINGS].float()
    return member / member.sum(dim=0).clamp(min=1)


def spectrum_distance(slices: Slices, target: Slices) -> Scalar:
    """Mean absolute difference of log powers over rings: the amount of detail counts, not where it lies."""
    return (band_powers(slices).log() - band_powers(target).log()).abs().mean()


def detail_db(slices: Slices, target: Slices, slice_mask: SliceMask) -> PerSlice:
    """Power of ``target`` above half of Nyquist relative to that of ``slices``, dB: of each slice, that of its case.

    The slices are the acquired ones (`acquired_slices`) of a batch with this mask.
    """
    ours, theirs = (band_powers(s)[:, RINGS // 2 :].mean(dim=1) for s in (slices, target))
    ratios = 10.0 * (theirs / ours).log10()
    case = slice_mask.nonzero()[:, 0]
    counts = torch.bincount(case, minlength=len(slice_mask)).clamp(min=1)
    means = torch.zeros(len(slice_mask)).to(ratios).index_add(0, case, ratios) / counts
    return means[case]


def sharpness_db(slices: Slices, target: Slices) -> float:
    """Power above half of Nyquist relative to that of ``target``, dB, mean over slices; 0 is as sharp."""
    fine, fine_target = (band_powers(s)[:, RINGS // 2 :].mean(dim=1) for s in (slices, target))
    return float(10.0 * (fine / fine_target).log10().mean())


def spectrum_error_db(slices: Slices, target: Slices) -> float:
    """RMS over rings of the difference in mean power, dB."""
    ours, theirs = (band_powers(s).mean(dim=0) for s in (slices, target))
    return float((10.0 * (ours / theirs).log10()).square().mean().sqrt())


# --- Scores of a decoded batch, in the units of the field ------------------------------------------------------------


def reconstruction_scores(decoded: Decoded, batch: dict[str, Tensor]) -> dict[str, float]:
    """L1, PSNR (dB) and sharpness (dB) of acquired slices, Dice of each structure where it was annotated."""
    found, target = (acquired_slices(x, batch["slice_mask"]) for x in (decoded.image.clamp(-1, 1), batch["image"]))
    error = found - target
    mse = float(error.square().mean())
    scores = {"l1": float(error.abs().mean()), "psnr": 10.0 * math.log10(4.0 / max(mse, 1e-12))}  # range 2
    scores["sharpness_db"] = sharpness_db(found, target)
    return scores | dice_scores(decoded.logits.max(dim=1).indices, batch["label"][:, 0].long(), batch["coverage"])


def dice_scores(predicted: Tensor, truth: Tensor, coverage: Tensor) -> dict[str, float]:
    """Dice of each structure of ``B X Y Z`` labels, if any, over slices that cover it (``B Z S``)."""
    scores = {}
    for i, structure in enumerate(STRUCTURES):
        covered = coverage[:, None, None, :, i]
        a, b = (predicted == structure) & covered, (truth == structure) & covered
        size = float(a.sum() + b.sum())
        if size > 0:
            scores[f"dice_{structure.name.lower()}"] = 2.0 * float(torch.logical_and(a, b).sum()) / size
    return scores
