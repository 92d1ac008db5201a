"""Clinical priors as tensors, and their embeddings. "Unknown" is a learned token, never a number."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from cinesynth.config import Config
from cinesynth.types import CORE_CONDITIONS, UNCONDITIONAL, ClinicalPrior, Diagnosis, PerCase, Vectors

DIAGNOSES = tuple(Diagnosis)
SCALES = {
    "lv_edv_ml": 600.0,
    "lv_esv_ml": 600.0,
    "ef_percent": 100.0,
    "slices": 20.0,
    "rv_edv_ml": 600.0,
    "rv_esv_ml": 600.0,
    "myo_mass_g": 600.0,
}
"""Divisor of each numeric condition (the first four: paper, section 2.3), in the order of the network's layers."""
FREQUENCIES = 8
"""Octaves of the Fourier features of a number."""


@dataclass(frozen=True)
class ConditionSet:
    """The conditions of a model, and the vendors that it can tell apart."""

    names: Sequence[str] = CORE_CONDITIONS
    vendors: Sequence[str] = ()

    @classmethod
    def of(cls, config: Config) -> ConditionSet:
        """The conditions of the diffusion models of a config."""
        return cls(config.conditions, config.vendors)

    @property
    def numbers(self) -> tuple[str, ...]:
        """The numeric conditions in the order of `SCALES`, the EF with them: it follows from the volumes of the LV."""
        return tuple(name for name in SCALES if name in self.names or name == "ef_percent")

    def vendor_index(self, vendor: str | None) -> int:
        """One-based position of a vendor (case does not matter) among the known ones; 0 is unknown."""
        known = [name.casefold() for name in self.vendors]
        name = (vendor or "").strip().casefold()
        return known.index(name) + 1 if name in known else 0


CORE = ConditionSet()


@dataclass(frozen=True)
class Conditions:
    """Conditions of ``B`` cases; ``N`` numbers of a `ConditionSet`."""

    diagnosis: Tensor  # B, index into DIAGNOSES
    values: Tensor  # B N, scaled; 0 where unknown
    known: Tensor  # B N, booleans
    vendor: Tensor  # B, 0 unknown, else 1 + index into the vendors
    phase: Tensor | None = None  # B, for the per-frame motion model

    def at_phase(self, phase: PerCase) -> Conditions:
        """The same conditions, each case at a cardiac phase of its own."""
        return replace(self, phase=phase)

    def repeat(self, times: int) -> Conditions:
        """Each case ``times`` times in a row."""
        return self._each(lambda _, field: field.repeat_interleave(times, 0))

    def unconditional(self) -> Conditions:
        """The same number of cases with nothing known. The phase stays: it is no clinical condition."""
        unknown = self._each(lambda _, field: torch.zeros_like(field))  # nothing known, vendor 0
        diagnosis = torch.full_like(self.diagnosis, DIAGNOSES.index(UNCONDITIONAL.diagnosis))
        return replace(unknown, diagnosis=diagnosis, phase=self.phase)

    def and_unconditional(self) -> Conditions:
        """These cases, then the same with nothing known: the batch of a guided step."""
        null = self.unconditional()
        return self._each(lambda name, field: torch.cat([field, getattr(null, name)]))

    def to(self, device: torch.device | str) -> Conditions:
        """The same conditions on another device."""
        return self._each(lambda _, field: field.to(device))

    def _each(self, change: Callable[[str, Tensor], Tensor]) -> Conditions:
        fields = {name: change(name, field) for name, field in vars(self).items() if field is not None}
        return Conditions(**fields)


def encode_priors(priors: Sequence[ClinicalPrior], condition_set: ConditionSet = CORE) -> Conditions:
    """Clinical priors as tensors of the conditions in ``condition_set``; only here do they become numbers."""
    fields = [[getattr(prior, name) for name in condition_set.numbers] for prior in priors]
    scales = [SCALES[name] for name in condition_set.numbers]
    values = [[0.0 if v is None else v / s for v, s in zip(row, scales, strict=True)] for row in fields]
    return Conditions(
        torch.tensor([DIAGNOSES.index(prior.diagnosis) for prior in priors]),
        torch.tensor(values, dtype=torch.float32).reshape(len(priors), len(scales)),
        torch.tensor([[v is not None for v in row] for row in fields]).reshape(len(priors), len(scales)),
        torch.tensor([condition_set.vendor_index(prior.vendor) for prior in priors]),
    )


def drop(
    prior: ClinicalPrior, uniforms: Sequence[float], p_all: float, p_each: float, names: Sequence[str] = CORE_CONDITIONS
) -> ClinicalPrior:
    """Condition dropout: with probability ``p_all`` drop all, otherwise each of ``names`` with probability ``p_each``.

    ``uniforms`` are numbers in [0, 1): one for the case, then one for each of ``names``.
    """
    if uniforms[0] < p_all:
        return UNCONDITIONAL
    unknown = {name: getattr(UNCONDITIONAL, name) for name, u in zip(names, uniforms[1:], strict=True) if u < p_each}
    return replace(prior, **unknown)


def fourier(x: Tensor) -> Tensor:
    """``x`` (``...``) with its sines and cosines in octaves, the slowest with one period over [0, 2]: ``... 2F+1``."""
    angle = x[..., None] * (math.pi * 2.0 ** torch.arange(FREQUENCIES, device=x.device, dtype=x.dtype))
    return torch.cat([x[..., None], angle.sin(), angle.cos()], dim=-1)


class ClinicalEmbedding(nn.Module):
    """Conditions to one vector a case: the sum of one vector for each condition."""

    def __init__(self, width: int, condition_set: ConditionSet = CORE) -> None:
        super().__init__()
        self.diagnosis = nn.Embedding(len(DIAGNOSES), width)
        self.values = nn.ModuleList(nn.Linear(2 * FREQUENCIES + 1, width) for _ in condition_set.numbers)
        self.unknown = nn.Parameter(torch.randn(len(condition_set.numbers), width) * 0.02)
        self.out = nn.Sequential(nn.SiLU(), nn.Linear(width, width))
        self.vendor = nn.Embedding(1 + len(condition_set.vendors), width) if "vendor" in condition_set.names else None

    def forward(self, conditions: Conditions) -> Vectors:
        total = self.diagnosis(conditions.diagnosis)
        features = fourier(conditions.values)  # B N 2F+1
        for index, layer in enumerate(self.values):
            # The value under an unknown condition has no influence, not even through its gradient.
            known = conditions.known[:, index, None]
            total = total + torch.where(known, layer(features[:, index]), self.unknown[index])
        if self.vendor is not None:
            total = total + self.vendor(conditions.vendor)
        out: Tensor = self.out(total)
        return out


class ScalarEmbedding(nn.Module):
    """A time or a phase to a vector."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2 * FREQUENCIES + 1, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, x: PerCase) -> Vectors:
        out: Tensor = self.net(fourier(x))
        return out
