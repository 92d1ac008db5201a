"""Weights folders: where they lie, which one a command takes, and the index that says what is in them.

Nothing here loads a network, so that whoever only asks for a folder does not wait for torch.
"""

from __future__ import annotations

import hashlib
import json
from importlib import resources
from pathlib import Path
from typing import Any

from cinesynth.errors import WeightsError
from cinesynth.files import file_sha256
from cinesynth.models.choice import Default, default_set, read_choice

FORMAT = 2
"""2: flow matching is preconditioned and cycles are temporal modes; numbers of format 1 mean something else."""
INDEX = "bundle.json"
DEFAULT_BUNDLE = "compact"
SCORES = "scores"
"""Key of the index that holds the hash of the scores recorded beside it, which are no part of the weights."""


def find_bundle(weights: Path | str | None = None) -> Path:
    """A weights folder by its path or by a name of `known_bundles`.

    By default that of the environment variable `choice.VARIABLE`, else the user's choice, else `DEFAULT_BUNDLE`.
    `WeightsError` where there is none; a default that somebody set is never replaced by another.
    """
    if weights is not None:
        return _named(str(weights))
    default = default_set()
    if default is None:
        return _of(shipped_bundles(), DEFAULT_BUNDLE)
    try:
        return _default_folder(default)
    except WeightsError as error:
        raise WeightsError(
            f"the default weights, {default.weights} by {default.said_by}, cannot be used: {error.message}",
            hint=default.hint,
        ) from None


def shipped_bundles() -> dict[str, Path]:
    """The weights folders that come with the package, by name."""
    folder = Path(str(resources.files("cinesynth") / "weights"))
    return {path.parent.name: path.parent for path in sorted(folder.glob(f"*/{INDEX}"))}


def known_bundles() -> dict[str, Path]:
    """Those that ship, and the folders that the user chose once, by the name of the folder or, if taken, its path."""
    found = shipped_bundles()
    for folder in map(Path, read_choice().known):
        found[str(folder) if folder.name in found else folder.name] = folder
    return found


def _default_folder(default: Default) -> Path:
    """The folder of a default, with an index that can be read; what it lists is verified by loading it."""
    folder = Path(default.weights)
    if not folder.is_absolute():  # a name: a folder that happens to lie here under it is not meant
        folder = _of(known_bundles(), default.weights)
    if not folder.is_dir():
        raise WeightsError(f"there is no folder {folder}")
    read_index(folder)
    return folder


def _named(name: str) -> Path:
    if Path(name).exists():
        return Path(name)
    shipped = shipped_bundles()
    return shipped[name] if name in shipped else _of(known_bundles(), name)


def _of(bundles: dict[str, Path], name: str) -> Path:
    if name not in bundles:
        known = ", ".join(bundles) or "none in this installation"
        raise WeightsError(
            f"there are no weights {name}",
            hint=f"give a folder made by `cinesynth bundle`, or one of these names: {known}",
        )
    return bundles[name]


def read_index(folder: Path) -> dict[str, Any]:
    """The index of a weights folder; `WeightsError` where it is missing, damaged or of another format."""
    index = read_json(folder / INDEX, f"the weights folder {folder}")
    if index.get("format") != FORMAT:
        raise WeightsError(
            f"{folder} has format {index.get('format')}, expected {FORMAT}",
            hint="update cinesynth, or train and bundle the weights again if they are the older ones",
        )
    return index


def bundle_sha256(folder: Path) -> str:
    """Which weights a folder holds: the hash of its index as bundled, before `SCORES` were recorded in it."""
    path = folder / INDEX
    index = read_json(path, f"the weights folder {folder}")
    if SCORES not in index:
        return file_sha256(path)
    return hashlib.sha256(index_text({k: v for k, v in index.items() if k != SCORES}).encode()).hexdigest()


def index_text(index: dict[str, Any]) -> str:
    """The index as it is written."""
    return json.dumps(index, indent=1)


def read_json(path: Path, what: str) -> dict[str, Any]:
    """A JSON object; `WeightsError` says what is missing or damaged."""
    try:
        value = json.loads(path.read_text())
    except FileNotFoundError:
        raise WeightsError(
            f"{what} is incomplete: {path.name} is missing", hint="copy the whole folder again"
        ) from None
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path} cannot be read: {error}", hint="copy the whole folder again") from None
    if not isinstance(value, dict):
        raise WeightsError(f"{path} is not a JSON object", hint="copy the whole folder again")
    return value
