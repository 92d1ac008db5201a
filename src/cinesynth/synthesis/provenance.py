"""The provenance record of a case: what is needed to generate it again, and what its terms of use are."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from typing import Any

import torch

import cinesynth
from cinesynth.config import Config
from cinesynth.io.reproducibility import package_versions
from cinesynth.synthesis.request import Request

LICENCE_KEYS = ("licence", "licences", "license", "citation", "citations", "data")
"""Keys of a weights index that are copied into each case."""


def provenance(
    request: Request, slices: int, config: Config, weights: Mapping[str, Any], device: torch.device
) -> dict[str, object]:
    """The record of a case with so many ``slices``; ``weights`` is the index of the weights and its ``sha256``."""
    return {
        "synthetic": True,
        "request": request.to_json(),
        "slices": slices,
        "slices_from": "request" if request.prior.slices is not None else "empirical prior",
        "es_index_from": "request" if request.es_index is not None else "empirical prior",
        "sampling": _sampling(request, config),
        **model_record(config, weights, device),
    }


def model_record(config: Config, weights: Mapping[str, Any], device: torch.device) -> dict[str, object]:
    """Weights with their terms, library versions and the machine, for anything that a model makes."""
    return {
        "weights": {
            "preset": config.preset,
            "sha256": weights["sha256"],
            **{key: weights[key] for key in LICENCE_KEYS if key in weights},
        },
        "versions": {
            "cinesynth": cinesynth.__version__,
            **package_versions(("torch", "numpy")),
            "python": platform.python_version(),
        },
        # The number of threads may change the last bits of a result.
        "machine": {"device": device.type, "threads": torch.get_num_threads()},
    }


def _sampling(request: Request, config: Config) -> dict[str, dict[str, object]]:
    models = {name: getattr(config, name).diffusion for name in ("anatomy_diffusion", "motion_diffusion")}
    return {
        name: {
            "objective": model.objective,
            "steps": request.steps or model.sampling_steps,
            "guidance": model.guidance if request.guidance is None else request.guidance,
        }
        for name, model in models.items()
    }
