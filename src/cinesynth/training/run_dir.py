"""A run's folder: its resolved config, what it was trained on, in which environment; one run, one of each."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from datetime import datetime, timezone
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from cinesynth import __version__
from cinesynth.config import Config, dump_config, load_config
from cinesynth.errors import ConfigError, DataError
from cinesynth.io.files import make_folder, write_text
from cinesynth.weights.folder import read_json

PACKAGES = ("torch", "numpy", "diffusers", "accelerate", "monai", "nibabel", "h5py", "safetensors")


class RunDir:
    """Opens or makes a run; refuses to go on with another config or other data."""

    def __init__(self, path: Path, config: Config, data_hash: str) -> None:
        self.path = make_folder(path)
        self._check("config.yaml", config)
        self._check_data(data_hash)
        if not (path / "config.yaml").exists():
            write_text(path / "config.yaml", dump_config(config))
            write_text(path / "data.json", json.dumps({"data_hash": data_hash}))

    def _check(self, name: str, config: Config) -> None:
        saved = self.path / name
        if not saved.is_file():
            return
        before, now = _leaves(load_config(str(saved)).model_dump()), _leaves(config.model_dump())
        changed = sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key))
        if changed:
            lines = [f"{key}: {before.get(key)} in the run, {now.get(key)} now" for key in changed[:8]]
            raise ConfigError(
                f"{self.path} was started with other settings\n" + "\n".join(lines),
                hint="give the same settings, or another --run",
            )

    def _check_data(self, data_hash: str) -> None:
        saved = self.path / "data.json"
        if saved.is_file() and read_json(saved, f"run {self.path}").get("data_hash") != data_hash:
            raise DataError(f"{self.path} was started on other data", hint="give the same --data, or another --run")

    def check_start(self, stage: str, started: dict[str, Any]) -> None:
        """Remember which weights a stage starts from; `ConfigError` where it was begun from others."""
        saved = make_folder(self.path / stage) / "start.json"
        if not saved.is_file():
            write_text(saved, json.dumps(started))
        elif (before := read_json(saved, f"stage {stage} of {self.path}")) != started:
            names = [str(x.get("started_from", "nothing"))[:12] for x in (before, started)]
            raise ConfigError(
                f"{stage} of {self.path} was begun from {names[0]}, now it should start from {names[1]}",
                hint="give the same --initial, or another --run",
            )

    def record_environment(self, stage: str) -> dict[str, Any]:
        """Append what this invocation runs in to ``environment.jsonl``; returns it."""
        environment = describe_environment() | {"stage": stage}
        with (self.path / "environment.jsonl").open("a") as stream:
            stream.write(json.dumps(environment) + "\n")
        return environment


def describe_environment() -> dict[str, Any]:
    """Versions, machine, git revision and command of this process."""
    return {
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "cinesynth": __version__,
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "platform": platform.platform(),
        "processor": f"{os.cpu_count()} cores, {torch.backends.cpu.get_cpu_capability()}",
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "git_revision": git_revision(),
        "command": " ".join(_without_folders(argument) for argument in sys.argv),
    }


@cache
def git_revision() -> str:
    """Revision of the checkout that this process was started from, ``+`` for local changes; "unknown" outside one."""
    folder = Path(__file__).parent
    try:
        revision = _git(folder, "rev-parse", "HEAD")
        return revision + ("+" if _git(folder, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _without_folders(argument: str) -> str:
    """An argument that may travel with weights: of a path only its last part."""
    return Path(argument).name if os.sep in argument else argument


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"


def _leaves(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            leaves |= _leaves(value, f"{prefix}{key}.")
        else:
            leaves[f"{prefix}{key}"] = value
    return leaves
