"""Names of settings and files in cinesynth 0.1, so that files written then can still be opened and resumed.

The three stages after the VAE were called ``motion``, ``anatomy`` and ``dynamics``. `RENAMED_STAGES` is the only table;
the functions apply it to a tree of settings, a key, a file or a folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cinesynth.io.files import with_either_name

RENAMED_STAGES = {"motion": "residual_motion", "anatomy": "anatomy_diffusion", "dynamics": "motion_diffusion"}
"""Old name of a stage, then its name today. No old name is the name of another stage today."""
ORIGINAL_NAMES = {new: old for old, new in RENAMED_STAGES.items()}


def original_name(stage: str) -> str:
    """The name that a stage had first.

    Hashes and random streams are made of it, so that a renaming changes no random number and no cached result.
    """
    return ORIGINAL_NAMES.get(stage, stage)


def migrate_settings(tree: Mapping[str, Any]) -> dict[str, Any]:
    """A tree of settings under today's names; current keys are left as they are."""
    return _renamed(tree, RENAMED_STAGES)


def original_settings(tree: Mapping[str, Any]) -> dict[str, Any]:
    """A tree of settings under its original names, in the same order: what hashes of settings are made of.

    Settings that came later are left out where they change nothing.
    """
    old = _renamed(tree, ORIGINAL_NAMES)
    training = old.get("training")
    if isinstance(training, dict) and training.get("texture") is None:
        old = {key: value for key, value in old.items() if key != "texture"}
        old["training"] = {key: value for key, value in training.items() if key != "texture"}
    return old


def migrate_key(path: str) -> str:
    """The dotted path of a setting under today's names: ``training.motion.steps`` to its new name."""
    section, dot, rest = path.partition(".")
    if section == "training":
        name, more, leaf = rest.partition(".")
        return f"training{dot}{RENAMED_STAGES.get(name, name)}{more}{leaf}"
    return f"{RENAMED_STAGES.get(section, section)}{dot}{rest}"


def migrate_stage(record: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON of a finished stage under today's names: its own, its parents' and those of its settings."""
    migrated = dict(record)
    if isinstance(stage := record.get("stage"), str):
        migrated["stage"] = RENAMED_STAGES.get(stage, stage)
    if isinstance(parents := record.get("parents"), dict):
        migrated["parents"] = {RENAMED_STAGES.get(name, name): sha for name, sha in parents.items()}
    if isinstance(config := record.get("config"), dict):
        migrated["config"] = migrate_settings(config)
    return migrated


def stage_path(folder: Path, stage: str, suffix: str = "") -> Path:
    """A stage's file in ``folder``, or without ``suffix`` its folder; under the old name where only that exists."""
    return with_either_name(folder / f"{stage}{suffix}", folder / f"{original_name(stage)}{suffix}")


def rename_keys(values: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """``values`` with every key that ``names`` holds under its new name."""
    return {names.get(key, key): value for key, value in values.items()}


def _renamed(tree: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """``tree`` with the stages at its top and under ``training`` renamed."""

    def rename(level: Mapping[str, Any]) -> dict[str, Any]:
        # A stage given under both names keeps both keys: validation then refuses the unknown one.
        return {new if (new := names.get(key, key)) not in level else key: value for key, value in level.items()}

    renamed = rename(tree)
    if isinstance(training := renamed.get("training"), dict):
        renamed["training"] = rename(training)
    return renamed
