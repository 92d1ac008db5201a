"""Meeting the requested volumes: the mask decoder is differentiable, so a latent can be moved until they agree.

A sampled motion is first made larger or smaller as a whole until the ESV is met: on the line from ED through ES latents
decode to hearts that have contracted more or less. What that leaves, and the EDV, is met by a small additive shift of
the latent, found by a few Adam steps on the relative errors of the volumes with a penalty that keeps it small against
the latents' unit scale, and at the heart: elsewhere it would grow another one. At ES the shift swings in and out with
the cycle. Muscle does not shrink when it contracts: the myocardium at ES is held in the range that patients have.
Volumes are of what ends up in the mask (`masks`).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from cinesynth.models.codec import Codec
from cinesynth.physiology import MYO_ES_SHARE_RANGE, MYO_G_PER_ML
from cinesynth.types import ClinicalPrior, Label, LabelArray

STEPS = 20
LAST_STEPS = 10
"""Further steps for the LV alone, where the others still pull at it."""
LEARNING_RATE = 0.05
ERROR_WEIGHT = 100.0
SHIFT_WEIGHT = 0.5
TOLERANCE = 0.005
"""Relative error of a volume at which it is met."""
SHARPNESS = 4.0
"""Factor on the logits: the soft volume then stays close to that of the hard mask."""
MAX_AMPLITUDE = 1.25
"""A bound on how far a motion is stretched; beyond 1.2 even a patient's own motion loses myocardium."""
AMPLITUDE_STEP = 0.25
"""Stride of the search for an amplitude that contracts enough."""
HALVINGS = 6
SLACK = 0.05
"""Relative error of RV volumes and myocardium that is let be: the LV, which is met exactly, comes first."""
BESIDE_WEIGHT = 0.1
"""Weight of their errors beside the LV's."""
REACH_MM = 10.0
"""In the plane, how far from the heart as it is the latent may be moved."""


@dataclass(frozen=True)
class Target:
    """A structure's volume that is to be met, or (``low_ml`` below ``high_ml``) a range that is not to be left."""

    structure: Label
    low_ml: float
    high_ml: float

    @classmethod
    def of(cls, structure: Label, ml: float) -> Target:
        """A volume that was asked for: of the LV exactly, of the others within `SLACK`."""
        slack = 0.0 if structure is Label.LV else SLACK
        return cls(structure, (1.0 - slack) * ml, (1.0 + slack) * ml)

    def error(self, ml: Tensor) -> Tensor:
        """Relative error of a volume, 0 within the range."""
        low, high = ml / self.low_ml - 1.0, ml / self.high_ml - 1.0
        return low.clamp(max=0.0) + high.clamp(min=0.0)


@dataclass(frozen=True)
class VolumeMatching:
    """A shift ``1 C x y z`` (and the factor on a motion before it) and what they did to the soft volumes, mL."""

    shift: Tensor
    before_ml: dict[Label, float]
    after_ml: dict[Label, float]
    steps: int
    amplitude: float | None = None

    def move(self, residuals: Tensor, phases: Tensor) -> Tensor:
        """A motion's residuals ``T C x y z`` at ``phases`` (``T``) as steered."""
        factor = 1.0 if self.amplitude is None else self.amplitude
        return factor * residuals + self.shift * swing(phases).to(residuals)[:, None, None, None, None]

    def to_json(self) -> dict[str, object]:
        """Volumes, a motion's factor, steps, and the shift's size in standard deviations of the latents."""
        rms = float(self.shift.square().mean().sqrt())
        moments = {"soft_before_ml": self.before_ml, "soft_after_ml": self.after_ml}
        volumes = {name: {s.name: round(ml, 3) for s, ml in found.items()} for name, found in moments.items()}
        factor = {} if self.amplitude is None else {"amplitude": round(self.amplitude, 4)}
        return {**volumes, **factor, "steps": self.steps, "shift_rms": round(rms, 4)}


def ed_targets(prior: ClinicalPrior) -> tuple[Target, ...]:
    """What a prior asks of the anatomy: LV and RV EDV, and the mass of the myocardium."""
    myo_ml = None if prior.myo_mass_g is None else prior.myo_mass_g / MYO_G_PER_ML
    asked = {Label.LV: prior.lv_edv_ml, Label.RV: prior.rv_edv_ml, Label.MYO: myo_ml}
    return tuple(Target.of(structure, ml) for structure, ml in asked.items() if ml is not None)


def es_targets(prior: ClinicalPrior, myo_ed_ml: float) -> tuple[Target, ...]:
    """What a prior asks of ES, and with it a myocardium that stays; nothing where nothing is asked."""
    asked = {Label.LV: prior.lv_esv_ml, Label.RV: prior.rv_esv_ml}
    targets = tuple(Target.of(structure, ml) for structure, ml in asked.items() if ml is not None)
    low, high = (share * max(myo_ed_ml, 1.0) for share in MYO_ES_SHARE_RANGE)
    return (*targets, Target(Label.MYO, low, high)) if targets else ()


