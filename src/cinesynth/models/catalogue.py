"""The weights that can be named here: what each is, where it lies, and which one is taken by default."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cinesynth.config import parse_config
from cinesynth.errors import WeightsError
from cinesynth.models.bundles import INDEX, find_bundle, known_bundles, read_index, shipped_bundles
from cinesynth.models.recorded import recorded_scores
from cinesynth.models.weights import stage_info


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
