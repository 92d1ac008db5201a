"""How a case came about: enough to make it again and to know what may be done with it."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

import cinesynth
from cinesynth.config import Config
from cinesynth.synthesis.request import Request

LICENCE_KEYS = ("licence", "licences", "license", "citation", "citations", "data")


def provenance(
    request: Request, slices: int, config: Config, weights: Mapping[str, Any], device: torch.device
) -> dict[str, object]:
    """The record of a case from ``weights`` (their index and its ``sha256``)."""
    return {
        "synthetic": True,
        "request": request.to_json(),
        "slices": slices,
        "slices_from": "request" if request.prior.slices is not None else "empirical prior",
        "es_index_from": "request" if request.es_index is not None else "empirical prior",
        "sampling": _sampling(request, config),
        **made_with(config, weights, device),
    }


def made_with(config: Config, weights: Mapping[str, Any], device: torch.device) -> dict[str, object]:
    """Weights and their terms, versions of the libraries, and the machine."""
    return {
        "weights": {
            "preset": config.preset,
            "sha256": weights["sha256"],
            **{key: weights[key] for key in LICENCE_KEYS if key in weights},
        },
        "versions": {
            "cinesynth": cinesynth.__version__,
            "torch": str(torch.__version__),
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
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
