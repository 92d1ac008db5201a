"""Which weights a user takes by default: an environment variable, or a small JSON in the folder of their settings."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from cinesynth.errors import WeightsError
from cinesynth.io.files import write_json

VARIABLE = "CINESYNTH_WEIGHTS"
"""Names a weights folder, or weights that ship; wins over what was chosen by `cinesynth weights use`."""
FORMAT = 1
FILE = "weights.json"


@dataclass(frozen=True)
class Choice:
    """The user's default, a shipped name or an absolute folder, and the folders that were ever chosen."""

    default: str | None = None
    known: tuple[str, ...] = ()


@dataclass(frozen=True)
class Default:
    """A default that somebody set: its name or folder, where that is said, and how to say something else."""

    weights: str
    said_by: str
    hint: str


def settings_folder() -> Path:
    """Where this user's settings lie: ``XDG_CONFIG_HOME`` if set, or what the platform is used to."""
    found = Path(os.environ.get("XDG_CONFIG_HOME", ""))
    if found.is_absolute():  # the XDG specification: relative paths are to be ignored
        return found / "cinesynth"
    if sys.platform == "win32":
        return Path(os.environ.get("APPDATA") or Path.home() / "AppData" / "Roaming") / "cinesynth"
    return Path.home() / ("Library/Application Support" if sys.platform == "darwin" else ".config") / "cinesynth"


def choice_file() -> Path:
    """The JSON of the choice; it need not be there."""
    return settings_folder() / FILE


def read_choice() -> Choice:
    """What the user chose, nothing where they never did; `WeightsError` where the file is damaged."""
    path = choice_file()
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise ValueError(f"format {content['format']}, expected {FORMAT}")
        default, known = content["default"], content["known"]
        if not isinstance(default, str | None) or not all(isinstance(folder, str) for folder in known):
            raise TypeError("default or known are no text")
    except FileNotFoundError:
        return Choice()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(
            f"{path}, your choice of weights, cannot be read: {error!r}",
            hint="start anew: cinesynth weights use --reset",
        ) from None
    return Choice(default, tuple(known))


def write_choice(choice: Choice) -> Path:
    """Keep a choice; returns the file."""
    path = choice_file()
    write_json(path, {"format": FORMAT, **asdict(choice)})
    return path


def choose(default: str) -> Path:
    """Make a shipped name or an absolute folder the default; returns the file that says so."""
    known = read_choice().known
    new = (default,) if Path(default).is_absolute() and default not in known else ()
    return write_choice(Choice(default, (*known, *new)))


def forget() -> Path:
    """Go back to the default of the package; folders stay known, unless the file was damaged."""
    try:
        known = read_choice().known
    except WeightsError:
        known = ()
    return write_choice(Choice(None, known))


def default_set() -> Default | None:
    """The default that somebody set: the environment's before the user's; None where nobody did."""
    if weights := os.environ.get(VARIABLE):
        weights = str(Path(weights).absolute()) if Path(weights).exists() else weights
        return Default(weights, f"the environment variable {VARIABLE}", f"set {VARIABLE} to other weights, or unset it")
    if (chosen := read_choice().default) is not None:
        return Default(
            chosen,
            f"your choice in {choice_file()}",
            "choose others: cinesynth weights use FOLDER; or the package's: cinesynth weights use --reset",
        )
    return None
