"""Volume matching: optimise a sampled latent until the decoded masks have the requested volumes.

The mask decoder is differentiable, so soft volumes, ``sum(p) * voxel volume``, have a gradient with respect to the
latent. The anatomy is matched by a small additive shift of its latent, which may only act near the heart: elsewhere the
optimiser would create a second heart. Steps go in Adam's direction (Kingma and Ba, 2015), which moves all entries by
about as much. The first ones are long and swing around the targets: that makes the masks surer, and image and masks
agree better. The others go as far as squared relative volume errors need to vanish (Polyak, 1987), up to a limit.

A motion is first scaled as a whole until the ESV is met, because latents on the line from ED through ES decode to
hearts that have contracted less or more. A shift corrects what is left; it fades in from ED to ES and out again with
the cycle. Muscle hardly changes its volume when it contracts, so the myocardium at ES is held within the range of
annotated subjects. All volumes are those of the postprocessed masks (`models.codec.clean_mask`).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import scipy
import torch
from torch import Tensor
from torch.nn import functional

from cinesynth.models.codec import Codec
from cinesynth.physiology import MYO_ES_SHARE_RANGE, MYO_G_PER_ML
from cinesynth.types import ClinicalPrior, Label, LabelArray


@dataclass(frozen=True)
class MatchingSettings:
    """Settings of the optimiser."""

    joint_steps: int = 20  # at most this many steps on all targets together
    lv_steps: int = 10  # at most this many further steps on the LV alone, if the other targets kept it from its target
    swings: int = 4  # steps of full length around the targets, before those that go to them
    max_step: float = 0.15  # of an entry of the latent, in its standard deviations
    memory: tuple[float, float] = (0.5, 0.999)  # of gradients and of their squares; with Adam's usual 0.9 it overshoots
    tolerance: float = 0.005  # relative volume error at which a target counts as met
    sharpness: float = 4.0  # factor on the logits, which brings the soft volume close to that of the hard mask
    floor: float = 30.0  # sharpened logits lie at most this far below the largest: e^-30 of a voxel has no volume
    slack: float = 0.05  # tolerated relative error of RV and myocardial volumes. The LV has none
    other_weight: float = 0.1  # weight of the RV's and the myocardium's errors; the LV's is 1
    reach_mm: float = 10.0  # in-plane distance from the heart within which the latent may change
    max_amplitude: float = 1.25
    """Largest factor on a motion. Beyond 1.2 even the encoded motion of a real subject loses myocardium."""
    amplitude_step: float = 0.25  # step of the search for a factor that contracts enough
    secants: int = 6  # at most this many secants of the volume over the interval that the search has found


MATCHING = MatchingSettings()


@dataclass(frozen=True)
class Target:
    """A range for one structure's volume; the ends are equal where the volume is to be met exactly."""

    structure: Label
    low_ml: float
    high_ml: float

    @classmethod
    def of(cls, structure: Label, ml: float) -> Target:
        """A requested volume: exact for the LV, within `MatchingSettings.slack` for other structures."""
        slack = 0.0 if structure is Label.LV else MATCHING.slack
        return cls(structure, (1.0 - slack) * ml, (1.0 + slack) * ml)

    def error(self, ml: Tensor) -> Tensor:
        """Signed relative error of a volume, 0 within the range."""
        low, high = ml / self.low_ml - 1.0, ml / self.high_ml - 1.0
        return low.clamp(max=0.0) + high.clamp(min=0.0)


@dataclass(frozen=True)
class VolumeMatching:
    """The result: a shift of the latent, for a motion also a factor, and the soft volumes before and after."""

    shift: Tensor  # 1 C x y z
    before_ml: dict[Label, float]
    after_ml: dict[Label, float]
    steps: int
    amplitude: float | None = None

    def apply(self, residuals: Tensor, phases: Tensor) -> Tensor:
        """A motion's residuals ``T C x y z`` at ``phases`` (``T``), scaled and shifted."""
        factor = 1.0 if self.amplitude is None else self.amplitude
        weight = es_weight(phases).to(residuals)[:, None, None, None, None]  # T 1 1 1 1
        return factor * residuals + self.shift * weight

    def to_json(self) -> dict[str, object]:
        """Soft volumes, the factor on a motion, steps, and the RMS shift in standard deviations of the latents."""
        rms = float(self.shift.square().mean().sqrt())
        moments = {"soft_before_ml": self.before_ml, "soft_after_ml": self.after_ml}
        volumes = {name: {s.name: round(ml, 3) for s, ml in found.items()} for name, found in moments.items()}
        factor = {} if self.amplitude is None else {"amplitude": round(self.amplitude, 4)}
        return {**volumes, **factor, "steps": self.steps, "shift_rms": round(rms, 4)}