def soft_volumes_ml(codec: Codec, latent: Tensor, slice_mask: Tensor) -> Tensor:
    """Volumes of ``1 C x y z`` by label (background first) as differentiable sums of sharpened probabilities, mL.

    Where the mask is another than what is likeliest, its voxels count as they are.
    """
    logits = codec.decode(latent, slice_mask).logits
    label = torch.from_numpy(codec.labels(logits.detach(), slice_mask)).to(logits.device).long()
    hard = functional.one_hot(label, logits.shape[1]).movedim(-1, 1)
    as_likeliest = (label == logits.argmax(dim=1))[:, None]
    counted = torch.where(as_likeliest, (logits * SHARPNESS).softmax(dim=1), hard)
    return counted.sum(dim=(0, 2, 3, 4)) * (math.prod(codec.grid.spacing_mm) / 1000.0)


def cells_near_heart(codec: Codec, label: LabelArray) -> Tensor:
    """1 in the latent's cells ``1 1 x y 1`` within `REACH_MM` of the heart in a label ``X Y Z``, else 0.

    Where there is no heart it may grow anywhere.
    """
    shadow = np.asarray((label > 0).any(axis=2))
    if not shadow.any():
        return torch.ones(1, 1, 1, 1, 1)
    near = ndimage.distance_transform_edt(~shadow, codec.grid.spacing_mm[:2]) <= REACH_MM
    return functional.max_pool2d(torch.from_numpy(near)[None].float(), codec.config.stride)[None, ..., None]


def match_volumes(
    codec: Codec, latent: Tensor, slice_mask: Tensor, targets: Sequence[Target], where: Tensor | None = None
) -> VolumeMatching:
    """The shift that brings the volumes of ``latent`` to the targets, or as near as the steps allow.

    Cells of the latent are moved where ``where`` is 1 (`cells_near_heart`), or all of them.
    """
    free = torch.ones_like(latent) if where is None else where.to(latent)
    structures = [target.structure for target in targets]
    lv_alone = torch.tensor([float(s is Label.LV) for s in structures], device=latent.device)
    together = lv_alone + BESIDE_WEIGHT * (1.0 - lv_alone)
    with torch.inference_mode(False), torch.enable_grad():
        start, mask = latent.detach().clone(), slice_mask.detach().clone()
        shift = torch.zeros_like(start, requires_grad=True)
        optimizer = torch.optim.Adam([shift], lr=LEARNING_RATE)
        before: dict[Label, float] = {}
        for step in range(STEPS + LAST_STEPS + 1):
            volumes = soft_volumes_ml(codec, start + shift, mask)
            after = dict(zip(structures, volumes.detach()[structures].tolist(), strict=True))
            before = before or after
            weights = together if step < STEPS else lv_alone
            errors = torch.stack([target.error(volumes[target.structure]) for target in targets])
            if step == STEPS + LAST_STEPS or float((errors.detach().abs() * (weights > 0)).max()) < TOLERANCE:
                break
            loss = ERROR_WEIGHT * weights @ errors.square() + SHIFT_WEIGHT * shift.square().mean()
            shift.grad = torch.autograd.grad(loss, [shift])[0] * free
            optimizer.step()
    return VolumeMatching(shift.detach(), before, after, step)


def steer_motion(
    codec: Codec,
    anatomy: Tensor,
    residual: Tensor,
    slice_mask: Tensor,
    targets: Sequence[Target],
    where: Tensor | None = None,
) -> VolumeMatching:
    """Bring the volumes of ``anatomy + residual`` (ES) to the targets: a factor on the motion, then a shift.

    The factor is for the LV: without a target for it the motion keeps its size.
    """
    volumes_ml = _line(codec, anatomy, residual, slice_mask)
    aims = [target.low_ml for target in targets if target.structure is Label.LV]
    amplitude = meeting_amplitude(lambda factor: volumes_ml(factor)[Label.LV], aims[0]) if aims else 1.0
    rest = match_volumes(codec, anatomy + amplitude * residual, slice_mask, targets, where)
    before = {target.structure: volumes_ml(1.0)[target.structure] for target in targets}
    return replace(rest, amplitude=amplitude, before_ml=before)


def _line(codec: Codec, anatomy: Tensor, residual: Tensor, slice_mask: Tensor) -> Callable[[float], list[float]]:
    """Soft volumes by label as a function of the amplitude."""

    @functools.cache
    @torch.no_grad()
    def volumes_ml(amplitude: float) -> list[float]:
        found: list[float] = soft_volumes_ml(codec, anatomy + amplitude * residual, slice_mask).tolist()
        return found

    return volumes_ml


def meeting_amplitude(volume_ml: Callable[[float], float], target_ml: float) -> float:
    """An amplitude that meets the target, found by strides and bisection; else the best one tried."""
    if volume_ml(0.0) <= target_ml:
        return 1.0  # no contraction is too little: not a matter of amplitude
    small, large, tried = 0.0, 1.0, [1.0]
    while volume_ml(large) > target_ml and large < MAX_AMPLITUDE:
        small, large = large, large + AMPLITUDE_STEP
        tried.append(large)
    for _ in range(HALVINGS if volume_ml(large) <= target_ml else 0):
        if abs(volume_ml(tried[-1]) / target_ml - 1.0) < TOLERANCE:
            break
        tried.append(0.5 * (small + large))
        small, large = (tried[-1], large) if volume_ml(tried[-1]) > target_ml else (small, tried[-1])
    return min(tried, key=lambda amplitude: abs(volume_ml(amplitude) - target_ml))


def swing(phases: Tensor) -> Tensor:
    """How much of an ES shift belongs to ``phases`` (``T``): 0 at ED, 1 at ES, the first cosine of the cycle."""
    return 0.5 * (1.0 - torch.cos(math.pi * phases))
