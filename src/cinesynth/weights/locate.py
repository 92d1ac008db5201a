"""Which weights folder a command uses: one given by path or name, or a default from the environment or the settings."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from platformdirs import user_config_path

from cinesynth.errors import WeightsError
from cinesynth.io.files import file_sha256, write_json

VARIABLE = "CINESYNTH_WEIGHTS"
"""Environment variable with a weights folder or name; it takes precedence over `cinesynth weights set-default`."""
SETTINGS_FORMAT = 1
"""Version of the settings file."""


@dataclass(frozen=True)
class WeightsSettings:
    """The user's default, a shipped name or an absolute folder, and every folder that was ever chosen."""

    default: str | None = None
    known: tuple[str, ...] = ()


@dataclass(frozen=True)
class DefaultWeights:
    """A default that was set: its name or folder, where it was set, and how to change it."""

    weights: str
    set_by: str
    hint: str


def settings_file() -> Path:
    """The JSON of the user's settings; it need not exist."""
    found = Path(os.environ.get("XDG_CONFIG_HOME", ""))
    if found.is_absolute():  # followed on every system, so that it can always be redirected
        return found / "cinesynth" / "weights.json"
    return user_config_path("cinesynth", appauthor=False, roaming=True) / "weights.json"


def read_settings() -> WeightsSettings:
    """The user's settings, empty if there are none; `WeightsError` if the file is damaged."""
    path = settings_file()
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != SETTINGS_FORMAT:
            raise ValueError(f"format {content['format']}, expected {SETTINGS_FORMAT}")
        default, known = content["default"], content["known"]
        if not isinstance(default, str | None) or not all(isinstance(folder, str) for folder in known):
            raise TypeError("'default' and 'known' must be strings")
    except FileNotFoundError:
        return WeightsSettings()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(
            f"{path}, your default weights, cannot be read: {error!r}",
            hint="reset it: cinesynth weights set-default --reset",
        ) from None
    return WeightsSettings(default, tuple(known))


def write_settings(settings: WeightsSettings) -> Path:
    """Write the user's settings; returns the file."""
    path = settings_file()
    write_json(path, {"format": SETTINGS_FORMAT, **asdict(settings)})
    return path


def set_default(default: str) -> Path:
    """Make a shipped name or an absolute folder the default; returns the settings file."""
    known = read_settings().known
    new = (default,) if Path(default).is_absolute() and default not in known else ()
    return write_settings(WeightsSettings(default, (*known, *new)))


def reset_default() -> Path:
    """Return to the default of the package; known folders are kept, unless the file was damaged."""
    try:
        known = read_settings().known
    except WeightsError:
        known = ()
    return write_settings(WeightsSettings(None, known))


def find_default() -> DefaultWeights | None:
    """The default that was set, the environment's before the user's; None if none was."""
    if weights := os.environ.get(VARIABLE):
        weights = str(Path(weights).absolute()) if Path(weights).exists() else weights
        hint = f"set {VARIABLE} to other weights, or unset it"
        return DefaultWeights(weights, f"the environment variable {VARIABLE}", hint)
    if (chosen := read_settings().default) is not None:
        hint = (
            "set another: cinesynth weights set-default FOLDER; or the package's: cinesynth weights set-default --reset"
        )
        return DefaultWeights(chosen, f"your settings in {settings_file()}", hint)
    return None


# --- Weights folders and their index ----------------------------------------------------------------------------------

FORMAT = 2
"""2: flow matching is preconditioned and cycles are temporal modes, so weights of format 1 cannot be used."""

INDEX = "bundle.json"

DEFAULT_BUNDLE = "compact"

SCORES = "scores"
"""Key of the index with the SHA-256 of the recorded scores, which are not part of the weights."""


def find_bundle(weights: Path | str | None = None) -> Path:
    """A weights folder by its path or by a name of `known_bundles`.

    The default is that of the environment variable `VARIABLE`, then the user's, then `DEFAULT_BUNDLE`.
    `WeightsError` if it does not exist; a default that was set is never replaced by another.
    """
    if weights is not None:
        return _named(str(weights))
    default = find_default()
    if default is None:
        return _of(shipped_bundles(), DEFAULT_BUNDLE)
    try:
        return _default_folder(default)
    except WeightsError as error:
        raise WeightsError(
            f"the weights {default.weights}, set as default by {default.set_by}, cannot be used: {error.message}",
            hint=default.hint,
        ) from None


def shipped_bundles() -> dict[str, Path]:
    """The weights folders that ship with the package, by name."""
    folder = Path(str(resources.files("cinesynth") / "weights"))
    return {path.parent.name: path.parent for path in sorted(folder.glob(f"*/{INDEX}"))}


def known_bundles() -> dict[str, Path]:
    """Shipped weights and folders that the user has chosen, by folder name or, if that is taken, by path."""
    found = shipped_bundles()
    for folder in map(Path, read_settings().known):
        found[str(folder) if folder.name in found else folder.name] = folder
    return found


def _default_folder(default: DefaultWeights) -> Path:
    """The folder of a default with a readable index; its files are verified when they are loaded."""
    folder = Path(default.weights)
    if not folder.is_absolute():  # a name never means a folder of the working directory
        folder = _of(known_bundles(), default.weights)
    if not folder.is_dir():
        raise WeightsError(f"{folder} is not a directory")
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
            hint=f"name a folder written by `cinesynth bundle`, or one of: {known}",
        )
    return bundles[name]


def read_index(folder: Path) -> dict[str, Any]:
    """The index of a weights folder; `WeightsError` if it is missing, damaged or has another format."""
    index = read_json(folder / INDEX, f"the weights folder {folder}")
    if index.get("format") != FORMAT:
        raise WeightsError(
            f"{folder} has format {index.get('format')}, expected {FORMAT}",
            hint="update cinesynth; if the weights are older, train and bundle them again",
        )
    return index


def bundle_sha256(folder: Path) -> str:
    """The identity of the weights in a folder: SHA-256 of its index without recorded `SCORES`."""
    path = folder / INDEX
    index = read_json(path, f"the weights folder {folder}")
    if SCORES not in index:
        return file_sha256(path)
    return hashlib.sha256(index_text({k: v for k, v in index.items() if k != SCORES}).encode()).hexdigest()


def index_text(index: dict[str, Any]) -> str:
    """The text of an index file."""
    return json.dumps(index, indent=1)


def read_json(path: Path, what: str) -> dict[str, Any]:
    """The JSON object in ``path``; `WeightsError` names ``what`` is missing or damaged."""
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
