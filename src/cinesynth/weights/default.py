"""The default weights of a user: an environment variable, or a small JSON in the user's settings folder."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from platformdirs import user_config_path

from cinesynth.errors import WeightsError
from cinesynth.io.files import write_json

VARIABLE = "CINESYNTH_WEIGHTS"
"""Environment variable with a weights folder or name; it takes precedence over `cinesynth weights set-default`."""
FORMAT = 1
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
        if content["format"] != FORMAT:
            raise ValueError(f"format {content['format']}, expected {FORMAT}")
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
    write_json(path, {"format": FORMAT, **asdict(settings)})
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
