"""The folder of a run: one resolved config, one dataset, and the environments that it was trained in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cinesynth.config import Config, dump_config, load_config
from cinesynth.config.migration import stage_path
from cinesynth.errors import ConfigError, DataError
from cinesynth.io.files import make_folder, write_text
from cinesynth.io.reproducibility import describe_environment
from cinesynth.weights.folder import read_json

PACKAGES = ("torch", "numpy", "diffusers", "accelerate", "monai", "nibabel", "h5py", "safetensors")
"""Libraries whose versions are recorded with a run."""


class RunDir:
    """Opens or makes the folder of a run; refuses to resume it with other settings or other data."""

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
                hint="use the same settings, or another --run",
            )

    def _check_data(self, data_hash: str) -> None:
        saved = self.path / "data.json"
        if saved.is_file() and read_json(saved, f"run {self.path}").get("data_hash") != data_hash:
            raise DataError(f"{self.path} was started on other data", hint="use the same dataset, or another --run")

    def check_start(self, stage: str, started: dict[str, Any]) -> None:
        """Record which weights a stage starts from; raises `ConfigError` if it was begun from others."""
        saved = make_folder(stage_path(self.path, stage)) / "start.json"
        if not saved.is_file():
            write_text(saved, json.dumps(started))
        elif (before := read_json(saved, f"stage {stage} of {self.path}")) != started:
            names = [str(x.get("started_from", "nothing"))[:12] for x in (before, started)]
            raise ConfigError(
                f"{stage} of {self.path} was begun from {names[0]}, now it should start from {names[1]}",
                hint="use the same --initial, or another --run",
            )

    def record_environment(self, stage: str) -> dict[str, Any]:
        """Append the environment of this invocation to ``environment.jsonl``; returns it."""
        environment = describe_environment(PACKAGES) | {"stage": stage}
        with (self.path / "environment.jsonl").open("a") as stream:
            stream.write(json.dumps(environment) + "\n")
        return environment


def _leaves(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            leaves |= _leaves(value, f"{prefix}{key}.")
        else:
            leaves[f"{prefix}{key}"] = value
    return leaves
