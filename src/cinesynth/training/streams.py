"""Randomness by address: every draw is a function of (seed, purpose, step, index), never of what was drawn before.

A resumed run, or one on another number of processes, therefore sees the same samples, crops and noise.
"""

from __future__ import annotations

import hashlib

import torch


def stream(seed: int, *address: str | int) -> torch.Generator:
    """A generator that belongs to one address."""
    text = "/".join(str(part) for part in (seed, *address))
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)


def uniform(generator: torch.Generator, low: float = 0.0, high: float = 1.0) -> float:
    """One number in [low, high)."""
    return low + (high - low) * float(torch.rand((), generator=generator))
