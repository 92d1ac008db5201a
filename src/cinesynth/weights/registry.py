"""The weights that can be named here: what each is, where it lies, and which one is taken by default."""

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
from cinesynth.weights.comparison import migrated
from cinesynth.weights.folder import (
    INDEX,
    SCORES,
    bundle_sha256,
    find_bundle,
    index_text,
    known_bundles,
    read_index,
    read_json,
    shipped_bundles,
    stage_info,
)


@dataclass(frozen=True)
class Entry:
    """One bundle; ``problem`` says why nothing more is known of it."""

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


def catalogue() -> tuple[list[Entry], str]:
    """Every bundle that ships or was chosen once, and why there is no default, if so."""
    bundles, default, why = known_bundles(), None, ""
    try:
        default = find_bundle()
    except WeightsError as error:
        why = str(error)
    if default is not None and default.resolve() not in {folder.resolve() for folder in bundles.values()}:
        bundles[str(default)] = default
    return [
        _entry(name, folder, default is not None and folder.resolve() == default.resolve())
        for name, folder in bundles.items()
    ], why


def _entry(name: str, folder: Path, default: bool) -> Entry:
    try:
        index = read_index(folder)
        grid = stage_info(folder, "vae")["config"]["grid"]
        sizes = [(folder / file).stat().st_size for file in index["files"]]
        scores = recorded_scores(folder)
        return Entry(
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
        return Entry(name, folder, default, error.message if isinstance(error, WeightsError) else repr(error))


def shipped_with(condition: str) -> list[str]:
    """Names of the weights of the package that were trained with a condition."""
    configs = {
        name: parse_config(stage_info(folder, "dynamics")["config"]) for name, folder in shipped_bundles().items()
    }
    return [name for name, config in configs.items() if condition in config.conditions]


# --- Scores kept beside weights --------------------------------------------------------------------------------------


SCORES_FILE = "scores.json"


def record_scores(folder: Path, scores: dict[str, Any]) -> Path:
    """Keep ``scores`` in the weights folder that they are of; returns the file.

    `WeightsError` where they are of other weights, or the index was not written by `cinesynth bundle`.
    """
    before, found = bundle_sha256(folder), scores.get("metadata", {}).get("weights")
    if found != before:
        raise WeightsError(
            f"the scores are of weights {str(found)[:12]}..., {folder} holds {before[:12]}...",
            hint=f"score these: cinesynth score --weights {folder}",
        )
    index, path = read_index(folder), folder / SCORES_FILE
    text = json.dumps(scores, indent=1)
    plain = index_text({key: value for key, value in index.items() if key != SCORES})
    if SCORES not in index and (folder / INDEX).read_text(encoding="utf-8") != plain:
        raise WeightsError(
            f"{folder / INDEX} is laid out differently than `cinesynth bundle` writes it, so its hash would change",
            hint="bundle the weights again, then record",
        )
    write_text(path, text)
    write_text(folder / INDEX, index_text({**index, SCORES: file_sha256(path)}))
    return path


def recorded_scores(folder: Path) -> dict[str, Any] | None:
    """The scores recorded in a weights folder, None where there are none; `WeightsError` where they were altered."""
    expected = read_index(folder).get(SCORES)
    if expected is None:
        return None
    path = folder / SCORES_FILE
    scores = migrated(read_json(path, f"the weights folder {folder}"))
    if file_sha256(path) != expected:
        raise WeightsError(f"{path} was altered: its hash is not the index's", hint="record the scores again")
    return scores


# --- Whether weights were trained with what is asked of them ---------------------------------------------------------


WORDS = {
    "rv_edv_ml": "RV end-diastolic volume",
    "rv_esv_ml": "RV end-systolic volume",
    "myo_mass_g": "myocardial mass",
    "vendor": "vendor",
}


def check_supported(prior: ClinicalPrior, condition_set: ConditionSet) -> None:
    """`InputError` where ``prior`` asks for a condition or a vendor that is not in ``condition_set``."""
    for name in FURTHER_CONDITIONS:
        if getattr(prior, name) is not None and name not in condition_set.names:
            raise InputError(f"these weights were not trained with {WORDS[name]} ({name})", hint=_who_knows(name))
    if prior.vendor is not None and condition_set.vendor_index(prior.vendor) == 0:
        known = (
            f"one of {', '.join(condition_set.vendors)}"
            if condition_set.vendors
            else "their training knew none: leave it out"
        )
        raise InputError(f"vendor {prior.vendor!r} is not known to these weights", hint=known)


def _who_knows(name: str) -> str:
    knowing = shipped_with(name)
    if knowing:
        return f"leave it out, or give weights that know it: --weights {' or '.join(knowing)}"
    return f"leave it out, or train weights with {name} among the conditions: none of those that ship know it"
