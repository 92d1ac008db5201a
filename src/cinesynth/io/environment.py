"""The environment record: the code, libraries and machine that produced a result."""

from __future__ import annotations

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

from cinesynth import __version__


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
        "command": " ".join(_without_folders(argument) for argument in sys.argv),
    }


def package_versions(packages: Sequence[str]) -> dict[str, str]:
    """The installed version of each package, or "not installed"."""
    return {name: _version(name) for name in packages}


@cache
def git_revision() -> str:
    """Git revision of the code, with ``+`` if it has local changes; "unknown" outside a checkout."""
    folder = Path(__file__).parent
    try:
        revision = _git(folder, "rev-parse", "HEAD")
        return revision + ("+" if _git(folder, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _without_folders(argument: str) -> str:
    """A command-line argument as it may be published with weights: paths are cut to their last part."""
    return Path(argument).name if os.sep in argument else argument


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
