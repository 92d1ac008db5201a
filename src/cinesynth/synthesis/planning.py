"""Plans: a request with every choice made that it leaves open, from the training subjects of the weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from cinesynth.data.geometry import Grid, slice_mask
from cinesynth.data.normalisation import frame_phases
from cinesynth.io.reproducibility import derive
from cinesynth.models.conditioning import Conditions, ConditionSet, encode_priors
from cinesynth.synthesis.request import Request
from cinesynth.types import CONDITIONS, ClinicalPrior
from cinesynth.weights.folder import Bundle
from cinesynth.weights.prior import EmpiricalPrior
from cinesynth.weights.registry import check_supported


@dataclass(frozen=True)
class Plan:
    """A request with every open choice made."""

    request: Request
    prior: ClinicalPrior  # what the networks are given: the request, completed as training subjects are
    es_index: int
    frame_time_ms: float
    phases: Tensor  # T
    slice_mask: Tensor  # 1 Z, the slices that the networks compute
    conditions: Conditions  # of one case
    anatomy: Plan | None = None  # the plan that the anatomy is sampled by, where another case's anatomy is kept


class Planner:
    """Makes plans for the weights of a bundle."""

    def __init__(self, bundle: Bundle, device: torch.device) -> None:
        self.bundle, self.device = bundle, device
        self.grid = Grid.from_config(bundle.config.grid)
        self.prior = EmpiricalPrior.from_json(bundle.prior)
        self.condition_set = ConditionSet.of(bundle.config)

    def check(self, prior: ClinicalPrior) -> None:
        """`InputError` if the weights do not support a condition of ``prior``."""
        check_supported(prior, self.condition_set, self.prior)

    def plan(self, request: Request, attempt: int = 0, *, complete: bool = True) -> Plan:
        """Make the open choices of a request; `InputError` if the weights or their grid do not support it.

        The networks are given conditions that the request leaves open as training subjects have them beside what it
        states, in each ``attempt`` at an anatomy others, but the number of slices; unless ``complete`` is set, they are
        not given them. Only requested volumes are matched.
        """
        self.check(request.prior)
        kept = None if request.anatomy is None else self.plan(request.anatomy, attempt)
        asked = request.prior if kept is None else _of_anatomy(request.prior, kept.prior)
        names: Sequence[str] = self.condition_set.names if complete else ()
        prior = self.prior.complete(asked, derive(request.seed, "slices"), names)
        if attempt and complete:
            asked = replace(asked, slices=prior.slices)
            prior = self.prior.complete(asked, derive(request.seed, "conditions", attempt), names)
        if prior.vendor != asked.vendor and not self.condition_set.vendor_index(prior.vendor):
            prior = replace(prior, vendor=None)  # a vendor of training subjects that the networks cannot tell apart
        assert prior.slices is not None
        acquired = slice_mask(prior.slices, self.grid.size[2])  # Z of the grid
        computed = acquired[acquired] if self._may_crop() else acquired
        es_index = request.es_index
        if es_index is None:
            es_index = self.prior.es_index(prior.diagnosis, request.frames, derive(request.seed, "systole"))
        return Plan(
            request=request,
            prior=prior,
            es_index=es_index,
            frame_time_ms=self.prior.frame_time_ms(prior.diagnosis, request.frames),
            phases=torch.from_numpy(frame_phases(request.frames, es_index)),
            slice_mask=torch.from_numpy(computed)[None].to(self.device),  # 1 Z
            conditions=encode_priors([prior], self.condition_set).to(self.device),
            anatomy=kept,
        )

    def _may_crop(self) -> bool:
        # Group normalisation averages over all slices, so there the ones that are not acquired change the others.
        config = self.bundle.config
        networks = (config.vae, config.anatomy_diffusion.denoiser, config.motion_diffusion.denoiser)
        return all(network.norm == "layer" for network in networks)


def _of_anatomy(asked: ClinicalPrior, anatomy: ClinicalPrior) -> ClinicalPrior:
    """``asked`` with what it leaves open of the heart at ED, and the vendor, as its kept anatomy has them."""
    same = ("slices", "lv_edv_ml", "rv_edv_ml", "myo_mass_g", "vendor")
    open_: dict[str, Any] = {name: getattr(anatomy, name) for name in same if getattr(asked, name) is None}
    return replace(asked, **open_)


def drawn_conditions(plan: Plan) -> dict[str, object]:
    """The conditions that the networks were given and the request left open."""
    asked, given = plan.request.prior, plan.prior
    return {n: getattr(given, n) for n in CONDITIONS if n != "slices" and getattr(given, n) != getattr(asked, n)}
