"""A finished run and the dataset that it was trained on become a weights folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cinesynth import __version__
from cinesynth.config import parse_config
from cinesynth.data.geometry import Grid
from cinesynth.data.packed import prepare
from cinesynth.data.phantom import PHANTOM
from cinesynth.data.terms import combined, terms_of
from cinesynth.errors import DataError
from cinesynth.models.bundling import write_bundle
from cinesynth.models.weights import stage_info
from cinesynth.synthesis.fingerprints import fingerprints_of
from cinesynth.synthesis.prior import EmpiricalPrior


def bundle_run(
    run: Path, data: Path, out: Path, *, half: bool = True, sampling: Sequence[str] = (), fingerprints: bool = True
) -> dict[str, Any]:
    """Write the weights folder ``out`` and return its index.

    The empirical prior is that of the training people, the licence the strictest of their datasets. `DataError` where
    ``run`` was trained on other data; see `write_bundle` for the rest.
    """
    info = stage_info(run, "dynamics")
    config = parse_config(info["config"])
    packed = prepare(data, Grid.from_config(config.grid))
    if packed.data_hash != info["data_hash"]:
        raise DataError(f"{run} was not trained on {data}", hint="give the dataset that the run was trained on")
    train = packed.split("train")
    patients = [r for r in train.records if r.dataset != PHANTOM] or train.records
    datasets = sorted({r.dataset for r in train.records})
    about = {
        "preset": config.preset,
        "cinesynth": __version__,
        "data_hash": packed.data_hash,
        "datasets": {name: sum(r.dataset == name for r in train.records) for name in datasets},
        **combined(terms_of(data, datasets)),
    }
    known = fingerprints_of(train) if fingerprints else None
    return write_bundle(run, out, EmpiricalPrior.fit(patients).to_json(), about, half, sampling, known)