def ed_targets(prior: ClinicalPrior) -> tuple[Target, ...]:
    """Targets at ED: the requested LV and RV EDV, and myocardial mass as a volume."""
    myo_ml = None if prior.myo_mass_g is None else prior.myo_mass_g / MYO_G_PER_ML
    requested = {Label.LV: prior.lv_edv_ml, Label.RV: prior.rv_edv_ml, Label.MYO: myo_ml}
    return tuple(Target.of(structure, ml) for structure, ml in requested.items() if ml is not None)


def es_targets(prior: ClinicalPrior, myo_ed_ml: float) -> tuple[Target, ...]:
    """Targets at ES: the requested LV and RV ESV, and with them a myocardium close to its volume at ED."""
    requested = {Label.LV: prior.lv_esv_ml, Label.RV: prior.rv_esv_ml}
    targets = tuple(Target.of(structure, ml) for structure, ml in requested.items() if ml is not None)
    low, high = (share * max(myo_ed_ml, 1.0) for share in MYO_ES_SHARE_RANGE)
    # Without a requested ESV nothing is optimised, and the myocardium stays as it was sampled.
    return (*targets, Target(Label.MYO, low, high)) if targets else ()


def soft_volumes_ml(codec: Codec, latent: Tensor, slice_mask: Tensor) -> Tensor:
    """Differentiable volumes of a latent ``1 C x y z`` by label, background first: sharpened probabilities times mL.

    Where postprocessing changed a voxel's label, the voxel counts with weight 1 for the new label, without a gradient.
    """
    logits = codec.decode(latent, slice_mask).logits  # 1 L X Y Z
    label, changed = codec.masks(logits.detach(), slice_mask)
    given = torch.from_numpy(np.bincount(label[changed], minlength=logits.shape[1])).to(logits)  # L
    sharp = logits * MATCHING.sharpness
    # Subnormal numbers in the backward pass would take five times as long.
    sharp = sharp.clamp(min=sharp.detach().amax(dim=1, keepdim=True) - MATCHING.floor)
    counted = sharp.softmax(dim=1) * torch.from_numpy(~changed[:, None]).to(logits)
    return (counted.sum(dim=(0, 2, 3, 4)) + given) * (math.prod(codec.grid.spacing_mm) / 1000.0)  # L


def cells_near_heart(codec: Codec, label: LabelArray) -> Tensor:
    """Latent cells ``1 1 x y 1`` that may change: 1 near the heart in ``X Y Z``, or everywhere if there is none."""
    projection = np.asarray((label > 0).any(axis=2))  # X Y
    if not projection.any():
        return torch.ones(1, 1, 1, 1, 1)
    near = scipy.ndimage.distance_transform_edt(~projection, codec.grid.spacing_mm[:2]) <= MATCHING.reach_mm
    # Max pooling: a latent cell may change if any of its voxels lies near the heart.
    return functional.max_pool2d(torch.from_numpy(near)[None].float(), codec.config.stride)[None, ..., None]


def match_volumes(
    codec: Codec,
    latent: Tensor,
    slice_mask: Tensor,
    targets: Sequence[Target],
    where: Tensor | None = None,
    on_call: Callable[[], None] = lambda: None,
) -> VolumeMatching:
    """Optimise a shift that brings the volumes of ``latent`` (``1 C x y z``) to the targets (at least one).

    Only the cells ``where`` (`cells_near_heart`, by default all) may change. ``on_call`` is called after each decoder
    call.
    """
    structures = [target.structure for target in targets]
    last = MATCHING.joint_steps + MATCHING.lv_steps
    with torch.inference_mode(False), torch.enable_grad():
        # Clones: tensors made in inference mode cannot take part in autograd.
        start, mask = latent.detach().clone(), slice_mask.detach().clone()
        free = torch.ones_like(start) if where is None else where.to(start)
        lv_alone = torch.tensor([float(s is Label.LV) for s in structures], device=start.device)
        joint = lv_alone + MATCHING.other_weight * (1.0 - lv_alone)
        shift, memory = torch.zeros_like(start), AdamMemory()
        before: dict[Label, float] = {}
        least = math.inf
        for step in range(last + 1):
            shift.requires_grad_()
            volumes = soft_volumes_ml(codec, start + shift, mask)
            on_call()
            found = dict(zip(structures, volumes.detach()[structures].tolist(), strict=True))
            before = before or found
            weights = joint if step < MATCHING.joint_steps else lv_alone
            errors = torch.stack([target.error(volumes[target.structure]) for target in targets])
            loss = weights @ errors.square()
            met = float((errors.detach().abs() * (weights > 0)).max()) < MATCHING.tolerance
            swinging = step < MATCHING.swings and not (met and step == 0)  # what is right is left alone
            # A step may miss: the best shift is kept. The LV's steps begin anew, as they look at the LV alone.
            if met or step in (0, MATCHING.swings, MATCHING.joint_steps) or float(loss.detach()) < least:
                least, best, after = float(loss.detach()), shift.detach(), found
            if not swinging and (met or step == last):
                break
            gradient = torch.autograd.grad(loss, [shift])[0] * free
            memory = AdamMemory() if step == MATCHING.swings else memory
            direction = memory.direction(gradient)
            length = MATCHING.max_step if swinging else polyak_length(float(loss.detach()), gradient, direction)
            shift = shift.detach() - length * direction
    return VolumeMatching(best, before, after, step)


