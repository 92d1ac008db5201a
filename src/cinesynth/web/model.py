"""The weights that the app works with, loaded when they are first needed, and what they can be asked."""

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
from cinesynth.weights.folder import find_bundle

if TYPE_CHECKING:
    from cinesynth.synthesis.pipeline import CinePipeline
    from cinesynth.weights.prior import EmpiricalPrior, SubjectGroup

FAR_SD = 3.0
"""Mahalanobis distance from the training subjects' centre beyond which a wish is called unusual."""
State = Literal["absent", "loading", "ready", "failed"]


class Model:
    """One set of weights; any thread may ask for it."""

    def __init__(self, weights: Path | None) -> None:
        self.folder = find_bundle(weights)
        self.error = ""
        self._pipe: CinePipeline | None = None
        self._loading = threading.Lock()

    @property
    def state(self) -> State:
        """Whether it is there."""
        if self._pipe is not None:
            return "ready"
        if self.error:
            return "failed"
        return "loading" if self._loading.locked() else "absent"

    def get(self) -> CinePipeline:
        """The pipeline, loaded by whoever asks first while others wait."""
        with self._loading:
            if self._pipe is None:
                from cinesynth.synthesis.pipeline import CinePipeline  # torch, for which the page does not wait

                try:
                    self._pipe = CinePipeline.from_pretrained(self.folder)
                except CinesynthError as error:
                    self.error = without_paths(error.message)
                    raise
            return self._pipe

    def load_beside(self) -> None:
        """Begin to load it in a thread of its own."""
        if self.state == "absent":
            threading.Thread(target=self._try, name="load", daemon=True).start()

    def _try(self) -> None:
        try:
            self.get()
        except CinesynthError:
            return  # said by `state` and `error`

    def describe(self) -> dict[str, Any]:
        """What can be asked, as the page needs it: ranges of the training subjects, one preset a diagnosis."""
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
            "steps": pipe.bundle.anatomy.config.sampling_steps,
            "guidance": pipe.bundle.anatomy.config.guidance,
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


def unusual(prior: EmpiricalPrior, wish: ClinicalPrior) -> str:
    """Why a wish is far from every training subject, in words; empty where it is not."""
    group = (
        prior.groups.get(wish.diagnosis, prior.overall) if wish.diagnosis is not Diagnosis.UNKNOWN else prior.overall
    )
    ef = wish.ef_percent
    known = {
        0: None if wish.lv_edv_ml is None else math.log(wish.lv_edv_ml),
        1: None if ef is None else math.log(ef / (100.0 - ef)),
        2: None if wish.slices is None else float(wish.slices),
    }
    axes = [axis for axis, value in known.items() if value is not None]
    if not axes:
        return ""
    away = np.array([known[axis] for axis in axes]) - np.array(group.mean)[axes]
    distance = math.sqrt(float(away @ np.linalg.solve(np.array(group.covariance)[np.ix_(axes, axes)], away)))
    if distance <= FAR_SD:
        return ""
    name = wish.diagnosis.value if wish.diagnosis in prior.groups else "all"
    return f"unusual: {distance:.1f} SD from the {group.count} training subjects ({name}); the heart may look wrong"
