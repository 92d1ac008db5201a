"""The weights that can be used by name: which folder a command uses, what each one is, and what it supports."""

from __future__ import annotations

import json
import os
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

from platformdirs import user_config_path

from cinesynth.config import parse_config
from cinesynth.errors import InputError, WeightsError
from cinesynth.io.files import write_json
from cinesynth.models.conditioning import ConditionSet
from cinesynth.types import FURTHER_CONDITIONS, UNKNOWN_VENDOR, ClinicalPrior
from cinesynth.weights.folder import INDEX, read_index, stage_info
from cinesynth.weights.prior import EmpiricalPrior
from cinesynth.weights.scores import recorded_scores

VARIABLE = "CINESYNTH_WEIGHTS"
"""Environment variable with a weights folder or name; it takes precedence over `cinesynth weights set-default`."""
SETTINGS_FORMAT = 1
"""Version of the settings file."""
DEFAULT_BUNDLE = "compact"
CONDITION_NAMES = {
    "rv_edv_ml": "RV end-diastolic volume",
    "rv_esv_ml": "RV end-systolic volume",
    "myo_mass_g": "myocardial mass",
    "vendor": "vendor",
}


class WeightsSettings(NamedTuple):
    """The user's default, a shipped name or an absolute folder, and every folder that was ever chosen."""

    default: str | None = None
    known: tuple[str, ...] = ()


class DefaultWeights(NamedTuple):
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


def set_default(default: str | None) -> Path:
    """Set the default weights: a shipped name, an absolute folder, or None for the package's own. Returns the file.

    The file's list of known weights folders is kept. If the file is damaged, None replaces it, and any other value
    raises `WeightsError`.
    """
    try:
        known = read_settings().known
    except WeightsError:
        if default is not None:
            raise
        known = ()
    if default is not None and Path(default).is_absolute() and default not in known:
        known = (*known, default)
    path = settings_file()
    write_json(path, {"format": SETTINGS_FORMAT, "default": default, "known": known})
    return path


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


def find_bundle(weights: Path | str | None = None) -> Path:
    """A weights folder by its path or by a name of `known_bundles`.

    The default is that of the environment variable `VARIABLE`, then the user's, then `DEFAULT_BUNDLE`.
    `WeightsError` if it does not exist; a default that was set is never replaced by another.
    """
    if weights is not None:
        path, shipped = Path(weights), shipped_bundles()
        return path if path.exists() else shipped.get(str(weights)) or _of(known_bundles(), str(weights))
    default = find_default()
    if default is None:
        return _of(shipped_bundles(), DEFAULT_BUNDLE)
    try:
        folder = Path(default.weights)
        if not folder.is_absolute():  # a name never means a folder of the working directory
            folder = _of(known_bundles(), default.weights)
        if not folder.is_dir():
            raise WeightsError(f"{folder} is not a directory")
        read_index(folder)  # its files are verified when they are loaded
        return folder
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


def _of(bundles: dict[str, Path], name: str) -> Path:
    if name not in bundles:
        known = ", ".join(bundles) or "none in this installation"
        raise WeightsError(
            f"there are no weights {name}", hint=f"name a folder written by `cinesynth bundle`, or one of: {known}"
        )
    return bundles[name]


# --- What the weights at hand are ------------------------------------------------------------------------------------


class RegisteredWeights(NamedTuple):
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
        mib = sum((folder / file).stat().st_size for file in (*index["files"], INDEX)) / 2**20
        trained_on, licence = tuple(index.get("datasets", {}).items()), str(index.get("licence", "unknown"))
        model = str(index.get("preset", "unknown")), tuple(grid["size"]), tuple(grid["spacing_mm"])
        return RegisteredWeights(name, folder, default, "", *model, mib, trained_on, licence, recorded_scores(folder))
    except (WeightsError, OSError, KeyError, TypeError) as error:
        message = error.message if isinstance(error, WeightsError) else repr(error)
        return RegisteredWeights(name, folder, default, message)


def shipped_with(condition: str) -> list[str]:
    """Names of the shipped weights that were trained with a condition."""
    infos = {name: stage_info(folder, "motion_diffusion") for name, folder in shipped_bundles().items()}
    return [name for name, info in infos.items() if condition in parse_config(info["config"]).conditions]


def check_supported(prior: ClinicalPrior, condition_set: ConditionSet, empirical: EmpiricalPrior) -> None:
    """`InputError` if ``prior`` specifies a condition or a vendor that is not in ``condition_set``, or that no training
    subject of the ``empirical`` prior had."""
    for name in FURTHER_CONDITIONS:
        if getattr(prior, name) is not None and name not in condition_set.names:
            knowing = " or ".join(shipped_with(name))
            hint = (
                f"leave it out, or use weights that support it: --weights {knowing}"
                if knowing
                else f"leave it out, or train weights with {name} among the conditions: no shipped weights support it"
            )
            raise InputError(f"these weights were not trained with {CONDITION_NAMES[name]} ({name})", hint=hint)
    vendor = (prior.vendor or UNKNOWN_VENDOR).strip().casefold()
    if vendor != UNKNOWN_VENDOR and condition_set.vendor_index(prior.vendor) == 0:
        vendors = condition_set.vendors
        hint = f"one of {', '.join(vendors)}" if vendors else "leave it out: they were trained without vendors"
        raise InputError(f"vendor {prior.vendor!r} is not known to these weights", hint=hint)
    empirical.seen.check(prior)
