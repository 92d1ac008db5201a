"""Priors in, beating hearts out."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import overload

import numpy as np
import torch

from cinesynth.data.geometry import Grid, slice_mask
from cinesynth.data.phase import default_es_index, frame_phases
from cinesynth.errors import InputError
from cinesynth.io.seeds import case_seed, derive
from cinesynth.memorisation.duplicate_filter import DuplicateFilter, fingerprint_filter
from cinesynth.models.conditioning import ConditionSet, encode_priors
from cinesynth.synthesis.provenance import provenance
from cinesynth.synthesis.rejection import Candidate, rejection_sample, tries_json
from cinesynth.synthesis.request import Request
from cinesynth.synthesis.sampler import Plan, Sampler
from cinesynth.types import Cine, ClinicalPrior
from cinesynth.weights.folder import Bundle, bundle_sha256, find_bundle
from cinesynth.weights.prior import EmpiricalPrior
from cinesynth.weights.registry import check_supported


class CinePipeline:
    """Generates cases from a weights folder.

    ``pipe(prior, seed=7)`` is one `Cine`; ``pipe([a, b], seed=7)`` a list. The same weights, request and seed give the
    same voxels, bit for bit, alone or among others (on one machine: library versions, device and number of threads
    may change the last bits). Batching cases would gain little: with ``small`` on a CPU a denoiser call for four
    cases takes 0.73 of the time of four calls for one, of which a guided call recovers most by itself.
    """

    def __init__(
        self, bundle: Bundle, device: torch.device | str = "cpu", screen: DuplicateFilter | None = None
    ) -> None:
        self.bundle = bundle
        self.device = torch.device(device)
        self.grid = Grid.from_config(bundle.config.grid)
        self.prior = EmpiricalPrior.from_json(bundle.prior)
        self.condition_set = ConditionSet.of(bundle.config)
        self.bundle_sha256 = bundle_sha256(bundle.folder)
        own = fingerprint_filter(bundle.fingerprints, self.grid)
        self.screens = tuple(judge for judge in (own, screen) if judge is not None)
        self.sampler = Sampler(bundle, self.device)

    @classmethod
    def from_pretrained(
        cls,
        folder: Path | str | None = None,
        device: torch.device | str | None = None,
        screen: DuplicateFilter | None = None,
    ) -> CinePipeline:
        """Load a weights folder, or weights of the package by their name; `WeightsError` says what is wrong with it.

        Without ``device`` it is `usual_device`. Anatomies that ``screen`` or the weights'
        own fingerprints of their training subjects refuse are drawn again, and never kept.
        """
        device = device or usual_device()
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
        check_supported(request.prior, self.condition_set)
        kept = None if request.anatomy is None else self.plan(request.anatomy)
        prior = self.prior.complete(request.prior, derive(request.seed, "slices"))
        prior = prior if kept is None else replace(prior, slices=kept.prior.slices)
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
            conditions=encode_priors([prior], self.condition_set).to(self.device),
            anatomy=kept,
        )

    @torch.inference_mode()
    def _case(self, plan: Plan) -> Cine:
        by = plan.anatomy or plan
        return self.beat(plan, *rejection_sample(by.request.tries, lambda attempt: self._draw_anatomy(by, attempt)))

    @torch.inference_mode()
    def beat(self, plan: Plan, anatomy: Candidate, anatomies: Sequence[Candidate]) -> Cine:
        """A case of the ``anatomy`` that was kept of all ``anatomies`` drawn, with its motion and how it came about."""
        motion, motions = self.sampler.best_motion(plan, anatomy)
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

    def _draw_anatomy(self, plan: Plan, attempt: int) -> Candidate:
        draw = self.sampler.anatomy(plan, attempt)
        refusals = (judge.reject_reason(draw.image[0], draw.label[0]) for judge in self.screens)
        return replace(draw, refused=next(filter(None, refusals), ""))

    def _may_crop(self) -> bool:
        """Whether slices that were not acquired can be left out; group norms average over them too."""
        config = self.bundle.config
        return all(
            net.norm == "layer"
            for net in (config.vae, config.anatomy_diffusion.denoiser, config.motion_diffusion.denoiser)
        )


def usual_device() -> str:
    """A CUDA device where there is one, that of ``LOCAL_RANK`` among several processes of a node; else the CPU."""
    if not torch.cuda.is_available():
        return "cpu"
    rank = os.environ.get("LOCAL_RANK", "0")
    if not (rank.isascii() and rank.isdigit()):
        raise InputError(
            f"the environment variable LOCAL_RANK is {rank[:40]!r}", hint="give a whole number, or unset it"
        )
    return f"cuda:{int(rank) % torch.cuda.device_count()}"
