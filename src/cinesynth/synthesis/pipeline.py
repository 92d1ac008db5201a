"""The generation pipeline: from clinical priors to cines with segmentations, and the record of how each was made."""

from __future__ import annotations

import os
import platform
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch

import cinesynth
from cinesynth.cases.schema import RENAMED_REQUEST_KEYS
from cinesynth.errors import InputError
from cinesynth.io.reproducibility import case_seed, package_versions
from cinesynth.io.tasks import ProgressCallback, no_progress
from cinesynth.memorisation.duplicate_filter import DuplicateFilter, fingerprint_filter
from cinesynth.synthesis.acceptance import Candidate, acceptance_json, judge_anatomy, rejection_sample
from cinesynth.synthesis.planning import Plan, Planner, drawn_conditions
from cinesynth.synthesis.request import FRAMES, KeptFrame, Request
from cinesynth.synthesis.sampler import Progress, Sampler
from cinesynth.types import Cine, ClinicalPrior, Precision
from cinesynth.weights.folder import Bundle, bundle_sha256
from cinesynth.weights.registry import find_bundle

LICENCE_KEYS = ("licence", "licences", "license", "citation", "citations", "data")
"""Keys of a weights index that are copied into each case."""
MAX_CHANGED = 0.1
"""Share of a kept heart's voxels that may differ where it is computed again. Another number of threads changes less
than .001; an attempt that is accepted in one place and not in the other gives another heart."""


