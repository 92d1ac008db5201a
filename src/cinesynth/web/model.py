"""The weights the app serves: loaded at first use, with the values users can request."""

from __future__ import annotations

import math
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from cinesynth.errors import CinesynthError
from cinesynth.physiology import EDV_RANGE_ML, SLICE_RANGE
from cinesynth.synthesis.request import FRAME_RANGE, FRAMES
from cinesynth.types import ClinicalPrior, Diagnosis, Precision
from cinesynth.web.schemas import without_paths

if TYPE_CHECKING:
    from cinesynth.synthesis.pipeline import CinePipeline
    from cinesynth.weights.prior import EmpiricalPrior, SubjectGroup


class Model:
    """One set of weights, shared by all threads."""

    def __init__(self, weights: Path | None, precision: Precision = "auto") -> None:
        from cinesynth.weights.registry import find_bundle  # imports torch

        self.folder = find_bundle(weights)
        self.precision = precision
        self.error = ""
        self._pipe: CinePipeline | None = None
        self._loading = threading.Lock()

    @property
    def state(self) -> Literal["absent", "loading", "ready", "failed"]:
        """Whether the weights are loaded."""
        if self._pipe is not None:
            return "ready"
        if self.error:
            return "failed"
        return "loading" if self._loading.locked() else "absent"

    def get(self) -> CinePipeline:
        """The pipeline. The first caller loads it while others wait."""
        with self._loading:
            if self._pipe is None:
                from cinesynth.synthesis.pipeline import CinePipeline  # imports torch, for which the page does not wait

                try:
                    self._pipe = CinePipeline.from_pretrained(self.folder, precision=self.precision)
                except CinesynthError as error:
                    self.error = without_paths(error.message)
                    raise
            return self._pipe

    def load_beside(self) -> None:
        """Start loading in a background thread."""
        if self.state == "absent":
            threading.Thread(target=self._load, name="load", daemon=True).start()

    def _load(self) -> None:
        with suppress(CinesynthError):  # reported by `state` and `error`
            self.get()

    def describe(self) -> dict[str, Any]:
        """Conditions, limits and typical values for the page, by diagnosis of the training subjects."""
        if self._pipe is None:
            return {"state": self.state, "error": self.error}
        pipe = self._pipe
        condition_set, prior = pipe.condition_set, pipe.prior
        return {
            "state": "ready",
            "error": "",
            "weights": self.folder.name,
            "licence": pipe.bundle.info.get("licence", ""),
            "citations": pipe.bundle.info.get("citations", []),
            "conditions": list(condition_set.names),
            "vendors": list(condition_set.vendors),
            "grid": list(pipe.grid.size),
            "limits": {
                "edv": list(EDV_RANGE_ML),
                "slices": [SLICE_RANGE[0], min(SLICE_RANGE[1], pipe.grid.size[2])],
                "frames": list(FRAME_RANGE),
            },
            "steps": pipe.bundle.anatomy_diffusion.config.sampling_steps,
            "guidance": pipe.bundle.anatomy_diffusion.config.guidance,
            "frames": FRAMES,
            "overall": seen(prior.overall),
            "diagnoses": {diagnosis.value: seen(group) for diagnosis, group in prior.groups.items()},
        }


def seen(group: SubjectGroup) -> dict[str, Any]:
    """Typical values and the range of EDV (mL), EF (%) and slices of training subjects."""

    def values(row: list[float]) -> dict[str, float]:
        edv, ef = round(math.exp(row[0]), 1), round(100.0 / (1.0 + math.exp(-row[1])), 1)
        return {"edv": edv, "ef": ef, "slices": round(row[2])}

    return {"count": group.count, "typical": values(group.mean), "low": values(group.low), "high": values(group.high)}


def unusual(prior: EmpiricalPrior, asked: ClinicalPrior, max_sd: float = 3.0) -> str:
    """A warning if ``asked`` is more than ``max_sd`` (Mahalanobis distance) from the training subjects, else ""."""
    unknown = asked.diagnosis is Diagnosis.UNKNOWN
    group = prior.overall if unknown else prior.groups.get(asked.diagnosis, prior.overall)
    edv_ml, ef, slices = asked.lv_edv_ml, asked.ef_percent, asked.slices
    known: dict[int, float] = {}
    if edv_ml is not None:
        known[0] = math.log(edv_ml)
    if ef is not None:
        known[1] = math.log(ef / (100.0 - ef))
    if slices is not None:
        known[2] = float(slices)
    if not known:
        return ""
    axes = list(known)
    away = np.array(list(known.values())) - np.array(group.mean)[axes]
    distance = math.sqrt(float(away @ np.linalg.solve(np.array(group.covariance)[np.ix_(axes, axes)], away)))
    if distance <= max_sd:
        return ""
    name = asked.diagnosis.value if asked.diagnosis in prior.groups else "all"
    return f"unusual: {distance:.1f} SD from the {group.count} training subjects ({name}); it may look unrealistic"
