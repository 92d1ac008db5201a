"""Priors in, beating hearts out.

A case is computed alone: networks see one case a call, and a case's own frames in chunks of one size. The rows of a
batch share matrix products, so that neighbours and even the place in the batch change the last bits of a case
(measured: see `CinePipeline`). This way a case is the same, bit for bit, alone and in any company.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import numpy as np
import torch
from torch import Tensor

from cinesynth.data.geometry import Grid, slice_mask
from cinesynth.data.phase import default_es_index, frame_phases
from cinesynth.errors import InputError
from cinesynth.models.conditioning import Conditions, ConditionSet, encode_priors
from cinesynth.models.diffusion import LatentDiffusion
from cinesynth.models.residual_motion import FrameCode
from cinesynth.models.weights import Bundle, bundle_sha256, find_bundle
from cinesynth.synthesis.acceptance import judge_anatomy, judge_motion
from cinesynth.synthesis.control import steer, steer_motion
from cinesynth.synthesis.fingerprints import fingerprint_screen
from cinesynth.synthesis.knowledge import check_known
from cinesynth.synthesis.prior import EmpiricalPrior
from cinesynth.synthesis.provenance import provenance
from cinesynth.synthesis.request import Request
from cinesynth.synthesis.seeds import case_seed, derive, noise
from cinesynth.synthesis.tries import Draw, Screen, best_of, tries_json
from cinesynth.types import BoolArray, Cine, ClinicalPrior, FloatArray, LabelArray

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


class CinePipeline:
    """Generates cases from a weights folder.

    ``pipe(prior, seed=7)`` is one `Cine`; ``pipe([a, b], seed=7)`` a list. The same weights, request and seed give the
    same voxels, bit for bit, alone or among others (on one machine: library versions, device and number of threads
    may change the last bits). Batching cases would gain little: with ``small`` on a CPU a denoiser call for four
    cases takes 0.73 of the time of four calls for one, of which a guided call recovers most by itself.
    """

    def __init__(self, bundle: Bundle, device: torch.device | str = "cpu", screen: Screen | None = None) -> None:
        self.bundle = bundle
        self.device = torch.device(device)
        self.grid = Grid.from_config(bundle.config.grid)
        self.prior = EmpiricalPrior.from_json(bundle.prior)
        self.told = ConditionSet.of(bundle.config)
        self.bundle_sha256 = bundle_sha256(bundle.folder)
        self.screens = tuple(judge for judge in (fingerprint_screen(bundle), screen) if judge is not None)
        self.frames_per_call = FRAMES_PER_CALL.get(self.device.type, FRAMES_PER_CALL_ELSEWHERE)

    @classmethod
    def from_pretrained(
        cls,
        folder: Path | str | None = None,
        device: torch.device | str | None = None,
        screen: Screen | None = None,
    ) -> CinePipeline:
        """Load a weights folder, or weights of the package by their name; `WeightsError` says what is wrong with it.

        Without ``device`` the first CUDA device is taken where there is one. Anatomies that ``screen`` or the weights'
        own fingerprints of their training subjects refuse are drawn again, and never kept.
        """
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        return cls(Bundle.load(find_bundle(folder), device), device, screen)

    @property
    def screened(self) -> dict[str, object]:
        """What the provenance says of the screens: nothing, where there is none."""
        return {"screen": "; ".join(judge.identity for judge in self.screens)} if self.screens else {}

    @overload
    def __call__(
        self,
        prior: ClinicalPrior,
        *,
        frames: int = ...,
        es_index: int | None = ...,
        seed: int = ...,
        steps: int | None = ...,
        guidance: float | None = ...,
        tries: int = ...,
        control: bool = ...,
    ) -> Cine: ...

    @overload
    def __call__(
        self,
        prior: Sequence[ClinicalPrior],
        *,
        frames: int = ...,
        es_index: int | None = ...,
        seed: int | Sequence[int] = ...,
        steps: int | None = ...,
        guidance: float | None = ...,
        tries: int = ...,
        control: bool = ...,
    ) -> list[Cine]: ...

    def __call__(
        self,
        prior: ClinicalPrior | Sequence[ClinicalPrior],
        *,
        frames: int = 30,
        es_index: int | None = None,
        seed: int | Sequence[int] = 0,
        steps: int | None = None,
        guidance: float | None = None,
        tries: int = 3,
        control: bool = True,
    ) -> Cine | list[Cine]:
        """Generate one case, or a list of them.

        Args:
            prior: what is asked; unknown slices are drawn from the empirical prior. RV volumes, myocardial mass and
                vendor may be asked of weights that were trained with them.
            frames: frames of the cycle, ED first.
            es_index: frame of ES; by default at the diagnosis' usual share of the cycle.
            seed: of the case; for a list either one seed a case, or one from which each gets its own
                (`seeds.case_seed`; the case's own seed is in its `Cine`).
            steps: sampling steps of both models; by default the weights'.
            guidance: classifier-free guidance of both models; 1 is none, 0 ignores the prior.
            tries: draws allowed for an acceptable anatomy, and again for an acceptable motion.
            control: move the sampled latents until the masks have the requested volumes (`control`).
        """
        priors = [prior] if isinstance(prior, ClinicalPrior) else list(prior)
        if not isinstance(prior, ClinicalPrior) and isinstance(seed, int):
            seed = [case_seed(seed, case) for case in range(len(priors))]
        seeds = [seed] if isinstance(seed, int) else list(seed)
        if len(seeds) != len(priors):
            raise InputError(f"{len(seeds)} seeds for {len(priors)} cases", hint="give one seed, or one for each case")
        settings = (frames, es_index, steps, guidance, tries, control)
        requests = [Request(p, s, *settings) for p, s in zip(priors, seeds, strict=True)]
        cines = list(self.generate(requests))
        return cines[0] if isinstance(prior, ClinicalPrior) else cines

    def generate(self, requests: Sequence[Request]) -> Iterator[Cine]:
        """Cases in order, each computed when it is asked for; requests that cannot be met are refused before any."""
        plans = [self.plan(request) for request in requests]
        for plan in plans:
            yield self._case(plan)

    def plan(self, request: Request) -> Plan:
        """Make the open choices of a request; `InputError` if these weights' grid or training cannot meet it."""
        check_known(request.prior, self.told)
        prior = self.prior.complete(request.prior, derive(request.seed, "slices"))
        assert prior.slices is not None
        acquired = slice_mask(prior.slices, self.grid.size[2])
        computed = acquired[acquired] if self._may_crop() else acquired
        es_index = request.es_index
        if es_index is None:
            es_index = default_es_index(request.frames, self.prior.systolic_fraction(prior.diagnosis))
        return Plan(
            request=request,
            prior=prior,
            es_index=es_index,
            frame_time_ms=self.prior.frame_time_ms(prior.diagnosis, request.frames),
            phases=torch.from_numpy(frame_phases(request.frames, es_index)),
            slice_mask=torch.from_numpy(computed)[None].to(self.device),
            conditions=encode_priors([prior], self.told).to(self.device),
        )

    @torch.inference_mode()
    def _case(self, plan: Plan) -> Cine:
        tries = plan.request.tries
        anatomy, anatomies = best_of(tries, lambda attempt: self._draw_anatomy(plan, attempt))
        motion, motions = best_of(tries, lambda attempt: self._draw_motion(plan, anatomy, attempt))
        accepted = anatomy.verdicts.accepted and motion.verdicts.accepted
        stages = {"anatomy": tries_json(anatomy, anatomies), "motion": tries_json(motion, motions)}
        weights = {**self.bundle.info, "sha256": self.bundle_sha256}
        record = provenance(plan.request, int(plan.prior.slices or 0), self.bundle.config, weights, self.device)
        return Cine(
            image=motion.image,
            label=motion.label,
            affine=np.diag([*self.grid.spacing_mm, 1.0]),
            frame_time_ms=plan.frame_time_ms,
            ed_index=0,
            es_index=plan.es_index,
            prior=plan.request.prior,
            seed=plan.request.seed,
            provenance={**record, **self.screened, "acceptance": {"accepted": accepted, **stages}},
        )

    def _draw_anatomy(self, plan: Plan, attempt: int) -> Draw:
        start = self._noise(plan, "anatomy", attempt, self.bundle.config.vae.latent_channels)
        latent = self._sample(self.bundle.anatomy, plan, start, plan.conditions)
        steering, target_ml = None, plan.prior.lv_edv_ml
        if plan.request.control and target_ml is not None:
            steering = steer(self.bundle.codec, latent, plan.slice_mask, target_ml)
            latent = latent + steering.shift
        image, label = self._decode(latent, plan)
        refused = next((why for judge in self.screens if (why := judge.refuses(image[0], label[0]))), "")
        return Draw(latent, image, label, judge_anatomy(label[0], self.grid.voxel_ml), attempt, steering, refused)

    def _draw_motion(self, plan: Plan, anatomy: Draw, attempt: int) -> Draw:
        """All frames; the first is the anatomy as it was decoded and accepted."""
        start = self._noise(plan, "motion", attempt, self.bundle.motion.code.channels)
        residuals_at, size = self._trajectory(plan, anatomy.latent, start), self.frames_per_call
        steering, target_ml = None, plan.prior.lv_esv_ml
        if plan.request.control and target_ml is not None:
            at_es = residuals_at(torch.ones(size, dtype=plan.phases.dtype))[:1]
            steering = steer_motion(self.bundle.codec, anatomy.latent, at_es, plan.slice_mask, target_ml)
        images, labels = [anatomy.image], [anatomy.label]
        later = plan.phases[1:]
        for chunk in torch.cat([later, later[-1:].expand(-len(later) % size)]).reshape(-1, size):
            residuals = residuals_at(chunk)
            if steering is not None:
                residuals = steering.move(residuals, chunk)
            image, label = self._decode(anatomy.latent + residuals, plan)
            images.append(image)
            labels.append(label)
        image, label = np.concatenate(images)[: len(plan.phases)], np.concatenate(labels)[: len(plan.phases)]
        verdicts = judge_motion(label, self.grid.voxel_ml, plan.es_index)
        return Draw(start, image, label, verdicts, attempt, steering)

    def _trajectory(self, plan: Plan, anatomy: Tensor, start: Tensor) -> Callable[[Tensor], Tensor]:
        """Residuals ``N C x y z`` as a function of ``frames_per_call`` phases."""
        size, code, dynamics = self.frames_per_call, self.bundle.motion.code, self.bundle.dynamics
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
        self, model: LatentDiffusion, plan: Plan, start: Tensor, conditions: Conditions, anatomy: Tensor | None = None
    ) -> Tensor:
        mask, request = plan.slice_mask.expand(len(start), -1), plan.request
        return model.sample(start, conditions, mask, anatomy, steps=request.steps, guidance=request.guidance)

    def _noise(self, plan: Plan, purpose: str, attempt: int, channels: int) -> Tensor:
        """Start noise ``1 C x y z``, zero on slices that are computed but not acquired."""
        x, y, _ = self.bundle.config.latent_size
        acquired = plan.slice_mask[0].cpu()
        start = torch.zeros(1, channels, x, y, len(acquired))
        start[..., acquired] = noise(plan.request.seed, purpose, attempt, (1, channels, x, y, int(acquired.sum())))
        return start.to(self.device)

    def _decode(self, latent: Tensor, plan: Plan) -> tuple[FloatArray, LabelArray]:
        """Acquired slices of ``N C x y z`` as image and label, ``N X Y Z``."""
        decoded = self.bundle.codec.decode(latent, plan.slice_mask.expand(len(latent), -1))
        acquired: BoolArray = plan.slice_mask[0].cpu().numpy()
        image = decoded.image[:, 0].clamp(-1.0, 1.0).float().cpu().numpy()
        label = decoded.logits.argmax(dim=1).to(torch.uint8).cpu().numpy()
        return image[..., acquired], label[..., acquired]

    def _may_crop(self) -> bool:
        """Whether slices that were not acquired can be left out; group norms average over them too."""
        config = self.bundle.config
        return all(net.norm == "layer" for net in (config.vae, config.anatomy.denoiser, config.dynamics.denoiser))
