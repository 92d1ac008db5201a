"""Verify a weights folder: files and their hashes, lineage, networks, and that there is no pickle."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from cinesynth.config import STAGES, parse_config
from cinesynth.config.migration import stage_path
from cinesynth.errors import CinesynthError, WeightsError
from cinesynth.io.files import file_sha256
from cinesynth.models.build import build
from cinesynth.weights.folder import (
    INDEX,
    SCORES,
    check_lineage,
    load_stage,
    read_index,
    read_json,
    read_tensors,
    stage_info,
)
from cinesynth.weights.scores import SCORES_FILE

PICKLE_SUFFIXES = {".pkl", ".pickle", ".pt", ".pth", ".ckpt", ".joblib", ".dill"}


@dataclass(frozen=True)
class WeightsCheck:
    """One check; ``problem`` is empty if it passed."""

    name: str
    problem: str = ""


def verify_bundle(folder: Path) -> list[WeightsCheck]:
    """All checks of a weights folder: index, files, lineage and networks."""
    try:
        index = read_index(folder)
    except WeightsError as error:
        return [WeightsCheck(INDEX, error.message)]
    # every bundle has these, under the names that its stages have there
    expected = [stage_path(folder, stage, suffix).name for stage in STAGES for suffix in (".safetensors", ".json")]
    hashes: dict[str, Any] = files if isinstance(files := index.get("files"), dict) else {}
    scores = {SCORES_FILE: index[SCORES]} if SCORES in index else {}
    listed = {**dict.fromkeys([*expected, "prior.json"]), **hashes, **scores}
    checks = [WeightsCheck(name, _file_problem(folder, name, sha)) for name, sha in listed.items()]
    others = {str(path.relative_to(folder)): path for path in sorted(folder.rglob("*")) if path.is_file()}
    strays = [
        WeightsCheck(name, "is a pickle: remove it, it is never loaded")
        for name, path in others.items()
        if name not in listed and (path.suffix in PICKLE_SUFFIXES or _is_pickle(path))
    ]
    if any(check.problem for check in checks):
        rest = [WeightsCheck("lineage and networks", "cannot be checked while a file is damaged")]
    else:
        rest = [WeightsCheck("lineage", _problem_of(lambda: check_lineage({s: stage_info(folder, s) for s in STAGES})))]
        rest += _networks(folder)
    return [WeightsCheck(INDEX), *checks, *strays, *rest]


def check_bundle(folder: Path) -> None:
    """`WeightsError` that lists every problem of a weights folder, if there is any."""
    problems = [f"{check.name} {check.problem}" for check in verify_bundle(folder) if check.problem]
    if problems:
        raise WeightsError(f"{folder} is damaged: {'; '.join(problems)}", hint="copy the whole folder again")


def _file_problem(folder: Path, name: str, sha256: str | None) -> str:
    path = folder / name
    if Path(name).name != name:
        return f"is listed in {INDEX}, but is not the name of a file in this folder"
    if not path.is_file():
        return "is missing"
    if _is_pickle(path):
        return "is a pickle: do not load it, copy the folder again"
    if sha256 is None:
        return f"is not listed in {INDEX}, so it cannot be verified"
    found = file_sha256(path)
    if found != sha256:
        return f"was altered: SHA-256 {found[:12]}..., {INDEX} says {str(sha256)[:12]}..."
    return _problem_of(lambda: read_tensors(path) if path.suffix == ".safetensors" else read_json(path, name))


def _networks(folder: Path) -> Iterator[WeightsCheck]:
    """Whether the tensors of each stage fit the networks of the configuration."""
    try:
        networks = vars(build(parse_config(stage_info(folder, "motion_diffusion")["config"])))
    except (CinesynthError, KeyError, TypeError, ValueError) as error:
        yield WeightsCheck("networks", f"cannot be built from the config in motion_diffusion.json: {error}")
        return
    for stage, module in zip(STAGES, networks.values(), strict=True):
        yield WeightsCheck(f"network {stage}", _problem_of(partial(load_stage, folder, stage, module)))


def _problem_of(check: Any) -> str:
    """The error of ``check()`` in one line; empty if it passes."""
    try:
        check()
    except WeightsError as error:
        return " ".join(error.message.split())
    except (KeyError, TypeError, AttributeError) as error:
        return f"a stage's JSON is not what `cinesynth bundle` writes: {error!r}"
    return ""


def _is_pickle(path: Path) -> bool:
    """Whether a file starts like a pickle, or like the ZIP archive that ``torch.save`` writes.

    A safetensors file may start like a pickle too: eight bytes of length, then a JSON object.
    """
    with path.open("rb") as stream:
        head = stream.read(9)
    protocols = tuple(bytes((0x80, protocol)) for protocol in (2, 3, 4, 5))
    return head.startswith(b"PK\x03\x04") or (head.startswith(protocols) and head[8:] != b"{")
