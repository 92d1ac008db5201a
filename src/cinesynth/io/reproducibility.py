"""What a result depends on: the seed of every random draw, and the record of code, libraries and machine."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from datetime import datetime, timezone
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cinesynth import __version__

# --- Seeds from text: every draw has its own, given by what it is for, so that no draw depends on another ------------


def derive(seed: int, purpose: str, index: int = 0) -> int:
    """A 62-bit seed for one draw; another seed, purpose or index gives an unrelated one. Same on every machine."""
    return int.from_bytes(_digest(seed, purpose, index), "big") >> 2


def case_seed(seed: int, case: int) -> int:
    """Seed of case number ``case`` of a cohort: 63 bits, so that no two of 100,000 cases share one."""
    return int.from_bytes(_digest(seed, "case", case), "big") >> 1


def is_short_seed(seed: int, of: int) -> bool:
    """Whether ``seed`` is the one that earlier versions gave the case whose seed is ``of``: its first 31 bits."""
    return seed == of >> 32


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


# --- The environment record ------------------------------------------------------------------------------------------


def describe_environment(packages: Sequence[str]) -> dict[str, Any]:
    """Time, versions of Python, cinesynth and ``packages``, machine, git revision and command of this process."""
    return {
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "cinesynth": __version__,
        "python": platform.python_version(),
        "packages": package_versions(packages),
        "platform": platform.platform(),
        "processor": f"{os.cpu_count()} cores, {torch.backends.cpu.get_cpu_capability()}",
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "git_revision": git_revision(),
        # paths are cut to their last part, as they may be published with weights
        "command": " ".join(Path(word).name if os.sep in word else word for word in sys.argv),
    }


def package_versions(packages: Sequence[str]) -> dict[str, str]:
    """The installed version of each package, or "not installed"."""
    found = {}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


@cache
def git_revision() -> str:
    """Git revision of the code, with ``+`` if it has local changes; "unknown" outside a checkout."""
    folder = Path(__file__).parent
    try:
        revision = _git(folder, "rev-parse", "HEAD")
        return revision + ("+" if _git(folder, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()
