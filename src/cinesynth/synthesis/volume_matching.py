"""Volume matching: optimise a sampled latent until the decoded masks have the requested volumes.

The mask decoder is differentiable, so soft volumes, ``sum(p) * voxel volume``, have a gradient with respect to the
latent. The anatomy is matched by a small additive shift of its latent. Adam minimises squared relative volume errors
plus a penalty on the shift, which may only act near the heart: elsewhere the optimiser would create a second heart.

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

    joint_steps: int = 20  # at most this many Adam steps on all targets together
    lv_steps: int = 10  # at most this many further steps on the LV alone, if the other targets kept it from its target
    learning_rate: float = 0.05
    error_weight: float = 100.0  # weight of the squared relative volume errors
    shift_weight: float = 0.5  # weight of the mean squared shift, in units of the latents' variance
    tolerance: float = 0.005  # relative volume error at which a target counts as met
    sharpness: float = 4.0  # factor on the logits, which brings the soft volume close to that of the hard mask
    slack: float = 0.05  # tolerated relative error of RV and myocardial volumes. The LV has none
    other_weight: float = 0.1  # weight of the RV's and the myocardium's errors; the LV's is 1
    reach_mm: float = 10.0  # in-plane distance from the heart within which the latent may change
    max_amplitude: float = 1.25
    """Largest factor on a motion. Beyond 1.2 even the encoded motion of a real subject loses myocardium."""
    amplitude_step: float = 0.25  # step of the search for a factor that contracts enough
    bisections: int = 6  # at most this many bisections of the interval that the search has found


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
    label = torch.from_numpy(codec.labels(logits.detach(), slice_mask)).to(logits.device).long()
    hard = functional.one_hot(label, logits.shape[1]).movedim(-1, 1)  # 1 L X Y Z
    unchanged = (label == logits.argmax(dim=1))[:, None]  # 1 1 X Y Z
    counted = torch.where(unchanged, (logits * MATCHING.sharpness).softmax(dim=1), hard)
    return counted.sum(dim=(0, 2, 3, 4)) * (math.prod(codec.grid.spacing_mm) / 1000.0)  # L


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
    free = torch.ones_like(latent) if where is None else where.to(latent)
    structures = [target.structure for target in targets]
    lv_alone = torch.tensor([float(s is Label.LV) for s in structures], device=latent.device)
    joint = lv_alone + MATCHING.other_weight * (1.0 - lv_alone)
    last = MATCHING.joint_steps + MATCHING.lv_steps
    with torch.inference_mode(False), torch.enable_grad():
        # Clones: tensors made in inference mode cannot take part in autograd.
        start, mask = latent.detach().clone(), slice_mask.detach().clone()
        shift = torch.zeros_like(start, requires_grad=True)
        optimizer = torch.optim.Adam([shift], lr=MATCHING.learning_rate)
        before: dict[Label, float] = {}
        for step in range(last + 1):
            volumes = soft_volumes_ml(codec, start + shift, mask)
            on_call()
            after = dict(zip(structures, volumes.detach()[structures].tolist(), strict=True))
            before = before or after
            weights = joint if step < MATCHING.joint_steps else lv_alone
            errors = torch.stack([target.error(volumes[target.structure]) for target in targets])
            if step == last or float((errors.detach().abs() * (weights > 0)).max()) < MATCHING.tolerance:
                break
            loss = MATCHING.error_weight * weights @ errors.square() + MATCHING.shift_weight * shift.square().mean()
            shift.grad = torch.autograd.grad(loss, [shift])[0] * free
            optimizer.step()
    return VolumeMatching(shift.detach(), before, after, step)


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
    """The factor on a motion that meets ``target_ml``, by a line search and bisection; else the best one tried."""
    if volume_ml(0.0) <= target_ml:
        return 1.0  # without any contraction the volume is already too small: no factor helps
    small, large, tried = 0.0, 1.0, [1.0]
    while volume_ml(large) > target_ml and large < MATCHING.max_amplitude:
        small, large = large, large + MATCHING.amplitude_step
        tried.append(large)
    for _ in range(MATCHING.bisections if volume_ml(large) <= target_ml else 0):
        if abs(volume_ml(tried[-1]) / target_ml - 1.0) < MATCHING.tolerance:
            break
        tried.append(0.5 * (small + large))
        small, large = (tried[-1], large) if volume_ml(tried[-1]) > target_ml else (small, tried[-1])
    return min(tried, key=lambda amplitude: abs(volume_ml(amplitude) - target_ml))


def es_weight(phases: Tensor) -> Tensor:
    """Weight of an ES shift at ``phases`` (``T``), ``(1 - cos(pi phase)) / 2``: 0 at ED (0 and 2), 1 at ES (1)."""
    return 0.5 * (1.0 - torch.cos(math.pi * phases))
