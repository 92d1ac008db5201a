"""The weights that can be used by name: what each is, where it is, what it was trained with, and its scores."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cinesynth.config import parse_config
from cinesynth.errors import InputError, WeightsError
from cinesynth.io.files import file_sha256, write_text
from cinesynth.models.conditioning import ConditionSet
from cinesynth.types import FURTHER_CONDITIONS, ClinicalPrior
from cinesynth.weights.comparison import migrated_scores
from cinesynth.weights.folder import stage_info
from cinesynth.weights.locate import (
    INDEX,
    SCORES,
    bundle_sha256,
    find_bundle,
    index_text,
    known_bundles,
    read_index,
    read_json,
    shipped_bundles,
)


@dataclass(frozen=True)
class RegisteredWeights:
    """One weights folder; if ``problem`` says why it cannot be used, the fields after it are empty."""

    name: str
    folder: Path
    default: bool
    problem: str = ""
    preset: str = ""
    size: tuple[int, ...] = ()  # voxels X Y Z
    spacing_mm: tuple[float, ...] = ()
    mib: float = 0.0
    trained_on: tuple[tuple[str, int], ...] = ()
    licence: str = ""
    scores: dict[str, Any] | None = None


def list_weights() -> tuple[list[RegisteredWeights], str]:
    """All weights that ship or were chosen, and why the default cannot be used (empty if it can)."""
    bundles, default, problem = known_bundles(), None, ""
    try:
        default = find_bundle()
    except WeightsError as error:
        problem = str(error)
    if default is not None and default.resolve() not in {folder.resolve() for folder in bundles.values()}:
        bundles[str(default)] = default
    return [
        _entry(name, folder, default is not None and folder.resolve() == default.resolve())
        for name, folder in bundles.items()
    ], problem


def _entry(name: str, folder: Path, default: bool) -> RegisteredWeights:
    try:
        index = read_index(folder)
        grid = stage_info(folder, "vae")["config"]["grid"]
        sizes = [(folder / file).stat().st_size for file in index["files"]]
        scores = recorded_scores(folder)
        return RegisteredWeights(
            name,
            folder,
            default,
            "",
            str(index.get("preset", "unknown")),
            tuple(grid["size"]),
            tuple(grid["spacing_mm"]),
            (sum(sizes) + (folder / INDEX).stat().st_size) / 2**20,
            tuple(index.get("datasets", {}).items()),
            str(index.get("licence", "unknown")),
            scores,
        )
    except (WeightsError, OSError, KeyError, TypeError) as error:
        message = error.message if isinstance(error, WeightsError) else repr(error)
        return RegisteredWeights(name, folder, default, message)


def shipped_with(condition: str) -> list[str]:
    """Names of the shipped weights that were trained with a condition."""
    configs = {
        name: parse_config(stage_info(folder, "motion_diffusion")["config"])
        for name, folder in shipped_bundles().items()
    }
    return [name for name, config in configs.items() if condition in config.conditions]


# --- Recorded scores -------------------------------------------------------------------------------------------------


SCORES_FILE = "scores.json"


def record_scores(folder: Path, scores: dict[str, Any]) -> Path:
    """Write ``scores`` into the weights folder that they describe; returns the file.

    `WeightsError` if they describe other weights, or the index was not written by `cinesynth bundle`.
    """
    before, found = bundle_sha256(folder), scores.get("metadata", {}).get("weights")
    if found != before:
        raise WeightsError(
            f"the scores describe weights {str(found)[:12]}..., but {folder} holds {before[:12]}...",
            hint=f"score these weights: cinesynth score --weights {folder}",
        )
    index, path = read_index(folder), folder / SCORES_FILE
    text = json.dumps(scores, indent=1)
    plain = index_text({key: value for key, value in index.items() if key != SCORES})
    if SCORES not in index and (folder / INDEX).read_text(encoding="utf-8") != plain:
        raise WeightsError(
            f"{folder / INDEX} is not formatted as `cinesynth bundle` writes it, so its SHA-256 would change",
            hint="bundle the weights again, then record the scores",
        )
    write_text(path, text)
    write_text(folder / INDEX, index_text({**index, SCORES: file_sha256(path)}))
    return path


def recorded_scores(folder: Path) -> dict[str, Any] | None:
    """The scores recorded in a weights folder, None if there are none; `WeightsError` if they were altered."""
    expected = read_index(folder).get(SCORES)
    if expected is None:
        return None
    path = folder / SCORES_FILE
    scores = read_json(path, f"the weights folder {folder}")
    if file_sha256(path) != expected:
        raise WeightsError(
            f"{path} was altered: its SHA-256 differs from the one in the index", hint="record the scores again"
        )
    return migrated_scores(scores)


# --- Which conditions weights support --------------------------------------------------------------------------------


CONDITION_NAMES = {
    "rv_edv_ml": "RV end-diastolic volume",
    "rv_esv_ml": "RV end-systolic volume",
    "myo_mass_g": "myocardial mass",
    "vendor": "vendor",
}


def check_supported(prior: ClinicalPrior, condition_set: ConditionSet) -> None:
    """`InputError` if ``prior`` specifies a condition or a vendor that is not in ``condition_set``."""
    for name in FURTHER_CONDITIONS:
        if getattr(prior, name) is not None and name not in condition_set.names:
            raise InputError(
                f"these weights were not trained with {CONDITION_NAMES[name]} ({name})", hint=_supporting(name)
            )
    if prior.vendor is not None and condition_set.vendor_index(prior.vendor) == 0:
        vendors = condition_set.vendors
        hint = f"one of {', '.join(vendors)}" if vendors else "leave it out: they were trained without vendors"
        raise InputError(f"vendor {prior.vendor!r} is not known to these weights", hint=hint)


def _supporting(name: str) -> str:
    knowing = shipped_with(name)
    if knowing:
        return f"leave it out, or use weights that support it: --weights {' or '.join(knowing)}"
    return f"leave it out, or train weights with {name} among the conditions: no shipped weights support it"
