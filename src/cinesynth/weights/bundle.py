"""Bundles: weights folders are made of a finished run, and verified: files, lineage, networks, and no pickle."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from cinesynth import __version__
from cinesynth.config import STAGES, Config, apply_override, parse_config
from cinesynth.config.migration import migrate_key, stage_path
from cinesynth.data.geometry import Grid
from cinesynth.data.packed import prepare
from cinesynth.data.phantom import PHANTOM
from cinesynth.data.subject_prior import labelled_prior
from cinesynth.data.terms import combined, terms_of
from cinesynth.errors import CinesynthError, ConfigError, DataError, WeightsError
from cinesynth.io.files import file_sha256, write_text
from cinesynth.memorisation.duplicate_filter import fingerprints_of
from cinesynth.models.build import build
from cinesynth.weights.folder import (
    ENCODES_AS,
    FINGERPRINTS,
    FORMAT,
    INDEX,
    SCORES,
    TEXTURE,
    check_lineage,
    check_trained,
    has_texture,
    index_text,
    load_stage,
    load_texture,
    read_index,
    read_json,
    read_tensors,
    stage_info,
    stages_in,
    write_tensors,
)
from cinesynth.weights.prior_fit import fit
from cinesynth.weights.scores import SCORES_FILE

_OF_A_MODEL = ("solver", "sampling_steps", "guidance", "guidance_interval", "guidance_rescale")
SAMPLING = tuple(
    f"{model}.diffusion.{key}" for model in ("anatomy_diffusion", "motion_diffusion") for key in _OF_A_MODEL
)
"""Settings that training does not use, so that they can be tuned afterwards on validation subjects."""
PICKLE_SUFFIXES = {".pkl", ".pickle", ".pt", ".pth", ".ckpt", ".joblib", ".dill"}


def with_sampling(config: Config, overrides: Sequence[str]) -> Config:
    """``config`` with overrides ``a.b=c`` of sampling settings; `ConfigError` on any other key."""
    tree = config.model_dump(mode="json")
    for override in overrides:
        key = migrate_key(override.partition("=")[0].strip())
        if key not in SAMPLING:
            raise ConfigError(f"--set {override}: {key} is fixed by training", hint=f"one of {', '.join(SAMPLING)}")
        apply_override(tree, override)
    return parse_config(tree)


def write_bundle(
    run: Path,
    out: Path,
    prior: dict[str, Any],
    info: dict[str, Any],
    half: bool = True,
    sampling: Sequence[str] = (),
    fingerprints: dict[str, Tensor] | None = None,
) -> dict[str, Any]:
    """Write the four finished stages of ``run`` as a bundle, in fp16 if ``half``; returns its index.

    A fine-tuned decoder of the run replaces that of the VAE, and its texture network is added. The index lists
    ``sampling``, overrides of `SAMPLING`.
    """
    stages = stages_in(run)
    infos = {stage: stage_info(run, stage) for stage in stages}
    sources = {stage: stage for stage in stages}
    if (run / "decoder.json").is_file():
        sources["vae"], decoder = "decoder", stage_info(run, "decoder")
        check_lineage({"vae": infos["vae"], "decoder": decoder})
        infos["vae"] = {**decoder, "stage": "vae", "parents": {}, ENCODES_AS: infos["vae"]["id"]}
    check_lineage(infos)
    out.mkdir(parents=True, exist_ok=True)
    for stage, record in infos.items():
        tensors = read_tensors(stage_path(run, sources[stage], ".safetensors"))
        cast = {k: v.half() if half and v.is_floating_point() and v.dim() > 1 else v for k, v in tensors.items()}
        sha = write_tensors(out / f"{stage}.safetensors", cast)
        config = with_sampling(parse_config(record["config"]), sampling).model_dump(mode="json")
        write_text(out / f"{stage}.json", json.dumps({**record, "config": config, "sha256": sha}, indent=1))
    write_text(out / "prior.json", json.dumps(prior, indent=1))
    names = [f"{stage}{suffix}" for stage in stages for suffix in (".safetensors", ".json")] + ["prior.json"]
    if fingerprints is not None:
        write_tensors(out / FINGERPRINTS, fingerprints)
        names.append(FINGERPRINTS)
    index = {
        "format": FORMAT,
        **info,
        "sampling_set": list(sampling),
        "files": {name: file_sha256(out / name) for name in names},
    }
    write_text(out / INDEX, index_text(index))
    return index


def bundle_run(
    run: Path, data: Path, out: Path, *, half: bool = True, sampling: Sequence[str] = (), fingerprints: bool = True
) -> dict[str, Any]:
    """Write the weights folder ``out`` from a run and its dataset; returns its index.

    The empirical prior is that of the training subjects, the licence the strictest of their datasets. `DataError` if
    ``run`` was trained on another dataset, `WeightsError` if one of its stages is not finished. The other arguments are
    those of `write_bundle`.
    """
    check_trained(run, STAGES)
    stage = stage_info(run, "motion_diffusion")
    config = parse_config(stage["config"])
    packed = prepare(data, Grid.from_config(config.grid))
    if packed.data_hash != stage["data_hash"]:
        raise DataError(f"{run} was not trained on {data}", hint="name the dataset that the run was trained on")
    train = packed.split("train")
    patients = [r for r in train.records if r.dataset != PHANTOM] or train.records
    datasets = sorted({r.dataset for r in train.records})
    info = {
        "preset": config.preset,
        "cinesynth": __version__,
        "data_hash": packed.data_hash,
        "datasets": {name: sum(r.dataset == name for r in train.records) for name in datasets},
        **combined(terms_of(data, datasets)),
    }
    known = fingerprints_of(train) if fingerprints else None
    priors = [(r in patients, labelled_prior(train, i)) for i, r in enumerate(train.records)]
    of_patients, of_phantoms = ([p for chosen, p in priors if chosen is wanted] for wanted in (True, False))
    prior = fit(patients, of_patients, of_phantoms)
    return write_bundle(run, out, prior.to_json(), info, half, sampling, known)


# --- Verifying a folder ----------------------------------------------------------------------------------------------


class WeightsCheck(NamedTuple):
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
    expected = [
        stage_path(folder, stage, suffix).name for stage in stages_in(folder) for suffix in (".safetensors", ".json")
    ]
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
        rest = [
            WeightsCheck(
                "lineage", _problem_of(lambda: check_lineage({s: stage_info(folder, s) for s in stages_in(folder)}))
            )
        ]
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
    if has_texture(folder):
        yield WeightsCheck(f"network {TEXTURE}", _problem_of(partial(load_texture, folder)))


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
