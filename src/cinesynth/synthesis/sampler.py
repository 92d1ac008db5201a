"""Draws: an anatomy, and a motion of it, from the networks of a bundle and start noise that only the seed decides.

Networks see one case a call, and a case's own frames in chunks of one size. The rows of a batch share matrix products,
so that neighbours and even the place in the batch change the last bits of a case (measured: see `CinePipeline`). This
way a case is the same, bit for bit, alone and in any company.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cinesynth.io.seeds import noise
from cinesynth.models.conditioning import Conditions
from cinesynth.models.diffusion import LatentDiffusion
from cinesynth.models.residual_motion import FrameCode
from cinesynth.synthesis.acceptance import judge_anatomy, judge_motion
from cinesynth.synthesis.rejection import Candidate, rejection_sample
from cinesynth.synthesis.request import Request
from cinesynth.synthesis.volume_matching import cells_near_heart, ed_targets, es_targets, match_volumes, steer_motion
from cinesynth.types import BoolArray, ClinicalPrior, FloatArray, Label, LabelArray, volumes_ml
from cinesynth.weights.folder import Bundle

FRAMES_PER_CALL = {"cpu": 2}
"""Frames of one case in a network call. Fixed for a kind of device, so that it never changes a case's bits."""
FRAMES_PER_CALL_ELSEWHERE = 16


@dataclass(frozen=True)
class Plan:
    """A request with every open choice made."""

    request: Request
    prior: ClinicalPrior  # with its number of slices
    es_index: int
    frame_time_ms: float
    phases: Tensor  # T
    slice_mask: Tensor  # 1 Z, of the slices that are computed
    conditions: Conditions  # 1
    anatomy: Plan | None = None
    """What the anatomy is drawn by, where that is another request's."""