class CinePipeline:
    """Generates cases from a weights folder.

    ``pipe(prior, seed=7)`` returns one `Cine`, ``pipe([a, b], seed=7)`` a list. The same weights, request and seed give
    the same voxels, bit for bit, alone or in a cohort. This holds on one machine: library versions, the device and the
    number of threads may change the last bits.

    Cases are not batched, because that would gain little: with ``small`` on a CPU, one denoiser call for four cases
    takes 73 % of the time of four calls, and guidance already doubles the batch of a single case.
    """

    def __init__(
        self, bundle: Bundle, device: torch.device | str = "cpu", duplicate_filter: DuplicateFilter | None = None
    ) -> None:
        self.bundle = bundle
        self.device = torch.device(device)
        self.planner = Planner(bundle, self.device)
        self.grid, self.prior, self.condition_set = self.planner.grid, self.planner.prior, self.planner.condition_set
        self.bundle_sha256 = bundle_sha256(bundle.folder)
        filters = (fingerprint_filter(bundle.fingerprints, self.grid), duplicate_filter)
        self.duplicate_filters = tuple(each for each in filters if each is not None)
        self.sampler = Sampler(bundle, self.device)

    @classmethod
    def from_pretrained(
        cls,
        folder: Path | str | None = None,
        device: torch.device | str | None = None,
        duplicate_filter: DuplicateFilter | None = None,
        precision: Precision = "auto",
    ) -> CinePipeline:
        """Load a weights folder, or shipped weights by name: by default the default weights on `default_device`.

        With ``precision`` "auto" the networks compute in bf16 where the hardware multiplies it, else in fp32.
        Anatomies that ``duplicate_filter`` or the weights' own fingerprints of their training subjects reject are
        sampled again. Raises `WeightsError` if the folder is incomplete or altered.
        """
        device = device or default_device()
        return cls(Bundle.load(find_bundle(folder), device, precision), device, duplicate_filter)

    @property
    def filter_record(self) -> dict[str, object]:
        """The duplicate filters' entry in a case's provenance; empty without any."""
        identity = "; ".join(each.identity for each in self.duplicate_filters)
        return {"duplicate_filters": identity} if identity else {}

    def has_filters_of(self, provenance: Mapping[str, object]) -> bool:
        """Whether a case with this ``provenance`` was made with the same duplicate filters."""
        return provenance.get("duplicate_filters") == self.filter_record.get("duplicate_filters")

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
        max_attempts: int = ...,
        match_volumes: bool = ...,
        callback: ProgressCallback = ...,
        **renamed: Any,
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
        max_attempts: int = ...,
        match_volumes: bool = ...,
        callback: ProgressCallback = ...,
        **renamed: Any,
    ) -> list[Cine]: ...

    def __call__(
        self,
        prior: ClinicalPrior | Sequence[ClinicalPrior],
        *,
        frames: int = FRAMES,
        es_index: int | None = None,
        seed: int | Sequence[int] = 0,
        steps: int | None = None,
        guidance: float | None = None,
        max_attempts: int = 3,
        match_volumes: bool = True,
        callback: ProgressCallback = no_progress,
        **renamed: Any,
    ) -> Cine | list[Cine]:
        """Generate one case, or a list of cases.

        Args:
            prior: what is requested. An unspecified number of slices is sampled from the empirical prior. RV volumes,
                myocardial mass and vendor need weights that were trained with them.
            frames: frames per cycle; frame 0 is ED.
            es_index: zero-based frame of ES; by default at the typical systolic fraction of the diagnosis.
            seed: seed of the case. For a list, either one seed per case, or one from which each case gets its own
                (`io.reproducibility.case_seed`); `Cine.seed` holds the case's own.
            steps: sampling steps of both diffusion models; by default those of the weights.
            guidance: classifier-free guidance scale of both; 1 disables guidance, 0 ignores the prior.
            max_attempts: attempts at an acceptable anatomy, and as many at an acceptable motion.
            match_volumes: optimise the sampled latents until the masks have the requested volumes.
            callback: called after each network call of a case, as ``callback(stage, calls done, calls expected, {})``.
            **renamed: ``tries`` and ``control``, the names of ``max_attempts`` and ``match_volumes`` in 0.1.0.

        Raises:
            InputError: if a value is out of range, or the weights do not support the request.
        """
        priors = [prior] if isinstance(prior, ClinicalPrior) else list(prior)
        if not isinstance(prior, ClinicalPrior) and isinstance(seed, int):
            seed = [case_seed(seed, case) for case in range(len(priors))]
        seeds = [seed] if isinstance(seed, int) else list(seed)
        if len(seeds) != len(priors):
            raise InputError(f"{len(seeds)} seeds for {len(priors)} cases", hint="give one seed, or one per case")
        settings: dict[str, Any] = {"frames": frames, "es_index": es_index, "steps": steps, "guidance": guidance}
        settings |= {"max_attempts": max_attempts, "match_volumes": match_volumes, **_under_new_names(renamed)}
        requests = [Request(p, s, **settings) for p, s in zip(priors, seeds, strict=True)]
        cines = list(self.generate(requests, callback))
        return cines[0] if isinstance(prior, ClinicalPrior) else cines

    def generate(self, requests: Sequence[Request], callback: ProgressCallback = no_progress) -> Iterator[Cine]:
        """Yield the cases in order, each computed when it is asked for.

        All requests are checked before the first case is computed. ``callback`` is as in `__call__`; an exception that
        it raises ends the generation. Raises `InputError` if the weights do not support a request.
        """
        for plan in [self.plan(request) for request in requests]:
            yield self._case(plan, callback)

    def plan(self, request: Request, attempt: int = 0, *, complete: bool = True) -> Plan:
        """The open choices of a request, made as `Planner.plan` does it."""
        return self.planner.plan(request, attempt, complete=complete)

    @torch.inference_mode()
    def _case(self, plan: Plan, callback: ProgressCallback) -> Cine:
        progress = self.sampler.progress(plan, callback)

        @cache
        def plan_of(attempt: int) -> Plan:
            return self.plan(plan.request, attempt) if attempt else plan

        def anatomy_of(attempt: int) -> Plan:
            return plan_of(attempt).anatomy or plan_of(attempt)  # a counterfactual samples another request's anatomy

        def sample(attempt: int) -> Candidate:
            return self.sampler.anatomy(anatomy_of(attempt), attempt, progress=progress)

        def finish(drawn: Candidate) -> Candidate:
            anatomy = self.sampler.matched(anatomy_of(drawn.attempt), drawn, progress)
            reasons = (each.reject_reason(anatomy.image[0], anatomy.label[0]) for each in self.duplicate_filters)
            return replace(anatomy, rejected=next(filter(None, reasons), ""))

        kept, candidates = rejection_sample(anatomy_of(0).request.max_attempts, sample, finish)
        if plan.request.frame is not None:
            kept = self._with_frame(kept, plan.request.frame)
        return self.add_motion(plan_of(kept.attempt), kept, candidates, progress)

    def _with_frame(self, anatomy: Candidate, frame: KeptFrame) -> Candidate:
        """``anatomy`` with the image and label of its case; `InputError` if it has become another heart."""
        label = anatomy.label[0]
        heart = np.count_nonzero((label > 0) | (frame.label > 0))
        changed = np.count_nonzero(label != frame.label) / max(int(heart), 1)
        if changed > MAX_CHANGED:
            raise InputError(
                f"the latent of the kept anatomy was computed again, and {100 * changed:.0f} % of its heart differ",
                hint=f"generate where the case was made: {frame.made_on}",
            )
        verdicts = judge_anatomy(frame.label, self.sampler.voxel_ml)
        return replace(anatomy, image=frame.image[None], label=frame.label[None], verdicts=verdicts)

    @torch.inference_mode()
    def add_motion(self, plan: Plan, anatomy: Candidate, anatomies: Sequence[Candidate], progress: Progress) -> Cine:
        """The case of an anatomy that was kept of several candidates: its motion, and how both were sampled."""
        sample = partial(self.sampler.motion, plan, anatomy, progress=progress)
        motion, motions = rejection_sample(plan.request.max_attempts, sample)
        if len(motion.label) < len(plan.phases):
            motion = sample(motion.attempt, all_frames=True)
        accepted = anatomy.verdicts.accepted and motion.verdicts.accepted
        stages = {"anatomy": acceptance_json(anatomy, anatomies), "motion": acceptance_json(motion, motions)}
        return Cine(
            image=motion.image,
            label=motion.label,
            affine=np.diag([*self.grid.spacing_mm, 1.0]),  # no scanner frame
            frame_time_ms=plan.frame_time_ms,
            ed_index=0,
            es_index=plan.es_index,
            prior=plan.request.prior,
            seed=plan.request.seed,
            provenance={
                **self._provenance(plan),
                **model_record(self.bundle, self.bundle_sha256, self.device),
                **self.filter_record,
                "acceptance": {"accepted": accepted, **stages},
            },
        )

    def _provenance(self, plan: Plan) -> dict[str, object]:
        """What is needed to generate a case again, beside the weights."""
        request, sampling = plan.request, {}
        for name in ("anatomy_diffusion", "motion_diffusion"):
            model = getattr(self.bundle.config, name).diffusion
            guidance = model.guidance if request.guidance is None else request.guidance
            steps = request.steps or model.sampling_steps
            sampling[name] = {"objective": model.objective, "steps": steps, "guidance": guidance}
        return {
            "synthetic": True,
            "request": request.to_json(),
            "slices": int(plan.prior.slices or 0),
            "drawn_conditions": drawn_conditions(plan),
            "slices_from": "request" if request.prior.slices is not None else "empirical prior",
            "es_index_from": "request" if request.es_index is not None else "empirical prior",
            **({} if request.frame is None else {"ed_frame_from": dict(request.frame.files)}),
            "sampling": sampling,
        }


