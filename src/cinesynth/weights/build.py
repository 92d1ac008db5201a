"""Build a weights folder from a finished run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from cinesynth import __version__
from cinesynth.config import STAGES, Config, apply_override, parse_config
from cinesynth.config.migration import migrate_key, stage_path
from cinesynth.data.geometry import Grid
from cinesynth.data.packed import prepare
from cinesynth.data.phantom import PHANTOM
from cinesynth.data.terms import combined, terms_of
from cinesynth.errors import ConfigError, DataError
from cinesynth.io.files import file_sha256, write_text
from cinesynth.memorisation.duplicate_filter import fingerprints_of
from cinesynth.weights.folder import (
    ENCODES_AS,
    FINGERPRINTS,
    FORMAT,
    INDEX,
    check_lineage,
    index_text,
    read_tensors,
    stage_info,
    write_tensors,
)
from cinesynth.weights.prior import EmpiricalPrior

_OF_A_MODEL = ("solver", "sampling_steps", "guidance", "guidance_interval", "guidance_rescale")
SAMPLING = tuple(
    f"{model}.diffusion.{key}" for model in ("anatomy_diffusion", "motion_diffusion") for key in _OF_A_MODEL
)
"""Settings that training does not use, so that they can be tuned afterwards on validation subjects."""


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

    A fine-tuned decoder of the run replaces that of the VAE. ``sampling`` holds overrides of `SAMPLING`, which the
    index lists.
    """
    infos = {stage: stage_info(run, stage) for stage in STAGES}
    sources = {stage: stage for stage in STAGES}
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
    names = [f"{stage}{suffix}" for stage in STAGES for suffix in (".safetensors", ".json")] + ["prior.json"]
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
    ``run`` was trained on another dataset. The other arguments are those of `write_bundle`.
    """
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
    return write_bundle(run, out, EmpiricalPrior.fit(patients).to_json(), info, half, sampling, known)