class Sampler:
    """The networks of a bundle at work: every draw depends on its plan and try alone."""

    def __init__(self, bundle: Bundle, device: torch.device) -> None:
        self.bundle = bundle
        self.device = device
        self.voxel_ml = math.prod(bundle.config.grid.spacing_mm) / 1000.0
        self.frames_per_call = FRAMES_PER_CALL.get(device.type, FRAMES_PER_CALL_ELSEWHERE)

    def anatomy(self, plan: Plan, attempt: int, given: Tensor | None = None, variation: float = 1.0) -> Candidate:
        """An ED anatomy, steered to the EDV where one is asked and control is on.

        Of a ``given`` latent, a ``variation`` of it (`LatentDiffusion.sample`); 0 is that latent as it is, unsteered.
        """
        start = self._noise(plan, "anatomy", attempt, self.bundle.config.vae.latent_channels)
        latent = self._sample(
            self.bundle.anatomy_diffusion, plan, start, plan.conditions, given=given, variation=variation
        )
        steering, targets = None, ed_targets(plan.prior) if plan.request.control and variation > 0.0 else ()
        if targets:
            near = cells_near_heart(self.bundle.codec, self.decode(latent, plan)[1][0])
            steering = match_volumes(self.bundle.codec, latent, plan.slice_mask, targets, near)
            latent = latent + steering.shift
        image, label, postprocessing_ml = self.decode(latent, plan)
        verdicts = judge_anatomy(label[0], self.voxel_ml)
        return Candidate(latent, image, label, verdicts, attempt, steering, float(postprocessing_ml.sum()))

    def best_motion(self, plan: Plan, anatomy: Candidate) -> tuple[Candidate, list[Candidate]]:
        """The motion to keep, with all its frames, and those that were tried."""
        kept, draws = rejection_sample(plan.request.tries, lambda attempt: self.motion(plan, anatomy, attempt))
        if len(kept.label) < len(plan.phases):
            kept = self.motion(plan, anatomy, kept.attempt, whole=True)
        return kept, draws

    def motion(self, plan: Plan, anatomy: Candidate, attempt: int, *, whole: bool = False) -> Candidate:
        """All frames; the first is the anatomy as it was decoded and accepted.

        Where the rules refuse ES already, the draw is ED and ES alone, unless it is to be ``whole``.
        """
        start = self._noise(plan, "motion", attempt, self.bundle.residual_motion.code.channels)
        residuals_at, size = self._trajectory(plan, anatomy.latent, start), self.frames_per_call
        es = torch.ones(size, dtype=plan.phases.dtype)
        myo_ed_ml = float(volumes_ml(anatomy.label, Label.MYO, self.voxel_ml)[0])
        steering, targets = None, es_targets(plan.prior, myo_ed_ml) if plan.request.control else ()
        if targets:
            codec, at_es = self.bundle.codec, residuals_at(es)[:1]
            near = cells_near_heart(codec, anatomy.label[0])
            steering = steer_motion(codec, anatomy.latent, at_es, plan.slice_mask, targets, near)

        def frames_at(phases: Tensor) -> Candidate:
            chunks = torch.cat([phases, phases[-1:].expand(-len(phases) % size)]).reshape(-1, size)
            moved = (residuals_at(c) if steering is None else steering.move(residuals_at(c), c) for c in chunks)
            decoded = [self.decode(anatomy.latent + residuals, plan) for residuals in moved]
            first = anatomy.image, anatomy.label, np.array([anatomy.postprocessing_ml])
            frames = (np.concatenate(parts)[: 1 + len(phases)] for parts in zip(first, *decoded, strict=True))
            image, label, postprocessing_ml = frames
            verdicts = judge_motion(label, self.voxel_ml, plan.es_index if len(phases) > 1 else 1)
            return Candidate(start, image, label, verdicts, attempt, steering, float(postprocessing_ml.sum()))

        if not whole and len(plan.phases) > 1 + size:
            ends = frames_at(es[:1])
            if not ends.verdicts.accepted:
                return ends
        return frames_at(plan.phases[1:])

    def _trajectory(self, plan: Plan, anatomy: Tensor, start: Tensor) -> Callable[[Tensor], Tensor]:
        """Residuals ``N C x y z`` as a function of ``frames_per_call`` phases."""
        size, code, dynamics = self.frames_per_call, self.bundle.residual_motion.code, self.bundle.motion_diffusion
        if isinstance(code, FrameCode):  # the phase is a condition; all frames share the start noise
            conditions = plan.conditions.repeat(size)
            starts, anatomies = (x.expand(size, -1, -1, -1, -1) for x in (start, anatomy))

            def at(phases: Tensor) -> Tensor:
                frames = self._sample(dynamics, plan, starts, conditions.at_phase(phases.to(start)), anatomies)
                return code.decode(frames, phases)

            return at
        cycle = self._sample(dynamics, plan, start, plan.conditions, anatomy)  # one trajectory holds the whole cycle
        return lambda phases: code.decode(cycle, phases)[0]

    def _sample(
        self,
        model: LatentDiffusion,
        plan: Plan,
        noise: Tensor,
        conditions: Conditions,
        anatomy: Tensor | None = None,
        given: Tensor | None = None,
        variation: float = 1.0,
    ) -> Tensor:
        mask, request = plan.slice_mask.expand(len(noise), -1), plan.request
        settings: dict[str, Any] = {"steps": request.steps, "guidance": request.guidance}
        return model.sample(noise, conditions, mask, anatomy, **settings, start=given, strength=variation)

    def _noise(self, plan: Plan, purpose: str, attempt: int, channels: int) -> Tensor:
        """Start noise ``1 C x y z``, zero on slices that are computed but not acquired."""
        x, y, _ = self.bundle.config.latent_size
        acquired = plan.slice_mask[0].cpu()
        start = torch.zeros(1, channels, x, y, len(acquired))
        start[..., acquired] = noise(plan.request.seed, purpose, attempt, (1, channels, x, y, int(acquired.sum())))
        return start.to(self.device)

    def encode(self, image: FloatArray, plan: Plan) -> Tensor:
        """The latent ``1 C x y z`` of the acquired slices ``X Y Z`` of an image in [-1, 1] on the weights' grid."""
        acquired: BoolArray = plan.slice_mask[0].cpu().numpy()
        computed = np.full((*image.shape[:2], len(acquired)), -1.0, dtype=np.float32)
        computed[..., acquired] = image
        return self.bundle.codec.encode(torch.from_numpy(computed)[None, None].to(self.device), plan.slice_mask)

    def decode(self, latent: Tensor, plan: Plan) -> tuple[FloatArray, LabelArray, NDArray[np.float64]]:
        """Acquired slices of ``N C x y z`` as image and label, ``N X Y Z``, and the mL that tidying changed, ``N``."""
        mask = plan.slice_mask.expand(len(latent), -1)
        decoded = self.bundle.codec.decode(latent, mask)
        acquired: BoolArray = plan.slice_mask[0].cpu().numpy()
        image = decoded.image[:, 0].clamp(-1.0, 1.0).float().cpu().numpy()
        label = self.bundle.codec.labels(decoded.logits, mask)[..., acquired]
        likeliest = decoded.logits.argmax(dim=1).cpu().numpy()[..., acquired]
        return image[..., acquired], label, (label != likeliest).sum(axis=(1, 2, 3)) * self.voxel_ml