def model_record(bundle: Bundle, sha256: str, device: torch.device) -> dict[str, object]:
    """For anything that a model makes: weights (``sha256`` of the index), their terms, libraries and the machine."""
    terms = {key: bundle.info[key] for key in LICENCE_KEYS if key in bundle.info}
    own = {"cinesynth": cinesynth.__version__}
    return {
        "weights": {"preset": bundle.config.preset, "sha256": sha256, **terms},
        "versions": own | package_versions(("torch", "numpy")) | {"python": platform.python_version()},
        # Precision and number of threads may change the last bits of a result.
        "machine": {"device": device.type, "precision": bundle.precision, "threads": torch.get_num_threads()},
    }


def default_device() -> str:
    """The CUDA device of ``LOCAL_RANK`` (0 where it is not set), or the CPU; `InputError` if it is no whole number."""
    if not torch.cuda.is_available():
        return "cpu"
    rank = os.environ.get("LOCAL_RANK", "0")
    if not (rank.isascii() and rank.isdigit()):
        raise InputError(
            f"the environment variable LOCAL_RANK is {rank[:40]!r}, expected a whole number", hint="correct or unset it"
        )
    return f"cuda:{int(rank) % torch.cuda.device_count()}"


def _under_new_names(renamed: Mapping[str, Any]) -> dict[str, Any]:
    settings = {}
    for name, value in renamed.items():
        if name not in RENAMED_REQUEST_KEYS:
            raise TypeError(f"unexpected keyword argument {name!r}")
        new = RENAMED_REQUEST_KEYS[name]
        warnings.warn(f"{name} is now called {new}; the old name will be removed", DeprecationWarning, stacklevel=3)
        settings[new] = value
    return settings
