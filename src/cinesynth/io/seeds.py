"""One seed a case: every random draw of a case has a seed of its own, told by its purpose and try."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor


def derive(seed: int, purpose: str, index: int = 0) -> int:
    """A 62-bit seed for one draw; other seeds, purposes and indices give unrelated ones on every machine."""
    digest = hashlib.blake2b(f"{seed}/{purpose}/{index}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 2


def case_seed(seed: int, case: int) -> int:
    """Seed of case number ``case`` of a cohort: 31 bits, short enough to type again."""
    return derive(seed, "case", case) >> 31


def noise(seed: int, purpose: str, attempt: int, shape: tuple[int, ...]) -> Tensor:
    """Standard normal noise of ``shape``, drawn on the CPU so that every device starts from the same."""
    generator = torch.Generator().manual_seed(derive(seed, purpose, attempt))
    return torch.randn(shape, generator=generator)


# --- Randomness by address -------------------------------------------------------------------------------------------


def stream(seed: int, *address: str | int) -> torch.Generator:
    """A generator that belongs to one address."""
    text = "/".join(str(part) for part in (seed, *address))
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)


def uniform(generator: torch.Generator, low: float = 0.0, high: float = 1.0) -> float:
    """One number in [low, high)."""
    return low + (high - low) * float(torch.rand((), generator=generator))
