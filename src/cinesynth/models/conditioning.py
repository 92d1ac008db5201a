"""Clinical priors as tensors, and tensors as embeddings. "Unknown" is a learned token, never a number."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from cinesynth.types import UNCONDITIONAL, ClinicalPrior, Diagnosis

DIAGNOSES = tuple(Diagnosis)
SCALES = {"lv_edv_ml": 600.0, "lv_esv_ml": 600.0, "ef_percent": 100.0, "slices": 20.0}
"""What each condition is divided by (paper, section 2.3). The EF is derived from the two volumes."""
FREQUENCIES = 8


@dataclass(frozen=True)
class Conditions:
    """Conditions of ``B`` cases."""

    diagnosis: Tensor  # B, index into DIAGNOSES
    values: Tensor  # B 4, scaled; 0 where unknown
    known: Tensor  # B 4, booleans
    phase: Tensor | None = None  # B, for the per-frame motion model

    def __len__(self) -> int:
        return len(self.diagnosis)

    def at_phase(self, phase: Tensor) -> Conditions:
        """The same conditions at a cardiac phase each (``B``)."""
        return replace(self, phase=phase)

    def repeat(self, times: int) -> Conditions:
        """Each case ``times`` times in a row."""
        return replace(
            self,
            diagnosis=self.diagnosis.repeat_interleave(times, 0),
            values=self.values.repeat_interleave(times, 0),
            known=self.known.repeat_interleave(times, 0),
        )

    def unconditional(self) -> Conditions:
        """As many cases with nothing known; the phase, which is not a clinical condition, stays."""
        null = encode_priors([UNCONDITIONAL]).to(self.values.device)
        return replace(null.repeat(len(self)), phase=self.phase)

    def and_unconditional(self) -> Conditions:
        """These cases, then as many with nothing known: a guided step in one batch."""
        null = self.unconditional()
        phase = None if self.phase is None or null.phase is None else torch.cat([self.phase, null.phase])
        return Conditions(
            torch.cat([self.diagnosis, null.diagnosis]),
            torch.cat([self.values, null.values]),
            torch.cat([self.known, null.known]),
            phase,
        )

    def to(self, device: torch.device | str) -> Conditions:
        """The same on another device."""
        return Conditions(
            self.diagnosis.to(device),
            self.values.to(device),
            self.known.to(device),
            None if self.phase is None else self.phase.to(device),
        )


def encode_priors(priors: Sequence[ClinicalPrior]) -> Conditions:
    """Tensors of clinical priors; the one place where a prior becomes numbers."""
    fields = [[getattr(prior, name) for name in SCALES] for prior in priors]
    scales = list(SCALES.values())
    values = [[0.0 if v is None else v / s for v, s in zip(row, scales, strict=True)] for row in fields]
    return Conditions(
        torch.tensor([DIAGNOSES.index(prior.diagnosis) for prior in priors]),
        torch.tensor(values, dtype=torch.float32).reshape(len(priors), len(scales)),
        torch.tensor([[v is not None for v in row] for row in fields]).reshape(len(priors), len(scales)),
    )


def drop(prior: ClinicalPrior, uniforms: Sequence[float], case: float, field: float) -> ClinicalPrior:
    """Forget a prior as training does: all of it with probability ``case``, each field with ``field``.

    ``uniforms`` are five numbers in [0, 1): one for the case, then diagnosis, EDV, ESV, slices.
    """
    if uniforms[0] < case:
        return UNCONDITIONAL
    forget = [u < field for u in uniforms[1:]]
    return ClinicalPrior(
        Diagnosis.UNKNOWN if forget[0] else prior.diagnosis,
        None if forget[1] else prior.lv_edv_ml,
        None if forget[2] else prior.lv_esv_ml,
        None if forget[3] else prior.slices,
    )


def fourier(x: Tensor, frequencies: int) -> Tensor:
    """Sines and cosines of ``x`` (``...``) at octaves from one period over [0, 2]: ``... 2F``."""
    angle = x[..., None] * (math.pi * 2.0 ** torch.arange(frequencies, device=x.device, dtype=x.dtype))
    return torch.cat([angle.sin(), angle.cos()], dim=-1)


class ClinicalEmbedding(nn.Module):
    """Conditions to one vector a case, ``B W``."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.diagnosis = nn.Embedding(len(DIAGNOSES), width)
        self.values = nn.ModuleList(nn.Linear(2 * FREQUENCIES + 1, width) for _ in SCALES)
        self.unknown = nn.Parameter(torch.randn(len(SCALES), width) * 0.02)
        self.out = nn.Sequential(nn.SiLU(), nn.Linear(width, width))

    def forward(self, conditions: Conditions) -> Tensor:
        total = self.diagnosis(conditions.diagnosis)
        values = conditions.values
        features = torch.cat([values[..., None], fourier(values, FREQUENCIES)], dim=-1)  # B 4 (2F + 1)
        for index, layer in enumerate(self.values):
            known = conditions.known[:, index, None]
            total = total + torch.where(known, layer(features[:, index]), self.unknown[index])
        out: Tensor = self.out(total)
        return out


class ScalarEmbedding(nn.Module):
    """A time or a phase to a vector, ``B`` to ``B W``."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2 * FREQUENCIES + 1, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.net(torch.cat([x[:, None], fourier(x, FREQUENCIES)], dim=-1))
        return out
