"""Is a weights folder what it was when it was bundled: every file, every parent, every network; and no pickle."""

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
from cinesynth.weights.registry import SCORES_FILE

PICKLE_SUFFIXES = {".pkl", ".pickle", ".pt", ".pth", ".ckpt", ".joblib", ".dill"}
ZIP = b"PK\x03\x04"
"""How files of ``torch.save`` begin."""
PICKLE_STARTS = tuple(bytes((0x80, protocol)) for protocol in (2, 3, 4, 5))


@dataclass(frozen=True)
class Check:
    """One thing that was checked; ``problem`` is empty where it is as it should be."""

    name: str
    problem: str = ""


def verify_bundle(folder: Path) -> list[Check]:
    """Check everything of a weights folder that can be: the index first, then files, lineage and networks."""
    try:
        index = read_index(folder)
    except WeightsError as error:
        return [Check(INDEX, error.message)]
    listed = {**dict.fromkeys(_expected_files(folder)), **_hashes(index)}
    files = [Check(name, _file_problem(folder, name, sha)) for name, sha in listed.items()]
    strays = [Check(name, "is a pickle: it is not loaded, remove it") for name in _stray_pickles(folder, listed)]
    if any(check.problem for check in files):
        rest = [Check("lineage and networks", "cannot be checked while a file is damaged")]
    else:
        rest = [Check("lineage", _problem_of(lambda: check_lineage({s: stage_info(folder, s) for s in STAGES})))]
        rest += _networks(folder)
    return [Check(INDEX), *files, *strays, *rest]


def refuse_damaged(folder: Path) -> None:
    """`WeightsError` with every problem of a weights folder, if there is one."""
    problems = [f"{check.name} {check.problem}" for check in verify_bundle(folder) if check.problem]
    if problems:
        raise WeightsError(f"{folder} is damaged: {'; '.join(problems)}", hint="copy the whole folder again")


def _expected_files(folder: Path) -> list[str]:
    """The files of every bundle beside its index, under the names that its stages have there."""
    stages = [stage_path(folder, stage, suffix).name for stage in STAGES for suffix in (".safetensors", ".json")]
    return [*stages, "prior.json"]


def _hashes(index: dict[str, Any]) -> dict[str, Any]:
    """The SHA-256 of every file that the index lists."""
    files = index.get("files")
    scores = {SCORES_FILE: index[SCORES]} if SCORES in index else {}
    return {**(files if isinstance(files, dict) else {}), **scores}


def _file_problem(folder: Path, name: str, sha256: str | None) -> str:
    path = folder / name
    if Path(name).name != name:
        return f"is listed in {INDEX}, but is no name of a file in this folder"
    if not path.is_file():
        return "is missing"
    if _is_pickle(path):
        return "is a pickle: do not load it, copy the folder again"
    if sha256 is None:
        return f"is not listed in {INDEX}: nothing says what it should be"
    found = file_sha256(path)
    if found != sha256:
        return f"was altered: SHA-256 {found[:12]}..., {INDEX} says {str(sha256)[:12]}..."
    return _problem_of(lambda: read_tensors(path) if path.suffix == ".safetensors" else read_json(path, name))


def _networks(folder: Path) -> Iterator[Check]:
    """Whether the networks of the config take the tensors of each stage."""
    try:
        networks = vars(build(parse_config(stage_info(folder, "motion_diffusion")["config"])))
    except (CinesynthError, KeyError, TypeError, ValueError) as error:
        yield Check("networks", f"cannot be built from the config in motion_diffusion.json: {error}")
        return
    for stage, module in zip(STAGES, networks.values(), strict=True):
        yield Check(f"network {stage}", _problem_of(partial(load_stage, folder, stage, module)))


def _problem_of(check: Any) -> str:
    """What ``check()`` has to say, in one line."""
    try:
        check()
    except WeightsError as error:
        return " ".join(error.message.split())
    except (KeyError, TypeError, AttributeError) as error:
        return f"a stage's JSON is not what `cinesynth bundle` writes: {error!r}"
    return ""


def _stray_pickles(folder: Path, listed: dict[str, Any]) -> Iterator[str]:
    """Pickles beside the files of the index, by what is in them or by their name."""
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_file() and name not in listed and (path.suffix in PICKLE_SUFFIXES or _is_pickle(path)):
            yield name


def _is_pickle(path: Path) -> bool:
    """By its first bytes; a safetensors file may begin like one, and goes on with a JSON object after its length."""
    with path.open("rb") as stream:
        head = stream.read(9)
    return head.startswith(ZIP) or (head.startswith(PICKLE_STARTS) and head[8:] != b"{")
