"""Sampling of an anatomy, and of a motion for it, from a bundle's networks and start noise that only the seed decides.

Every network call holds one case, and a case's frames in chunks of one size: the rows of a batch share matrix products,
so other cases in the batch, and even the place in it, would change a case's last bits. This way a case is the same, bit
for bit, alone and in a cohort.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cinesynth.io.reproducibility import noise
from cinesynth.io.tasks import ProgressCallback
from cinesynth.models.conditioning import Conditions
from cinesynth.models.diffusion import LatentDiffusion
from cinesynth.models.residual_motion import FrameCode
from cinesynth.models.threads import on_all_cores
from cinesynth.synthesis.acceptance import Candidate, judge_anatomy, judge_motion, shapes_hold
from cinesynth.synthesis.planning import Plan
from cinesynth.synthesis.volume_matching import (
    VolumeMatching,
    cells_near_heart,
    ed_targets,
    es_targets,
    match_motion_volumes,
    match_volumes,
)
from cinesynth.types import BoolArray, FloatArray, Label, LabelArray, volumes_ml
from cinesynth.weights.folder import Bundle

Frame = tuple[FloatArray, LabelArray, np.float64]
"""Image and label, ``X Y Z`` each, and what mask postprocessing changed, mL."""
Progress = Callable[..., None]
"""Called with "anatomy" or "motion" after each network call of a case (`Sampler.progress`)."""


class Sampler:
    """The networks of a bundle. Every candidate depends on its plan and the number of its attempt alone."""

    def __init__(self, bundle: Bundle, device: torch.device) -> None:
        self.bundle = bundle
        self.device = device
        self.voxel_ml = math.prod(bundle.config.grid.spacing_mm) / 1000.0
        # Frames of a case per network call, fixed for a kind of device: the chunk size changes a case's last bits.
        self.frames_per_call = 2 if device.type == "cpu" else 16

    def progress(self, plan: Plan, callback: ProgressCallback) -> Progress:
        """A function that counts the network calls of a case and reports them to ``callback``.

        The total is what a case needs that is accepted at the first attempt, with a typical number of steps for volume
        matching; further attempts leave ``done`` where it is, and it never decreases.
        """
        models = (self.bundle.anatomy_diffusion, self.bundle.motion_diffusion)
        anatomy, motion = (plan.request.steps or model.config.sampling_steps for model in models)
        chunks = math.ceil(len(plan.phases) / self.frames_per_call)
        # Volume matching decodes 10 to 30 times per stage; without it there are one or two decodes.
        matching = 24 if plan.request.match_volumes else 2
        cycles = 1 + chunks if isinstance(self.bundle.residual_motion.code, FrameCode) else 1
        first = anatomy + matching
        total = first + cycles * motion + matching + chunks
        calls = {"anatomy": 0, "motion": 0}

        def step(stage: str, *_: int) -> None:
            calls[stage] += 1
            before, last = (first, total) if stage == "motion" else (0, first)
            callback(stage, min(before + calls[stage], last), total, {})

        return step

    def anatomy(
        self,
        plan: Plan,
        attempt: int,
        *,
        start: Tensor | None = None,
        variation: float = 1.0,
        progress: Progress = lambda *_: None,
    ) -> Candidate:
        """Sample an ED anatomy.

        ``attempt`` decides the start noise. ``start`` is a latent ``1 C x y z`` to vary instead of sampling from noise
        (`LatentDiffusion.sample`), from the noise level ``variation``; 0 keeps it.
        """
        step = partial(progress, "anatomy")
        start_noise = self._noise(plan, "anatomy", attempt, self.bundle.config.vae.latent_channels)
        settings: dict[str, Any] = {"start": start, "strength": variation, "callback": step}
        latent = self._sample(self.bundle.anatomy_diffusion, plan, start_noise, plan.conditions, **settings)
        step()
        return self._decoded_anatomy(plan, latent, attempt)

    def matched(self, plan: Plan, anatomy: Candidate, progress: Progress = lambda *_: None) -> Candidate:
        """The anatomy moved to the requested EDV; as it is where none is to be matched."""
        targets = ed_targets(plan.request.prior) if plan.request.match_volumes else ()
        if not targets:
            return anatomy
        step, codec = partial(progress, "anatomy"), self.bundle.codec
        near = cells_near_heart(codec, anatomy.label[0])
        matching = match_volumes(codec, anatomy.latent, plan.slice_mask, targets, near, step)
        step()
        return self._decoded_anatomy(plan, anatomy.latent + matching.shift, anatomy.attempt, matching)

    def _decoded_anatomy(
        self, plan: Plan, latent: Tensor, attempt: int, matching: VolumeMatching | None = None
    ) -> Candidate:
        image, label, postprocessing_ml = self.decode(latent, plan, [0])
        verdicts = judge_anatomy(label[0], self.voxel_ml)
        return Candidate(latent, image, label, verdicts, attempt, matching, float(postprocessing_ml.sum()))

    def motion(
        self,
        plan: Plan,
        anatomy: Candidate,
        attempt: int,
        *,
        all_frames: bool = False,
        progress: Progress = lambda *_: None,
    ) -> Candidate:
        """Sample a motion and decode it; frame 0 is the anatomy as it was decoded and accepted.

        Frames are decoded from ES on in steps that become finer. As soon as one breaks a rule the candidate is what was
        decoded so far, unless ``all_frames`` is set: decoding takes most of an attempt's time.
        """
        step, size = partial(progress, "motion"), self.frames_per_call
        start_noise = self._noise(plan, "motion", attempt, self.bundle.residual_motion.code.channels)
        residuals_at = self._trajectory(plan, anatomy.latent, start_noise, step)
        es = torch.ones(size, dtype=plan.phases.dtype)
        matching = self._match_motion(plan, anatomy, lambda: residuals_at(es)[:1], step)
        found = {0: (anatomy.image[0], anatomy.label[0], anatomy.postprocessing_ml)}
        order = coarse_to_fine(plan.es_index, len(plan.phases))

        def residuals() -> Iterator[tuple[list[int], Tensor]]:
            for chunk in (order[i : i + size] for i in range(0, len(order), size)):
                phases = plan.phases[chunk + chunk[-1:] * (size - len(chunk))]  # size: chunks are always full
                found_at = residuals_at(phases)  # size C x y z
                yield chunk, found_at if matching is None else matching.apply(found_at, phases)

        with closing(self._decoded_frames(plan, anatomy, residuals())) as chunks:
            for decoded, hold in chunks:
                found |= decoded
                step()
                if not (hold or all_frames):
                    break
        frames = sorted(found)
        image, label, changed_ml = (np.stack(part) for part in zip(*(found[frame] for frame in frames), strict=True))
        verdicts = judge_motion(label, self.voxel_ml, frames.index(plan.es_index))
        return Candidate(start_noise, image, label, verdicts, attempt, matching, float(changed_ml.sum()))

    def _decoded_frames(
        self, plan: Plan, anatomy: Candidate, chunks: Iterator[tuple[list[int], Tensor]]
    ) -> Generator[tuple[dict[int, Frame], bool], None, None]:
        """Each chunk of residuals decoded, with whether its frames may belong to an accepted motion."""

        def decode(chunk: tuple[list[int], Tensor]) -> tuple[dict[int, Frame], bool]:
            numbers, residuals = chunk
            padded = numbers + numbers[-1:] * (len(residuals) - len(numbers))
            frames = zip(*self.decode(anatomy.latent + residuals, plan, padded), strict=True)
            decoded = dict(zip(numbers, frames, strict=False))
            labels = [anatomy.label[0], *(label for _, label, _ in decoded.values())]
            return decoded, self._hold_so_far(labels, numbers, plan)

        yield from map(decode, islice(chunks, 1))  # ES, after which a motion often ends
        yield from on_all_cores(decode, chunks, self.device)

    def _hold_so_far(self, labels: list[LabelArray], chunk: list[int], plan: Plan) -> bool:
        """Whether the frames of a chunk may belong to an accepted motion; ``labels`` are those of ED and of them."""
        if chunk[0] != plan.es_index:
            return shapes_hold(labels[1:])
        ed_and_es = np.stack(labels[:2])
        return judge_motion(ed_and_es, self.voxel_ml, 1).accepted and shapes_hold(labels[2:])

    def _match_motion(
        self, plan: Plan, anatomy: Candidate, es_residual: Callable[[], Tensor], step: Callable[[], None]
    ) -> VolumeMatching | None:
        """Volume matching of a motion with this residual at ES, ``1 C x y z``; None where no ESV is to be matched."""
        myo_ed_ml = float(volumes_ml(anatomy.label, Label.MYO, self.voxel_ml)[0])
        targets = es_targets(plan.request.prior, myo_ed_ml) if plan.request.match_volumes else ()
        if not targets:
            return None
        codec, near = self.bundle.codec, cells_near_heart(self.bundle.codec, anatomy.label[0])
        return match_motion_volumes(codec, anatomy.latent, es_residual(), plan.slice_mask, targets, near, step)

    def _trajectory(
        self, plan: Plan, anatomy: Tensor, start_noise: Tensor, step: Callable[..., None]
    ) -> Callable[[Tensor], Tensor]:
        """Residuals ``N C x y z`` as a function of ``frames_per_call`` phases."""
        size, code, dynamics = self.frames_per_call, self.bundle.residual_motion.code, self.bundle.motion_diffusion
        if isinstance(code, FrameCode):  # the phase is a condition; all frames share the start noise
            conditions = plan.conditions.repeat(size)
            noises, anatomies = (x.expand(size, -1, -1, -1, -1) for x in (start_noise, anatomy))  # N C x y z

            def at(phases: Tensor) -> Tensor:
                conditions_at = conditions.at_phase(phases.to(start_noise))
                frames = self._sample(dynamics, plan, noises, conditions_at, anatomy=anatomies, callback=step)
                return code.decode(frames, phases)

            return at
        # One code holds the harmonics of the whole cycle: it is sampled once and evaluated at any phase.
        cycle = self._sample(dynamics, plan, start_noise, plan.conditions, anatomy=anatomy, callback=step)
        return lambda phases: code.decode(cycle, phases)[0]

    def _sample(
        self, model: LatentDiffusion, plan: Plan, start_noise: Tensor, conditions: Conditions, **settings: Any
    ) -> Tensor:
        """Clean codes ``N C x y z``; ``settings`` are further arguments of `LatentDiffusion.sample`."""
        mask, request = plan.slice_mask.expand(len(start_noise), -1), plan.request
        settings |= {"steps": request.steps, "guidance": request.guidance}
        return model.sample(start_noise, conditions, mask, **settings)

    def _noise(self, plan: Plan, purpose: str, attempt: int, channels: int) -> Tensor:
        """Start noise ``1 C x y z``, zero on slices that are computed but not acquired."""
        x, y, _ = self.bundle.config.latent_size
        acquired = plan.slice_mask[0].cpu()
        start = torch.zeros(1, channels, x, y, len(acquired))
        # Drawn for the acquired slices only: a case does not depend on how many others are computed.
        start[..., acquired] = noise(plan.request.seed, purpose, attempt, (1, channels, x, y, int(acquired.sum())))
        return start.to(self.device)

    def encode(self, image: FloatArray, plan: Plan) -> Tensor:
        """The latent ``1 C x y z`` of the acquired slices ``X Y Z`` of an image in [-1, 1] on the weights' grid."""
        acquired: BoolArray = plan.slice_mask[0].cpu().numpy()
        computed = np.full((*image.shape[:2], len(acquired)), -1.0, dtype=np.float32)
        computed[..., acquired] = image
        return self.bundle.codec.encode(torch.from_numpy(computed)[None, None].to(self.device), plan.slice_mask)

    def decode(
        self, latent: Tensor, plan: Plan, numbers: Sequence[int]
    ) -> tuple[FloatArray, LabelArray, NDArray[np.float64]]:
        """Image and label of acquired slices, ``N X Y Z``, and what mask postprocessing changed of each, mL.

        ``numbers`` are the frames of the latents in the cycle, on which their texture depends.
        """
        mask = plan.slice_mask.expand(len(latent), -1)
        decoded = self.bundle.codec.decode(latent, mask)
        acquired = plan.slice_mask[0]
        image = decoded.image[..., acquired].clamp(-1.0, 1.0).float()  # N 1 X Y Z
        if (texture := self.bundle.texture) is not None:
            grain = texture.noise_of(plan.request.seed, numbers, tuple(image.shape[2:]), len(plan.phases))
            detail_db = texture.detail_of(plan.prior.vendor, plan.request.seed)
            image = texture(image, grain.to(image.device), detail_db)
        label, changed = self.bundle.codec.masks(decoded.logits, mask)
        changed_ml = changed.sum(axis=(1, 2, 3)) * self.voxel_ml
        return image[:, 0].cpu().numpy(), label[..., acquired.cpu().numpy()], changed_ml


def coarse_to_fine(first: int, frames: int) -> list[int]:
    """All frames after ED (0) of a cycle, in steps that are halved: ``first``, half a cycle away, a quarter, ..."""
    order: list[int] = []
    step = frames
    while len(order) < frames - 1:
        order += [f for k in range(0, frames, step) if (f := (first + k) % frames) not in (0, *order)]
        step = max(step // 2, 1)
    return order
