"""Every setting, once: frozen, typed, with the unit in its name; unknown keys are errors that name their path.

`load_config` reads a preset (YAML), applies ``a.b=c`` overrides and returns the resolved tree, which is saved with each
run and beside the weights that it makes.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from cinesynth.config.migration import migrate_key, migrate_settings, original_settings
from cinesynth.config.schema import STAGES as STAGES
from cinesynth.config.schema import Config as Config
from cinesynth.errors import ConfigError


def presets() -> list[str]:
    """Names of the presets that ship with the package."""
    files = (resources.files("cinesynth") / "presets").iterdir()
    return sorted(f.name.removesuffix(".yaml") for f in files if f.name.endswith(".yaml"))


def load_config(preset: str, overrides: Iterable[str] = ()) -> Config:
    """The complete settings of a preset (a name or a path to a YAML file) with ``a.b=c`` overrides applied."""
    path = Path(preset)
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise ConfigError(f"there is no preset file {preset}", hint=f"presets with a name: {', '.join(presets())}")
        text = path.read_text()
    elif preset in presets():
        text = (resources.files("cinesynth") / "presets" / f"{preset}.yaml").read_text()
    else:
        raise ConfigError(f"unknown preset {preset!r}", hint=f"use one of {', '.join(presets())}, or a .yaml file")
    try:
        tree = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{preset} is not valid YAML: {error}") from None
    if not isinstance(tree, dict):
        raise ConfigError(f"{preset} holds no settings", hint="start from a copy of one of the presets")
    tree = migrate_settings(tree)
    for override in overrides:
        apply_override(tree, override)
    return parse_config(tree)


def parse_config(tree: dict[str, Any]) -> Config:
    """Validate a tree; each line of the `ConfigError` names the path of its key. Old names of stages are understood."""
    try:
        return Config.model_validate(migrate_settings(tree))
    except ValidationError as error:
        lines = [_explain(e["loc"], e["msg"], e["type"]) for e in error.errors()]
        hint = "list all keys with cinesynth train all --dry-run"
        raise ConfigError("\n".join(lines), hint=hint) from None


def dump_config(config: Config) -> str:
    """The complete settings as YAML."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


def hashed_settings(config: Config) -> str:
    """The text that stands for these settings in hashes: under the names that the stages had first.

    The names of cached runs and cohorts are made of it; under today's names they would all be made again.
    """
    return yaml.safe_dump(original_settings(config.model_dump(mode="json")), sort_keys=False)


def apply_override(tree: dict[str, Any], override: str) -> None:
    """Set one value of a tree of settings by ``a.b=c``; `ConfigError` if that is impossible."""
    path, equals, text = override.partition("=")
    if not equals or not path:
        raise ConfigError(f"--set {override!r} does not have the form a.b=c")
    *parents, last = migrate_key(path.strip()).split(".")
    node: Any = tree
    for key in parents:
        node = node.setdefault(key, {}) if isinstance(node, dict) else None
        if not isinstance(node, dict):
            raise ConfigError(f"--set {override}: {key} is a single value, it has no settings below it")
    try:
        node[last] = yaml.safe_load(text)
    except yaml.YAMLError:
        raise ConfigError(f"--set {override}: {text!r} is not a valid YAML value") from None


def _explain(location: tuple[int | str, ...], message: str, kind: str) -> str:
    path = ".".join(str(part) for part in location)
    if kind != "extra_forbidden":
        return f"{path or 'config'}: {message.removeprefix('Value error, ')}"
    node: Any = Config
    for part in location[:-1]:
        field = getattr(node, "model_fields", {}).get(str(part))
        node = field.annotation if field else None
    near = difflib.get_close_matches(str(location[-1]), getattr(node, "model_fields", {}), n=1, cutoff=0.5)
    return f"{path}: unknown key" + (f", did you mean {near[0]}?" if near else "")


def stages_of(config: Config) -> tuple[str, ...]:
    """The stages that ``train all`` trains."""
    further = ("decoder", "texture")
    return (*STAGES, *(stage for stage in further if getattr(config.training, stage) is not None))