class AdamMemory:
    """Adam's running means of gradients and their squares."""

    def __init__(self) -> None:
        self.steps, self.mean, self.square = 0, torch.zeros(()), torch.zeros(())

    def direction(self, gradient: Tensor) -> Tensor:
        """The direction of ascent after a further ``gradient``, of which no entry is much larger than 1."""
        self.steps += 1
        short, long = MATCHING.memory
        self.mean = short * self.mean + (1.0 - short) * gradient
        self.square = long * self.square + (1.0 - long) * gradient.square()
        scale = (self.square / (1.0 - long**self.steps)).sqrt().clamp(min=torch.finfo(torch.float32).tiny)
        return self.mean / (1.0 - short**self.steps) / scale


def polyak_length(loss: float, gradient: Tensor, direction: Tensor) -> float:
    """How far along ``direction`` a squared error ``loss`` is 0, if the error is linear; limited."""
    slope = float((gradient * direction).sum())
    # (e + a e')^2 is 0 at a = -e / e', and its slope at a = 0 is 2 e e'.
    return min(2.0 * loss / slope, MATCHING.max_step) if slope > 0.0 else MATCHING.max_step


def match_motion_volumes(
    codec: Codec,
    anatomy: Tensor,
    residual: Tensor,
    slice_mask: Tensor,
    targets: Sequence[Target],
    where: Tensor | None = None,
    on_call: Callable[[], None] = lambda: None,
) -> VolumeMatching:
    """Bring the ES volumes of ``anatomy + residual`` (``1 C x y z`` each) to the targets: a factor, then a shift.

    The factor is chosen for the LV alone; without a target for the LV it is 1. Further arguments as in
    `match_volumes`.
    """

    @functools.cache  # each factor is decoded once
    @torch.no_grad()
    def volumes_ml(factor: float) -> list[float]:
        found: list[float] = soft_volumes_ml(codec, anatomy + factor * residual, slice_mask).tolist()
        on_call()
        return found

    esv_ml = [target.low_ml for target in targets if target.structure is Label.LV]
    amplitude = find_amplitude(lambda factor: volumes_ml(factor)[Label.LV], esv_ml[0]) if esv_ml else 1.0
    shifted = match_volumes(codec, anatomy + amplitude * residual, slice_mask, targets, where, on_call)
    before = {target.structure: volumes_ml(1.0)[target.structure] for target in targets}
    return replace(shifted, amplitude=amplitude, before_ml=before)


def find_amplitude(volume_ml: Callable[[float], float], target_ml: float) -> float:
    """The factor on a motion that meets ``target_ml``, by a line search and secants; else the best one tried."""
    if volume_ml(0.0) <= target_ml:
        return 1.0  # without any contraction the volume is already too small: no factor helps
    small, large, tried = 0.0, 1.0, [1.0]
    while volume_ml(large) > target_ml and large < MATCHING.max_amplitude:
        small, large = large, large + MATCHING.amplitude_step
        tried.append(large)
    for step in range(MATCHING.secants if volume_ml(large) <= target_ml else 0):
        if abs(volume_ml(tried[-1]) / target_ml - 1.0) < MATCHING.tolerance:
            break
        above, below = volume_ml(small) - target_ml, target_ml - volume_ml(large)  # both at least 0
        # Secants alone may creep along a bent curve: every third step halves the interval.
        share = 0.5 if step % 3 == 2 else min(max(above / max(above + below, 1e-6), 0.02), 0.98)
        tried.append(small + (large - small) * share)
        small, large = (tried[-1], large) if volume_ml(tried[-1]) > target_ml else (small, tried[-1])
    return min(tried, key=lambda amplitude: abs(volume_ml(amplitude) - target_ml))


def es_weight(phases: Tensor) -> Tensor:
    """Weight of an ES shift at ``phases`` (``T``), ``(1 - cos(pi phase)) / 2``: 0 at ED (0 and 2), 1 at ES (1)."""
    return 0.5 * (1.0 - torch.cos(math.pi * phases))
