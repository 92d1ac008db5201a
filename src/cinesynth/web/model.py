"""The weights the app serves: loaded at first use, with the values users can request."""

from __future__ import annotations

import math
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from cinesynth.errors import CinesynthError
from cinesynth.physiology import EDV_RANGE_ML, SLICE_RANGE
from cinesynth.synthesis.request import FRAME_RANGE, FRAMES
from cinesynth.types import ClinicalPrior, Diagnosis
from cinesynth.web.schemas import without_paths
from cinesynth.weights.registry import find_bundle

if TYPE_CHECKING:
    from cinesynth.synthesis.pipeline import CinePipeline
    from cinesynth.weights.prior import EmpiricalPrior, SubjectGroup

State = Literal["absent", "loading", "ready", "failed"]


class Model:
    """One set of weights, shared by all threads."""

    def __init__(self, weights: Path | None) -> None:
        self.folder = find_bundle(weights)
        self.error = ""
        self._pipe: CinePipeline | None = None
        self._loading = threading.Lock()

    @property
    def state(self) -> State:
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
                    self._pipe = CinePipeline.from_pretrained(self.folder)
                except CinesynthError as error:
                    self.error = without_paths(error.message)
                    raise
            return self._pipe

    def load_beside(self) -> None:
        """Start loading in a background thread."""
        if self.state == "absent":
            threading.Thread(target=self._try, name="load", daemon=True).start()

    def _try(self) -> None:
        try:
            self.get()
        except CinesynthError:
            return  # reported by `state` and `error`

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
        return {
            "edv": round(math.exp(row[0]), 1),
            "ef": round(100.0 / (1.0 + math.exp(-row[1])), 1),
            "slices": round(row[2]),
        }

    return {"count": group.count, "typical": values(group.mean), "low": values(group.low), "high": values(group.high)}


def unusual(prior: EmpiricalPrior, asked: ClinicalPrior, max_sd: float = 3.0) -> str:
    """A warning if ``asked`` is more than ``max_sd`` (Mahalanobis distance) from the training subjects, else ""."""
    group = (
        prior.groups.get(asked.diagnosis, prior.overall) if asked.diagnosis is not Diagnosis.UNKNOWN else prior.overall
    )
    ef = asked.ef_percent
    known = {
        0: None if asked.lv_edv_ml is None else math.log(asked.lv_edv_ml),
        1: None if ef is None else math.log(ef / (100.0 - ef)),
        2: None if asked.slices is None else float(asked.slices),
    }
    axes = [axis for axis, value in known.items() if value is not None]
    if not axes:
        return ""
    away = np.array([known[axis] for axis in axes]) - np.array(group.mean)[axes]
    distance = math.sqrt(float(away @ np.linalg.solve(np.array(group.covariance)[np.ix_(axes, axes)], away)))
    if distance <= max_sd:
        return ""
    name = asked.diagnosis.value if asked.diagnosis in prior.groups else "all"
    return f"unusual: {distance:.1f} SD from the {group.count} training subjects ({name}); it may look unrealistic"
