"""Seeds from text: every random draw has its own seed, given by what it is for, so that no draw depends on another."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor


def derive(seed: int, purpose: str, index: int = 0) -> int:
    """A 62-bit seed for one draw; another seed, purpose or index gives an unrelated one. Same on every machine."""
    return int.from_bytes(_digest(seed, purpose, index), "big") >> 2


def case_seed(seed: int, case: int) -> int:
    """Seed of case number ``case`` of a cohort: 31 bits, short enough to type again."""
    return derive(seed, "case", case) >> 31


def noise(seed: int, purpose: str, attempt: int, shape: tuple[int, ...]) -> Tensor:
    """Standard normal noise of ``shape``, drawn on the CPU so that every device starts from the same numbers."""
    generator = torch.Generator().manual_seed(derive(seed, purpose, attempt))
    return torch.randn(shape, generator=generator)


def stream(seed: int, *address: str | int) -> torch.Generator:
    """A generator seeded by an address such as ``"noise", step, case``: resuming at any step draws the same numbers."""
    # Another byte order and one more bit than `derive`: both are kept, since runs depend on them.
    return torch.Generator().manual_seed(int.from_bytes(_digest(seed, *address), "little") >> 1)


def uniform(generator: torch.Generator, low: float = 0.0, high: float = 1.0) -> float:
    """One number in [low, high)."""
    return low + (high - low) * float(torch.rand((), generator=generator))


def shuffle_key(text: str) -> str:
    """A sort key that shuffles names: the same on every machine, and independent of the other names."""
    return hashlib.sha256(text.encode()).hexdigest()


def _digest(*parts: str | int) -> bytes:
    return hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=8).digest()
